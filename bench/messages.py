"""The requests of the benchmark, as gRPC message bodies (five bytes of frame header, then the message).

Keys are numbers of fixed width, so that bodies with distinct keys are made by joining bytes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from google.protobuf.message import Message

from kvorum.proto import rpc_pb2 as pb

VALUE: Final = bytes(range(256))
"""256 bytes that compress to nothing shorter."""
PREFIX: Final = b"bench/"
DIGITS: Final = 10
RANGE_PATH: Final = "/etcdserverpb.KV/Range"
PUT_PATH: Final = "/etcdserverpb.KV/Put"
TXN_PATH: Final = "/etcdserverpb.KV/Txn"
WATCH_PATH: Final = "/etcdserverpb.Watch/Watch"
GRANT_PATH: Final = "/etcdserverpb.Lease/LeaseGrant"
KEEPALIVE_PATH: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
KEYS_IN_TXN: Final = 128

_STRIDE: Final = 618_033_989  # a prime near the golden section of 10**9
_MARK: Final = PREFIX + b"#" * DIGITS


def key(number: int) -> bytes:
    """Return the key with this number."""
    return PREFIX + b"%0*d" % (DIGITS, number)


def framed(message: Message) -> bytes:
    """Return the gRPC body of one message."""
    raw = message.SerializeToString()
    return b"\0" + len(raw).to_bytes(4, "big") + raw


def put(number: int) -> bytes:
    """Return a put of one key."""
    return framed(pb.PutRequest(key=key(number), value=VALUE))


def puts(first: int, count: int) -> Iterator[bytes]:
    """Yield puts of ``count`` keys in order."""
    before, after = framed(pb.PutRequest(key=_MARK, value=VALUE)).split(_MARK)
    for number in range(first, first + count):
        yield before + key(number) + after


def txn(first: int) -> bytes:
    """Return a transaction that puts 128 keys."""
    return next(txns(range(first, first + KEYS_IN_TXN)))


def scattered(count: int) -> Sequence[int]:
    """Return the numbers below ``count`` in an order that jumps about, the same every time.

    Stores are not written in the order of their keys, and it matters: neighbours in an index that was filled
    in order are neighbours in memory too (etcd counts a million such keys six times faster).
    """
    assert math.gcd(count, _STRIDE) == 1
    return [number * _STRIDE % count for number in range(count)]


def txns(numbers: Sequence[int]) -> Iterator[bytes]:
    """Yield transactions that put these keys in this order, 128 in each (the last may be shorter)."""
    one = pb.TxnRequest(success=[pb.RequestOp(request_put=pb.PutRequest(key=_MARK, value=VALUE))])
    before, after = one.SerializeToString().split(_MARK)
    between = after + before
    for start in range(0, len(numbers), KEYS_IN_TXN):
        keys = [key(number) for number in numbers[start : start + KEYS_IN_TXN]]
        raw = before + between.join(keys) + after
        yield b"\0" + len(raw).to_bytes(4, "big") + raw


def get(number: int, *, serializable: bool = False) -> bytes:
    """Return a get of one key."""
    return framed(pb.RangeRequest(key=key(number), serializable=serializable))


def span(first: int, end: int) -> bytes:
    """Return a range over the keys ``first`` to ``end`` (exclusive)."""
    return framed(pb.RangeRequest(key=key(first), range_end=key(end)))


def page(limit: int) -> bytes:
    """Return the first page of all keys."""
    return framed(pb.RangeRequest(key=PREFIX, range_end=after(PREFIX), limit=limit))


def count() -> bytes:
    """Return the count of all keys."""
    return framed(pb.RangeRequest(key=PREFIX, range_end=after(PREFIX), count_only=True))


def watch(first: bytes, end: bytes = b"") -> bytes:
    """Return the creation of a watch of a key, or of a range."""
    return framed(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=first, range_end=end)))


def watch_prefix(prefix: bytes) -> bytes:
    """Return the creation of a watch of all keys with a prefix."""
    return watch(prefix, after(prefix))


def grant(lease: int, ttl_seconds: int) -> bytes:
    """Return a grant of a lease with this id."""
    return framed(pb.LeaseGrantRequest(ID=lease, TTL=ttl_seconds))


def leased_put(key_bytes: bytes, lease: int) -> bytes:
    """Return a put of a key that ends with the lease."""
    return framed(pb.PutRequest(key=key_bytes, value=VALUE, lease=lease))


def keepalive(lease: int) -> bytes:
    """Return a renewal of a lease."""
    return framed(pb.LeaseKeepAliveRequest(ID=lease))


def after(prefix: bytes) -> bytes:
    """Return the end of the range of all keys with a prefix."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
