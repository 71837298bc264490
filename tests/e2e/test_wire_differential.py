"""What a client sees below the meaning of a request: refusals, limits, bodies that are none, odd metadata.

Both servers get the same bytes from a raw HTTP/2 client, and the same calls from grpcio. The transport of
etcd 3.5.1 is an old grpc-go; where a later release changed an answer Kvorum gives the later one, and
``tests/rpc`` holds those texts. Here stands what both agree on.
"""

import gzip
from collections.abc import Callable, Sequence
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from kvorum import errors
from kvorum.proto import grpc_health_v1_pb2 as health
from kvorum.proto import grpc_reflection_v1_pb2 as reflection
from kvorum.proto import rpc_pb2 as pb
from tests.conftest import StartMember
from tests.differential.runner import without_ids
from tests.e2e.conftest import Both
from tests.rpc.grpc_kit import RawClient, prefixed
from tests.support import process
from tests.support.client import Client, op_put, op_range, refused_with
from tests.support.process import Member

Fields = dict[str, str | None]
Answer = dict[str, str]

PUT = "/etcdserverpb.KV/Put"
METHODS = (
    "KV/Range",
    "KV/Put",
    "KV/DeleteRange",
    "KV/Txn",
    "KV/Compact",
    "Maintenance/Alarm",
    "Maintenance/Status",
    "Maintenance/Hash",
    "Maintenance/HashKV",
    "Cluster/MemberList",
)
PUT_BODY = pb.PutRequest(key=b"k", value=b"v").SerializeToString()
# gzip with mtime=0: the time would make the tests' names differ


def answers(both: Both, path: str, body: bytes, fields: Fields) -> tuple[Answer, Answer]:
    """Headers and trailers of the answer of each; an empty grpc-message is none."""
    told = []
    for member in both:
        with RawClient(member.client_port) as client:
            headers = client.finish(client.request(path, body, fields))
        if not headers.get("grpc-message"):
            headers.pop("grpc-message", None)
        headers.pop("grpc-encoding", None)  # whether an answer is compressed is the server's affair
        headers.pop("grpc-accept-encoding", None)
        told.append(headers)
    return told[0], told[1]


# Each is no message to any of the methods: cut off, group ends, field 0, an endless varint. (To the parser
# that Kvorum uses field 0 is merely unknown where a message has no fields at all; nothing hangs on it.)
NO_MESSAGES = (b"\xff", b"\x0a\x05ab", b"\x0f", b"\x08", b"\x00\x00", b"\x0b", b"\x80" * 11)


@pytest.mark.parametrize("method", METHODS)
def test_bodies_that_are_no_message(both: Both, method: str) -> None:
    fieldless = method in ("Maintenance/Status", "Maintenance/Hash")
    for body in NO_MESSAGES:
        if fieldless and body == b"\x00\x00":
            continue
        for answer in answers(both, f"/etcdserverpb.{method}", prefixed(body), {}):
            assert answer["grpc-status"] == "13", body
            assert answer["grpc-message"].startswith("grpc: error unmarshalling request: "), body


@pytest.mark.parametrize("method", METHODS)
def test_empty_messages_and_unknown_fields(both: Both, method: str) -> None:
    for body in (b"", b"\xf8\x7f\x01"):
        theirs, ours = answers(both, f"/etcdserverpb.{method}", prefixed(body), {})
        assert ours == theirs


@pytest.mark.parametrize(
    "path", ["/etcdserverpb.KV/Nope", "/etcdserverpb.KV/put", "/no.Service/X", "/a/b/c", "/etcdserverpb.KV/"]
)
def test_unknown_methods(both: Both, path: str) -> None:
    theirs, ours = answers(both, path, prefixed(PUT_BODY), {})
    assert ours == theirs
    assert ours["grpc-status"] == "12"


@pytest.mark.parametrize(
    ("body", "fields", "status"),
    [
        (prefixed(PUT_BODY), {"te": None}, "0"),
        (prefixed(PUT_BODY), {"user-agent": "anything"}, "0"),
        (prefixed(PUT_BODY), {"hasleader": "true"}, "0"),
        (prefixed(PUT_BODY), {"hasleader": "nonsense"}, "0"),
        (prefixed(PUT_BODY), {"client-api-version": "3.5.1"}, "0"),
        (prefixed(PUT_BODY), {"grpc-timeout": "10S"}, "0"),
        (prefixed(PUT_BODY), {"grpc-encoding": "identity"}, "0"),
        (prefixed(PUT_BODY), {"grpc-encoding": "gzip"}, "0"),
        (prefixed(gzip.compress(PUT_BODY, mtime=0), 1), {"grpc-encoding": "gzip"}, "0"),
        (prefixed(PUT_BODY), {"grpc-encoding": "snappy"}, "12"),
        (prefixed(PUT_BODY, 1), {}, "13"),
        (prefixed(PUT_BODY, 1), {"grpc-encoding": "identity"}, "13"),
        (prefixed(PUT_BODY, 2), {}, "13"),
        (b"\0\xff\xff\xff\xff", {}, "8"),
        (b"\0\x00\x20\x00\x01", {}, "8"),
    ],
)
def test_requests(both: Both, body: bytes, fields: Fields, status: str) -> None:
    theirs, ours = answers(both, PUT, body, fields)
    assert ours == theirs
    assert ours["grpc-status"] == status


