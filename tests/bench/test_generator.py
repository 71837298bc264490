"""The benchmark's own generator and its bodies, against etcd."""

from collections.abc import Callable
from itertools import repeat

import pytest
from bench.h2load import LoadError

from bench import generator, messages
from kvorum.proto import rpc_pb2 as pb
from tests.support.client import Client
from tests.support.process import Member


def _message(body: bytes) -> bytes:
    assert body[:1] == b"\0"
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    return body[5:]


def test_bodies_are_the_messages_they_stand_for() -> None:
    bodies = list(messages.puts(7, 2))
    assert [pb.PutRequest.FromString(_message(body)).key for body in bodies] == [
        messages.key(7),
        messages.key(8),
    ]
    assert pb.PutRequest.FromString(_message(bodies[0])).value == messages.VALUE
    txns = [pb.TxnRequest.FromString(_message(body)) for body in messages.txns(messages.scattered(300))]
    assert [len(txn.success) for txn in txns] == [128, 128, 44]
    keys = [op.request_put.key for txn in txns for op in txn.success]
    assert sorted(keys) == [messages.key(number) for number in range(300)]
    assert keys != sorted(keys)
    assert all(op.request_put.value == messages.VALUE for txn in txns for op in txn.success)


def test_every_body_is_answered_once(etcd: Member, connect: Callable[[Member], Client]) -> None:
    client = connect(etcd)
    load = messages.puts(0, 2000)
    assert generator.run(etcd.endpoint, messages.PUT_PATH, load, connections=4, in_flight=64) > 0
    assert client.status().header.revision == 2001
    # Bodies of 38 KB: several DATA frames, and more of them than the connection's window holds.
    txns = messages.txns(messages.scattered(5000))
    generator.run(etcd.endpoint, messages.TXN_PATH, txns, connections=2, in_flight=8)
    assert client.range(b"bench/", b"bench0", count_only=True).count == 5000
    span = repeat(messages.span(0, 2000), 5)  # answers of many frames
    generator.run(etcd.endpoint, messages.RANGE_PATH, span, connections=1, in_flight=2)


def test_a_refusal_is_an_error(etcd: Member) -> None:
    refused = messages.framed(pb.PutRequest())
    with pytest.raises(LoadError, match="key is not provided"):
        generator.run(etcd.endpoint, messages.PUT_PATH, iter([refused]), connections=1, in_flight=1)
    with pytest.raises(LoadError):
        generator.run(etcd.endpoint, "/no.Such/Method", iter([refused]), connections=1, in_flight=1)
