"""The KV service of the v3 proxy: ranges from the cache where they may be old, everything else from a member.

A range that is not serializable is asked for and kept for those that are. A write spoils what it touches when
it begins and again when it has ended. With ``--experimental-serializable-ordering`` a read that a member
answers with an older revision than one before is asked for again, linearizably. Source of behaviour: etcd
``server/proxy/grpcproxy/kv.go``, ``client/v3/ordering``.
"""

from collections.abc import Iterator
from typing import Final, TypeVar, final

from google.protobuf.message import DecodeError, Message

from kvorum.errors import ERR_COMPACTED, ERR_EMPTY_KEY
from kvorum.proto import rpc_pb2
from kvorum.proto.wire import read_varint
from kvorum.proxy.figures import GrpcFigures
from kvorum.proxy.grpc.cache import Cache
from kvorum.proxy.grpc.namespace import Namespace
from kvorum.proxy.grpc.passing import Ask
from kvorum.proxy.grpc.upstream import Metadata, Upstream
from kvorum.rpc.messages import StatusError, unreadable_message

M = TypeVar("M", bound=Message)

_HEADER_TAG: Final = 0x0A


@final
class KvWork:
    """What stands between clients and members for each method."""

    def __init__(
        self, upstream: Upstream, namespace: Namespace, figures: GrpcFigures, *, is_ordered: bool
    ) -> None:
        self._upstream: Final = upstream
        self._namespace: Final = namespace
        self._figures: Final = figures
        self._is_ordered: Final = is_ordered
        self.cache: Final = Cache()
        self._seen_revision = 0

    async def range(self, message: bytes, ask: Ask, metadata: Metadata) -> bytes:
        """KV.Range."""
        request = parsed(rpc_pb2.RangeRequest, message)
        name = _name(request, metadata)
        if request.serializable:
            if 0 < request.revision < self.cache.compacted_revision:
                self._figures.cache_hits += 1
                raise StatusError(ERR_COMPACTED.code, ERR_COMPACTED.message)
            kept = self.cache.get(name)
            if kept is not None:
                self._figures.cache_hits += 1
                return kept
            self._figures.cache_misses += 1
        if not request.key:
            raise StatusError(ERR_EMPTY_KEY.code, ERR_EMPTY_KEY.message)
        ticket = self.cache.begin(name, request)
        try:
            answer = await self._asked(request, message, ask)
        except BaseException:
            self.cache.drop(ticket)
            raise
        if revision_of(answer) >= self._upstream.latest_revision:
            self.cache.keep(ticket, answer)
        else:  # of a member that has not heard of our last write
            self.cache.drop(ticket)
        self._count()
        return answer

    async def put(self, message: bytes, ask: Ask, _: Metadata) -> bytes:
        """KV.Put."""
        request = parsed(rpc_pb2.PutRequest, message)
        if not request.key:
            raise StatusError(ERR_EMPTY_KEY.code, ERR_EMPTY_KEY.message)
        touched = [(request.key, b"")]
        if not self._namespace:
            return await self._write(message, ask, touched)
        self._namespace.enter(request)
        written = await self._write(request.SerializeToString(), ask, touched)
        put = rpc_pb2.PutResponse.FromString(written)
        self._namespace.leave(put)
        return put.SerializeToString()

    async def delete_range(self, message: bytes, ask: Ask, _: Metadata) -> bytes:
        """KV.DeleteRange."""
        request = parsed(rpc_pb2.DeleteRangeRequest, message)
        if not request.key:
            raise StatusError(ERR_EMPTY_KEY.code, ERR_EMPTY_KEY.message)
        touched = [(request.key, request.range_end)]
        if not self._namespace:
            return await self._write(message, ask, touched)
        self._namespace.enter(request)
        written = await self._write(request.SerializeToString(), ask, touched)
        deleted = rpc_pb2.DeleteRangeResponse.FromString(written)
        self._namespace.leave(deleted)
        return deleted.SerializeToString()

    async def txn(self, message: bytes, ask: Ask, _: Metadata) -> bytes:
        """KV.Txn. What it compares may turn out to be newer than what is kept, so that is forgotten, too."""
        request = parsed(rpc_pb2.TxnRequest, message)
        touched = list(_touched(request))
        if not self._namespace:
            return await self._write(message, ask, touched)
        self._namespace.enter_txn(request)
        written = await self._write(request.SerializeToString(), ask, touched)
        done = rpc_pb2.TxnResponse.FromString(written)
        self._namespace.leave_txn(done)
        return done.SerializeToString()

    async def compact(self, message: bytes, ask: Ask, _: Metadata) -> bytes:
        """KV.Compact."""
        request = parsed(rpc_pb2.CompactionRequest, message)
        answer = await ask(message)
        self.cache.compacted(request.revision)
        return answer

    # --- within -------------------------------------------------------------------------------------------

    async def _asked(self, request: rpc_pb2.RangeRequest, message: bytes, ask: Ask) -> bytes:
        answer = await self._of_namespace(request, message, ask)
        revision = revision_of(answer)
        if self._is_ordered and request.serializable and revision < self._seen_revision:
            again = rpc_pb2.RangeRequest()
            again.CopyFrom(request)
            again.serializable = False
            answer = await self._of_namespace(again, again.SerializeToString(), ask)
            revision = revision_of(answer)
        self._seen_revision = max(self._seen_revision, revision)
        return answer

    async def _of_namespace(self, request: rpc_pb2.RangeRequest, message: bytes, ask: Ask) -> bytes:
        if not self._namespace:
            return await ask(message)
        inside = rpc_pb2.RangeRequest()
        inside.CopyFrom(request)
        self._namespace.enter(inside)
        answer = rpc_pb2.RangeResponse.FromString(await ask(inside.SerializeToString()))
        self._namespace.leave(answer)
        return answer.SerializeToString()

    async def _write(self, message: bytes, ask: Ask, touched: list[tuple[bytes, bytes]]) -> bytes:
        self._spoil(touched)
        try:
            answer = await ask(message)
        finally:  # also of one that failed: it may have been done
            self._spoil(touched)
        self._upstream.latest_revision = max(self._upstream.latest_revision, revision_of(answer))
        return answer

    def _spoil(self, touched: list[tuple[bytes, bytes]]) -> None:
        for key, end in touched:
            self.cache.invalidate(key, end)
        self._count()

    def _count(self) -> None:
        self._figures.cache_keys = len(self.cache)