@pytest.mark.parametrize("body", [prefixed(PUT_BODY, 1), prefixed(gzip.compress(PUT_BODY, mtime=0)[:-1], 1)])
def test_bodies_that_do_not_decompress(both: Both, body: bytes) -> None:
    for answer in answers(both, PUT, body, {"grpc-encoding": "gzip"}):
        assert answer["grpc-status"] == "13"
        assert answer["grpc-message"].startswith("grpc: failed to decompress the received message")


# --- with grpcio ------------------------------------------------------------------------------------------


def outcome(client: Client, method: str, request: Message, response: type[Message]) -> Any:
    """The answer without IDs, or code and text of the refusal."""
    try:
        answer = client.call(method, request, response)
    except grpc.RpcError as refusal:
        call = cast("grpc.Call", refusal)
        return call.code(), call.details()
    without_ids(answer)
    return answer


Connect = Callable[[Member], Client]


@pytest.fixture
def clients(both: Both, connect: Connect) -> list[Client]:
    return [connect(member) for member in both]


def same(clients: Sequence[Client], method: str, request: Message, response: type[Message]) -> Any:
    theirs, ours = (outcome(client, method, request, response) for client in clients)
    assert ours == theirs
    return ours


def test_keys_and_values_of_any_bytes(clients: list[Client]) -> None:
    keys = [b"b/" + bytes([byte]) for byte in range(256)]
    keys += [bytes([byte]) * 2 for byte in range(256)] + [bytes(range(256)), b"b/" + b"\0" * 1000]
    for start in range(0, len(keys), 100):
        ops = [op_put(key, key[::-1] if key[-1] % 2 else b"") for key in keys[start : start + 100]]
        done = same(clients, "etcdserverpb.KV/Txn", pb.TxnRequest(success=ops), pb.TxnResponse)
        assert done.succeeded
    everything = pb.RangeRequest(key=b"\0", range_end=b"\0")
    assert len(same(clients, "etcdserverpb.KV/Range", everything, pb.RangeResponse).kvs) >= len(keys)
    for key in keys[::7]:
        found = same(clients, "etcdserverpb.KV/Range", pb.RangeRequest(key=key), pb.RangeResponse)
        assert found.count == 1
    prefix = pb.DeleteRangeRequest(key=b"b/\xff", range_end=b"b0", prev_kv=True)
    assert same(clients, "etcdserverpb.KV/DeleteRange", prefix, pb.DeleteRangeResponse).deleted == 1


def test_large_values_and_larger_answers(clients: list[Client]) -> None:
    for number in range(4):
        put = pb.PutRequest(key=b"large/%d" % number, value=bytes([number]) * (1 << 20), prev_kv=True)
        assert not isinstance(same(clients, "etcdserverpb.KV/Put", put, pb.PutResponse), tuple)
    request = pb.RangeRequest(key=b"large/", range_end=b"large0")
    answer = same(clients, "etcdserverpb.KV/Range", request, pb.RangeResponse)
    assert answer.ByteSize() > 4 << 20
    removed = same(
        clients,
        "etcdserverpb.KV/DeleteRange",
        pb.DeleteRangeRequest(key=b"large/", range_end=b"large0", prev_kv=True),
        pb.DeleteRangeResponse,
    )
    assert len(removed.prev_kvs) == 4


LIMIT = 1_572_864
GRPC_LIMIT = LIMIT + 512 * 1024


