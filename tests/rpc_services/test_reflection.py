"""Server reflection as grpcurl uses it: services, files and symbols enough to rebuild every message."""

from collections.abc import Iterable, Iterator

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from kvorum.proto import grpc_reflection_v1_pb2 as v1
from kvorum.proto import grpc_reflection_v1alpha_pb2 as v1alpha
from kvorum.proto import rpc_pb2
from kvorum.rpc.grpc import GrpcServer, UnaryCall
from kvorum.rpc.health import HealthService
from kvorum.rpc.reflection import ReflectionService
from tests.http.serving import Serving, serving

KV = "etcdserverpb.KV"
RPC_FILE = "kvorum/proto/rpc.proto"
SERVICES = [
    KV,
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "not.in.the.Pool",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    grpc_server = GrpcServer()

    def put(call: UnaryCall, body: bytes) -> None:
        call.reply(b"")

    grpc_server.unary(f"/{KV}/Put", put)
    grpc_server.unary("/not.in.the.Pool/Put", put)
    HealthService().install(grpc_server)
    ReflectionService(grpc_server).install()
    with serving(grpc=grpc_server) as running:
        yield running


@pytest.fixture(params=[v1, v1alpha], ids=["v1", "v1alpha"])
def pb(request: pytest.FixtureRequest) -> object:
    return request.param


def ask(
    server: Serving, pb: object, questions: Iterable[dict[str, object]]
) -> list[v1.ServerReflectionResponse]:
    """Ask on one stream; the answers in order."""
    version = pb.__name__.removesuffix("_pb2").rpartition("_")[2]  # type: ignore[attr-defined]
    path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    request, response = pb.ServerReflectionRequest, pb.ServerReflectionResponse  # type: ignore[attr-defined]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.stream_stream(path, request.SerializeToString, response.FromString)
        return list(call((request(**one) for one in questions), timeout=20, wait_for_ready=True))


def files_of(answer: v1.ServerReflectionResponse) -> dict[str, FileDescriptorProto]:
    parsed = [
        FileDescriptorProto.FromString(one) for one in answer.file_descriptor_response.file_descriptor_proto
    ]
    return {file.name: file for file in parsed}


def test_services_are_listed(server: Serving, pb: object) -> None:
    (answer,) = ask(server, pb, [{"host": "h", "list_services": "*"}])
    assert [service.name for service in answer.list_services_response.service] == SERVICES
    assert answer.valid_host == "h"
    assert answer.original_request.list_services == "*"


def test_messages_can_be_rebuilt_from_the_files(server: Serving, pb: object) -> None:
    (answer,) = ask(server, pb, [{"file_containing_symbol": KV}])
    files = files_of(answer)
    assert next(iter(files)) == RPC_FILE
    pool = DescriptorPool()

    def add(name: str) -> None:
        file = files.pop(name, None)
        if file is not None:
            for imported in file.dependency:
                add(imported)
            pool.Add(file)

    add(RPC_FILE)
    assert not files
    rebuilt = GetMessageClass(pool.FindMessageTypeByName("etcdserverpb.PutRequest"))
    message = rebuilt(key=b"k", value=b"v", prev_kv=True)
    assert rpc_pb2.PutRequest.FromString(message.SerializeToString()) == rpc_pb2.PutRequest(
        key=b"k", value=b"v", prev_kv=True
    )
    method = pool.FindServiceByName(KV).methods_by_name["Txn"]
    assert method.input_type.full_name == "etcdserverpb.TxnRequest"


def test_a_file_comes_once_a_stream_with_what_it_imports(server: Serving, pb: object) -> None:
    first, again, dependency = ask(
        server,
        pb,
        [
            {"file_by_filename": RPC_FILE},
            {"file_by_filename": RPC_FILE},
            {"file_containing_symbol": "mvccpb.KeyValue"},
        ],
    )
    assert set(files_of(first)) == {RPC_FILE, "kvorum/proto/kv.proto", "kvorum/proto/auth.proto"}
    assert set(files_of(again)) == {RPC_FILE}
    assert set(files_of(dependency)) == {"kvorum/proto/kv.proto"}


@pytest.mark.parametrize(
    "symbol",
    [
        "etcdserverpb.KV",
        "etcdserverpb.KV.Range",
        "etcdserverpb.RangeRequest",
        "etcdserverpb.RangeRequest.key",
        "etcdserverpb.RangeRequest.SortOrder",
        "etcdserverpb.RangeRequest.ASCEND",
        "etcdserverpb.RequestOp.request",
        "etcdserverpb.AlarmType",
        "etcdserverpb.NOSPACE",
    ],
)
def test_every_kind_of_symbol_is_found(server: Serving, symbol: str) -> None:
    (answer,) = ask(server, v1, [{"file_containing_symbol": symbol}])
    assert next(iter(files_of(answer))) == RPC_FILE


@pytest.mark.parametrize(
    "question",
    [
        {"file_by_filename": "nope.proto"},
        {"file_containing_symbol": "etcdserverpb.Nope"},
        {"file_containing_symbol": "not.in.the.Pool"},
        {"file_containing_symbol": ""},
        {"file_containing_extension": {"containing_type": "etcdserverpb.PutRequest", "extension_number": 9}},
        {"all_extension_numbers_of_type": "nope.Nope"},
    ],
)
def test_what_is_not_there_is_not_found_and_the_stream_goes_on(
    server: Serving, pb: object, question: dict[str, object]
) -> None:
    missing, listed = ask(server, pb, [question, {"list_services": ""}])
    assert (missing.error_response.error_code, missing.error_response.error_message) == (
        5,
        "proto: not found",
    )
    assert listed.WhichOneof("message_response") == "list_services_response"


def test_no_message_has_extensions(server: Serving, pb: object) -> None:
    (answer,) = ask(server, pb, [{"all_extension_numbers_of_type": "etcdserverpb.PutRequest"}])
    assert answer.WhichOneof("message_response") == "all_extension_numbers_response"
    assert answer.all_extension_numbers_response.base_type_name == "etcdserverpb.PutRequest"
    assert not answer.all_extension_numbers_response.extension_number


def test_a_question_that_asks_nothing_ends_the_stream(server: Serving, pb: object) -> None:
    with pytest.raises(grpc.RpcError) as error:
        ask(server, pb, [{"host": "h"}])
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
