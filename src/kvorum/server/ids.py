"""Identifiers: of members and clusters (hashes, so that every member computes the same), and of requests.

Source: etcd ``membership/member.go`` and ``membership/cluster.go`` (SHA-1, first eight bytes, big-endian),
``pkg/idutil`` (request identifiers).
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, final

from kvorum.proto.wire import varint

_SUFFIX_BITS: Final = 48
_SUFFIX_MASK: Final = (1 << _SUFFIX_BITS) - 1
_LOW_14_BITS: Final = tuple(bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14))


def _first_eight(data: bytes) -> int:
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "big")


def member_id(peer_urls: Sequence[str], cluster_token: str, added_at_unix_seconds: int | None = None) -> int:
    """The ID of a member: of its peer URLs and the cluster's token.

    A member added at run time mixes in the time, so that a removed member's ID is never used again.
    """
    text = "".join(sorted(peer_urls)) + cluster_token
    if added_at_unix_seconds is not None:
        text += str(added_at_unix_seconds)
    return _first_eight(text.encode())


def cluster_id(member_ids: Iterable[int]) -> int:
    """The ID of a cluster: of the members it was bootstrapped with."""
    return _first_eight(b"".join(m.to_bytes(8, "big") for m in sorted(member_ids)))


@final
class RequestIdGenerator:
    """Numbers that no other member and no earlier run of this member gives out.

    Layout, high to low: 16 bits of the member ID, 40 bits of start time in milliseconds, 8 bits of counter;
    the counter may run into the time, which moves on faster than requests could be counted.

    Invariant: ``_high`` is the varint of the current number without its lowest 14 bits.
    """

    __slots__ = ("_high", "_number", "_prefix")

    def __init__(self, member: int, now_unix_seconds: float) -> None:
        self._prefix = (member & 0xFFFF) << _SUFFIX_BITS
        milliseconds = int(now_unix_seconds * 1000) & ((1 << 40) - 1)
        self._number = self._prefix | milliseconds << 8
        self._high = varint(self._number >> 14)

    def next(self) -> int:
        """The next identifier, an unsigned 64-bit number."""
        self._number = self._prefix | (self._number + 1) & _SUFFIX_MASK
        if not self._number & 0x3FFF:
            self._high = varint(self._number >> 14)
        return self._number

    def next_varint(self) -> bytes:
        """The next identifier as the varint that entries carry; its two lowest bytes come from a table."""
        return _LOW_14_BITS[self.next() & 0x3FFF] + self._high