@pytest.mark.parametrize(
    ("size", "code", "text"),
    [
        (LIMIT - 100, None, ""),
        (LIMIT, StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large"),
        (GRPC_LIMIT - 100, StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large"),
        (GRPC_LIMIT, StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max"),
        (3 * LIMIT, StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max"),
    ],
)
def test_requests_that_are_too_large(
    clients: list[Client], size: int, code: StatusCode | None, text: str
) -> None:
    request = pb.PutRequest(key=b"size", value=bytes(size))
    told = same(clients, "etcdserverpb.KV/Put", request, pb.PutResponse)
    if code is None:
        assert not isinstance(told, tuple)
    else:
        assert told[0] is code
        assert told[1].startswith(text)


def nested(depth: int) -> pb.TxnRequest:
    request = pb.TxnRequest(success=[op_put(b"deep", b"x")])
    for _ in range(depth):
        request = pb.TxnRequest(success=[pb.RequestOp(request_txn=request)])
    return request


def test_limits_that_flags_set(start_member: StartMember, connect: Connect) -> None:
    flags = ("--max-txn-ops=3", "--max-request-bytes=5000")
    clients = [connect(start_member(program, flags=flags)) for program in (process.etcd(), process.kvorum())]
    puts = [op_put(b"%d" % number, b"x") for number in range(4)]
    compare = pb.Compare(key=b"a", version=0, target=pb.Compare.VERSION)
    requests = (
        pb.TxnRequest(success=puts[:3]),
        pb.TxnRequest(success=puts),
        pb.TxnRequest(failure=puts),
        pb.TxnRequest(compare=[compare] * 3, success=puts[:3], failure=puts[:3]),
        pb.TxnRequest(compare=[compare] * 4),
        nested(2),
        nested(3),
        pb.TxnRequest(success=[op_put(b"large", bytes(6000))]),
        pb.TxnRequest(success=[op_range(b"\0", b"\0")]),
    )
    told = [same(clients, "etcdserverpb.KV/Txn", request, pb.TxnResponse) for request in requests]
    refusals = [answer[1] for answer in told if isinstance(answer, tuple)]
    assert refusals.count(errors.ERR_TOO_MANY_OPS.message) == 4
    assert refusals.count(errors.ERR_REQUEST_TOO_LARGE.message) == 1
    too_large = pb.PutRequest(key=b"k", value=bytes(600_000))
    assert same(clients, "etcdserverpb.KV/Put", too_large, pb.PutResponse)[0] is StatusCode.RESOURCE_EXHAUSTED


# --- only Kvorum ------------------------------------------------------------------------------------------


def test_range_stream(clients: list[Client]) -> None:
    """etcd has it since 3.7; the facts here are those of ``v3_server.go`` there."""
    client = clients[1]
    count = 100
    for number in range(count):
        revision = client.put(b"stream/%03d" % number, b"v" * 100).header.revision
    chunks = [chunk.range_response for chunk in client.range_stream(b"stream/", b"stream0")]
    *earlier, last = chunks
    assert len(chunks) > 1
    assert len(chunks[0].kvs) == 10
    assert not any(chunk.HasField("header") or chunk.count or chunk.more for chunk in earlier)
    assert (last.header.revision, last.count, last.more) == (revision, count, False)
    assert last.header.member_id == client.range(b"x").header.member_id
    kvs = [kv for chunk in chunks for kv in chunk.kvs]
    assert kvs == list(client.range(b"stream/", b"stream0").kvs)

    limited = [chunk.range_response for chunk in client.range_stream(b"stream/", b"stream0", limit=25)]
    assert [len(chunk.kvs) for chunk in limited] == [10, 15]
    assert (limited[-1].count, limited[-1].more) == (count, True)
    (counted,) = client.range_stream(b"stream/", b"stream0", count_only=True)
    assert (counted.range_response.count, len(counted.range_response.kvs)) == (count, 0)
    assert counted.range_response.header.revision == revision
    (nothing,) = client.range_stream(b"absent", serializable=True)
    assert (nothing.range_response.count, nothing.range_response.header.revision) == (0, revision)
    old = [chunk.range_response for chunk in client.range_stream(b"stream/", b"\0", revision=revision - 50)]
    assert sum(len(chunk.kvs) for chunk in old if chunk.kvs) >= count - 50
    assert old[-1].header.revision == revision

    for fields, error in (
        ({"revision": revision + 1}, errors.ERR_FUTURE_REV),
        (
            {"sort_order": pb.RangeRequest.DESCEND},
            errors.EtcdError(errors.UNIMPLEMENTED, "RangeStream does not support custom sort orders"),
        ),
        (
            {"min_mod_revision": 1},
            errors.EtcdError(errors.UNIMPLEMENTED, "RangeStream does not support revision filters"),
        ),
    ):
        with refused_with(error):
            client.range_stream(b"stream/", b"stream0", **fields)
    with refused_with(errors.ERR_EMPTY_KEY):
        client.range_stream(b"")


def test_health_service(both: Both, connect: Connect) -> None:
    request = health.HealthCheckRequest()
    for member in both:
        answer = connect(member).call("grpc.health.v1.Health/Check", request, health.HealthCheckResponse)
        assert answer.status == health.HealthCheckResponse.SERVING


def test_reflection(clients: list[Client]) -> None:
    stub = clients[1].channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection.ServerReflectionResponse.FromString,
    )
    questions = [
        reflection.ServerReflectionRequest(list_services=""),
        reflection.ServerReflectionRequest(file_containing_symbol="etcdserverpb.KV"),
    ]
    listed, file = stub(iter(questions), timeout=20)
    assert {"etcdserverpb.KV", "grpc.health.v1.Health"} <= {
        service.name for service in listed.list_services_response.service
    }
    assert file.file_descriptor_response.file_descriptor_proto