def parsed(kind: type[M], message: bytes) -> M:
    """A message of a client. Raises StatusError in grpc-go's words if it is none."""
    try:
        return kind.FromString(message)
    except DecodeError:
        raise unreadable_message() from None


def revision_of(answer: bytes) -> int:
    """The revision in the header that every answer begins with; 0 without one."""
    if not answer or answer[0] != _HEADER_TAG:
        return 0
    size, at = read_varint(answer, 1)
    return rpc_pb2.ResponseHeader.FromString(answer[at : at + size]).revision


def _name(request: rpc_pb2.RangeRequest, metadata: Metadata) -> bytes:
    """What an answer is kept under: the request as if it were serializable, and who asks."""
    alike = rpc_pb2.RangeRequest()
    alike.CopyFrom(request)
    alike.serializable = True
    who = "\n".join(value for name, value in metadata if name in ("token", "authorization"))
    return who.encode() + b"\0" + alike.SerializeToString(deterministic=True)


def _touched(txn: rpc_pb2.TxnRequest) -> Iterator[tuple[bytes, bytes]]:
    for compare in txn.compare:
        yield compare.key, compare.range_end
    for operation in (*txn.success, *txn.failure):
        kind = operation.WhichOneof("request")
        if kind == "request_put":
            yield operation.request_put.key, b""
        elif kind == "request_delete_range":
            yield operation.request_delete_range.key, operation.request_delete_range.range_end
        elif kind == "request_txn":
            yield from _touched(operation.request_txn)
