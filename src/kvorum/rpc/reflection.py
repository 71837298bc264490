"""Server reflection, ``grpc.reflection.v1`` and ``v1alpha``: what ``grpcurl`` and its like ask a server for.

Answers come from Kvorum's own descriptor pool and show what the registered services need: their files, the
files those import, and every symbol in them. A file is sent once per stream, with what it imports before it
is missed. The two versions of the protocol are the same on the wire, so one handler serves both. Source of
behaviour: grpc-go ``reflection/internal/internal.go`` (etcd's own server has no reflection).
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, final

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from kvorum.errors import INVALID_ARGUMENT, NOT_FOUND, EtcdError
from kvorum.proto import grpc_health_v1_pb2 as _health
from kvorum.proto import grpc_reflection_v1_pb2 as pb
from kvorum.proto import grpc_reflection_v1alpha_pb2 as _alpha
from kvorum.proto import pool
from kvorum.rpc.grpc import GrpcServer, StreamCall, unreadable_message

_MISSING: Final = "proto: not found"
_SERVED_FILES: Final = (_health.DESCRIPTOR, pb.DESCRIPTOR, _alpha.DESCRIPTOR)
"""Loaded for their effect on the pool: the services of this room are reflected as well."""


@final
class _Files:
    """The files that a set of services needs, and where each symbol of theirs stands."""

    def __init__(self, services: list[str]) -> None:
        self.by_name: Final[dict[str, FileDescriptorProto]] = {}
        self.by_symbol: Final[dict[str, str]] = {}
        for service in services:
            try:
                found = pool.Default().FindServiceByName(service).file
            except KeyError:
                continue  # a service without descriptors is listed, and that is all there is to tell
            self._add(found.name)

    def _add(self, name: str) -> None:
        if name in self.by_name:
            return
        file = FileDescriptorProto()
        file.ParseFromString(pool.Default().FindFileByName(name).serialized_pb)
        self.by_name[name] = file
        for symbol in _symbols(file):
            self.by_symbol[symbol] = name
        for imported in file.dependency:
            self._add(imported)

    def with_imports(self, name: str, sent: set[str]) -> list[bytes]:
        """Return a file and what it imports, without what was sent; the file itself always comes."""
        out: list[bytes] = []
        waiting = deque([name])
        seen = set()
        while waiting:
            current = waiting.popleft()
            if current in seen:
                continue
            seen.add(current)
            file = self.by_name[current]
            if not out or current not in sent:
                sent.add(current)
                out.append(file.SerializeToString())
            waiting.extend(file.dependency)
        return out


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    """Full names of everything a file declares."""
    prefix = file.package + "." if file.package else ""
    for message in file.message_type:
        yield from _symbols_of_message(message, prefix)
    for enum in file.enum_type:
        yield prefix + enum.name
        yield from (prefix + value.name for value in enum.value)
    for extension in file.extension:
        yield prefix + extension.name
    for service in file.service:
        yield prefix + service.name
        yield from (f"{prefix}{service.name}.{method.name}" for method in service.method)


def _symbols_of_message(message: DescriptorProto, prefix: str) -> Iterator[str]:
    name = prefix + message.name
    yield name
    inside = name + "."
    yield from (inside + field.name for field in (*message.field, *message.extension))
    yield from (inside + oneof.name for oneof in message.oneof_decl)
    for enum in message.enum_type:
        yield inside + enum.name
        yield from (inside + value.name for value in enum.value)
    for nested in message.nested_type:
        yield from _symbols_of_message(nested, inside)


@final
class ReflectionService:
    """Answers questions about the services of one server."""

    def __init__(self, server: GrpcServer) -> None:
        self._server: Final = server
        self._cache: tuple[list[str], _Files] | None = None

    def install(self) -> None:
        """Register both versions of the service."""
        assert _SERVED_FILES
        for version in ("v1", "v1alpha"):
            path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
            self._server.stream(path, self._info, "bidi_stream")

    def _files(self) -> _Files:
        services = self._server.services
        if self._cache is None or self._cache[0] != services:
            self._cache = (services, _Files(services))
        return self._cache[1]

    async def _info(self, call: StreamCall) -> None:
        sent: set[str] = set()
        while (body := await call.read()) is not None:
            try:
                question = pb.ServerReflectionRequest.FromString(body)
            except DecodeError:
                flaw = unreadable_message()
                raise EtcdError(flaw.code, flaw.message) from None
            await call.write(self.answer(question, sent).SerializeToString())

    def answer(self, question: pb.ServerReflectionRequest, sent: set[str]) -> pb.ServerReflectionResponse:
        """Answer one question.

        Args:
            question: what is asked.
            sent: names of the files that this stream has been sent; extended.

        Raises:
            EtcdError: INVALID_ARGUMENT for a question that asks nothing.
        """
        out = pb.ServerReflectionResponse(valid_host=question.host, original_request=question)
        kind = question.WhichOneof("message_request")
        files = self._files()
        name: str | None = None
        if kind == "list_services":
            out.list_services_response.SetInParent()
            for service in self._server.services:
                out.list_services_response.service.add(name=service)
            return out
        if (
            kind == "all_extension_numbers_of_type"
            and question.all_extension_numbers_of_type in files.by_symbol
        ):
            # No message of ours has extensions (proto3).
            out.all_extension_numbers_response.base_type_name = question.all_extension_numbers_of_type
            return out
        if kind == "file_by_filename" and question.file_by_filename in files.by_name:
            name = question.file_by_filename
        elif kind == "file_containing_symbol":
            name = files.by_symbol.get(question.file_containing_symbol)
        elif kind is None:
            raise EtcdError(INVALID_ARGUMENT, "invalid MessageRequest: <nil>")
        if name is None:
            out.error_response.error_code = NOT_FOUND
            out.error_response.error_message = _MISSING
        else:
            out.file_descriptor_response.file_descriptor_proto.extend(files.with_imports(name, sent))
        return out
