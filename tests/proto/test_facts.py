"""Descriptors of ``kvorum.proto`` against ``facts/wire.json``, completely and in both directions.

Each file's descriptor is written in the form of the facts and compared whole: a message, field, number, type,
oneof, enum value, service or streaming flag that is on one side only makes the two unequal.
"""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from kvorum.proto import pool

ROOT: Final = Path(__file__).parents[2]
FACTS: Final[dict[str, Any]] = json.loads((ROOT / "facts" / "wire.json").read_text())
FILES: Final = sorted(
    path.name
    for path in (ROOT / "src" / "kvorum" / "proto").glob("*.proto")
    if not path.name.startswith("grpc_")  # health and reflection: gRPC's own, not etcd's
)


def _descriptor(file_name: str) -> FileDescriptorProto:
    module = importlib.import_module(f"kvorum.proto.{file_name.removesuffix('.proto')}_pb2")
    return FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


def _type(field: FieldDescriptorProto) -> str:
    name = field.type_name.lstrip(".") or FieldDescriptorProto.Type.Name(field.type)
    name = name.removeprefix("TYPE_").lower() if not field.type_name else name
    return f"repeated {name}" if field.label == FieldDescriptorProto.LABEL_REPEATED else name


def _field(message: DescriptorProto, field: FieldDescriptorProto) -> list[Any]:
    # Neither a default value, nor packing, nor presence beyond the syntax's own is in the wire that we copy.
    assert field.label != FieldDescriptorProto.LABEL_REQUIRED
    assert not field.proto3_optional
    assert not field.HasField("default_value")
    assert not field.HasField("options")
    fact = [field.number, field.name, _type(field)]
    if field.HasField("oneof_index"):
        fact.append(f"oneof {message.oneof_decl[field.oneof_index].name}")
    return fact


def _messages(messages: list[DescriptorProto], outer: str = "") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for message in messages:
        found[outer + message.name] = sorted(_field(message, field) for field in message.field)
        found |= _messages(list(message.nested_type), f"{outer}{message.name}.")
    return found


def _enums(
    enums: list[EnumDescriptorProto], messages: list[DescriptorProto], outer: str = ""
) -> dict[str, Any]:
    found = {outer + enum.name: {value.name: value.number for value in enum.value} for enum in enums}
    for message in messages:
        found |= _enums(list(message.enum_type), list(message.nested_type), f"{outer}{message.name}.")
    return found


def _method(method: MethodDescriptorProto) -> dict[str, str]:
    return {
        "rpc": method.name,
        "request": "stream " * method.client_streaming + method.input_type.lstrip("."),
        "response": "stream " * method.server_streaming + method.output_type.lstrip("."),
    }


def _as_facts(file: FileDescriptorProto) -> dict[str, Any]:
    return {
        "package": file.package,
        "syntax": file.syntax or "proto2",
        "enums": _enums(list(file.enum_type), list(file.message_type)),
        "messages": _messages(list(file.message_type)),
        "services": {
            f"{file.package}.{service.name}": [_method(method) for method in service.method]
            for service in file.service
        },
    }


def _facts(file_name: str) -> dict[str, Any]:
    """Return the facts about a file without the gateway's routes and imports, which descriptors lack."""
    fact = FACTS[file_name]
    services = fact.get("services", {})
    return {
        "package": fact["package"],
        "syntax": fact["syntax"],
        "enums": fact.get("enums", {}),
        "messages": {name: sorted(fields) for name, fields in fact["messages"].items()},
        "services": {
            name: [{part: rpc[part] for part in ("rpc", "request", "response")} for rpc in rpcs]
            for name, rpcs in services.items()
        },
    }


def test_every_file_is_there_and_none_else() -> None:
    assert sorted(FACTS) == FILES


@pytest.mark.parametrize("file_name", sorted(FACTS))
def test_descriptors_are_the_facts(file_name: str) -> None:
    assert _as_facts(_descriptor(file_name)) == _facts(file_name)


@pytest.mark.parametrize("file_name", sorted(FACTS))
def test_imports_of_the_facts_are_imported(file_name: str) -> None:
    wanted = {f"kvorum/proto/{name}" for name in FACTS[file_name].get("imports", [])}
    assert wanted <= set(_descriptor(file_name).dependency)


def test_messages_live_in_a_pool_of_their_own() -> None:
    """An etcd client library in the same process registers these names in the default pool."""
    _descriptor("rpc.proto")
    assert pool.Default().FindMessageTypeByName("etcdserverpb.PutRequest").full_name
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("etcdserverpb.PutRequest")


def _renumber(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].number = 77


def _rename(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].name = "other"


def _drop_enum_value(file: FileDescriptorProto) -> None:
    file.enum_type[0].value.pop()


def _make_streaming(file: FileDescriptorProto) -> None:
    file.service[0].method[0].server_streaming = True


@pytest.mark.parametrize("tamper", [_renumber, _rename, _drop_enum_value, _make_streaming])
def test_the_comparison_sees_a_difference(tamper: Callable[[FileDescriptorProto], None]) -> None:
    file = _descriptor("rpc.proto")
    tamper(file)
    assert _as_facts(file) != _facts("rpc.proto")
