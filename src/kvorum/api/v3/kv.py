"""The KV service. Writes are proposed, reads run where they stand once they may.

Source: etcd ``server/etcdserver/api/v3rpc/key.go``, ``v3_server.go``.
"""

from functools import partial
from typing import Final, final

from kvorum import errors, limits
from kvorum.api.gate import Gate
from kvorum.api.v3 import checks
from kvorum.api.v3.service import Methods, Service, parse
from kvorum.apply import range as ranges
from kvorum.apply import txn
from kvorum.apply.alarms import cost_of_put
from kvorum.apply.applier import Result
from kvorum.apply.txn import OpenedTxn
from kvorum.errors import EtcdError
from kvorum.proto.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from kvorum.proto.wire import delimited
from kvorum.rpc.grpc import StreamCall, UnaryCall
from kvorum.server import requests
from kvorum.server.node import Node

INITIAL_STREAM_CHUNK_LIMIT: Final = 10
"""Keys in the first chunk of a RangeStream; later ones grow towards max-request-bytes (etcd
``v3_server.go``).
"""

_RANGE_RESPONSE_TAG: Final = b"\x0a"


@final
class KvService(Service):
    """Range, RangeStream, Put, DeleteRange, Txn, Compact."""

    def __init__(
        self,
        node: Node,
        gate: Gate,
        *,
        max_txn_ops: int = limits.MAX_TXN_OPS,
        max_request_bytes: int = limits.MAX_REQUEST_BYTES,
    ) -> None:
        super().__init__(node, gate)
        self._max_txn_ops: Final = max_txn_ops
        self._chunk_bytes: Final = max_request_bytes

    def register(self, server: Methods) -> None:
        """Put the service's methods into the server's table."""
        server.unary("/etcdserverpb.KV/Range", self.range)
        server.unary("/etcdserverpb.KV/Put", self.put)
        server.unary("/etcdserverpb.KV/DeleteRange", self.delete_range)
        server.unary("/etcdserverpb.KV/Txn", self.txn)
        server.unary("/etcdserverpb.KV/Compact", self.compact)
        server.stream("/etcdserverpb.KV/RangeStream", self.range_stream)

    def range(self, call: UnaryCall, body: bytes) -> None:
        """Keys of a range; linearizable unless the request says serializable."""
        request = parse(RangeRequest, body)
        error = checks.check_range(request)
        if error is not None:
            call.fail(error.code, error.message)
        elif request.serializable:
            self._run_range(call, request, None)
        else:
            self.node.reads.wait(partial(self._run_range, call, request))

    def _run_range(self, call: UnaryCall, request: RangeRequest, error: EtcdError | None) -> None:
        if error is not None:
            call.fail(error.code, error.message)
        elif request.range_end:
            # May be large: made only once the client has taken what was answered before.
            call.when_writable(partial(self._answer_range, call, request))
        else:
            self._answer_range(call, request)

    def _answer_range(self, call: UnaryCall, request: RangeRequest) -> None:
        if call.cancelled:
            return
        try:
            if self.users.enabled:
                self.gate.check_range(call, request.key, request.range_end)
            revision, body = ranges.execute(self.node.view(), request)
        except EtcdError as refused:
            call.fail(refused.forget().code, refused.message)
        else:
            self.reply(call, revision, body)

    def put(self, call: UnaryCall, body: bytes) -> None:
        """Write a key."""
        request = parse(PutRequest, body)
        error = checks.check_put(request)
        if error is None and not self.node.has_room_for(cost_of_put(request.key, request.value)):
            error = errors.ERR_NO_SPACE
        if error is not None:
            call.fail(error.code, error.message)
        else:
            who = self.gate.entry(call) if self.users.enabled else b""
            self.node.propose(requests.PUT, body, partial(self.answer, call), request, who)

    def delete_range(self, call: UnaryCall, body: bytes) -> None:
        """Delete the keys of a range."""
        error = checks.check_delete(parse(DeleteRangeRequest, body))
        if error is not None:
            call.fail(error.code, error.message)
        else:
            self.propose(call, requests.DELETE_RANGE, body)

    def txn(self, call: UnaryCall, body: bytes) -> None:
        """Compare, then run one of two lists of operations; without writes it needs no log entry."""
        request = OpenedTxn(parse(TxnRequest, body))
        error = checks.check_txn(request, self._max_txn_ops)
        if error is not None:
            call.fail(error.code, error.message)
        elif not self.node.has_room_for(request.cost_bytes):
            call.fail(errors.ERR_NO_SPACE.code, errors.ERR_NO_SPACE.message)
        elif not request.is_read_only:
            self.propose(call, requests.TXN, body, None, request)
        elif request.is_serializable:
            self._run_txn(call, request, None)
        else:
            self.node.reads.wait(partial(self._run_txn, call, request))

    def _run_txn(self, call: UnaryCall, request: OpenedTxn, error: EtcdError | None) -> None:
        if error is not None:
            call.fail(error.code, error.message)
        else:
            call.when_writable(partial(self._answer_txn, call, request))

    def _answer_txn(self, call: UnaryCall, request: OpenedTxn) -> None:
        if call.cancelled:
            return
        node = self.node
        try:
            if self.users.enabled:
                self.gate.check_txn(call, request)
            revision, body = txn.execute_read_only(node.view(), request, node.revision)
        except EtcdError as refused:
            call.fail(refused.forget().code, refused.message)
        else:
            self.reply(call, revision, body)

    def compact(self, call: UnaryCall, body: bytes) -> None:
        """Forget revisions; with ``physical`` the answer waits until they are gone from the store."""
        request = parse(CompactionRequest, body)
        done = partial(self._compacted, call) if request.physical else partial(self.answer, call)
        self.propose(call, requests.COMPACTION, body, done)

    def _compacted(self, call: UnaryCall, result: Result) -> None:
        if result.error is not None:
            self.answer(call, result)
        else:
            self.node.slices.when_compacted(partial(self.answer, call, result))

    async def range_stream(self, call: StreamCall) -> None:
        """A range in chunks, all at the revision of the first; header, more and count come with the last.

        Raises:
            EtcdError: as for Range; UNIMPLEMENTED for sort orders and revision bounds.
        """
        body = await call.read()
        if body is None:
            raise EtcdError(errors.INTERNAL, "grpc: client closed the stream without a request")
        request = parse(RangeRequest, body)
        error = checks.check_range(request)
        if error is not None:
            raise error
        if request.sort_order != RangeRequest.SortOrder.NONE and not (
            request.sort_target == RangeRequest.SortTarget.KEY
            and request.sort_order == RangeRequest.SortOrder.ASCEND
        ):
            raise EtcdError(errors.UNIMPLEMENTED, "RangeStream does not support custom sort orders")
        if ranges.is_bounded(request):
            raise EtcdError(errors.UNIMPLEMENTED, "RangeStream does not support revision filters")
        if not request.serializable:
            await self.node.linearizable_read()
        self.gate.check_range(call, request.key, request.range_end)
        if request.count_only:
            revision, rest = ranges.execute(self.node.view(), request)
            await call.write(
                delimited(_RANGE_RESPONSE_TAG, self.header.encode(revision, self.node.term) + rest)
            )
            return
        await self._stream(call, request)

    async def _stream(self, call: StreamCall, request: RangeRequest) -> None:
        """Send the chunks; their size grows or shrinks towards max-request-bytes by factors of two."""
        total_limit = request.limit
        sent = 0
        head_revision = 0
        chunk = INITIAL_STREAM_CHUNK_LIMIT
        request.sort_order = RangeRequest.SortOrder.NONE
        request.sort_target = RangeRequest.SortTarget.KEY
        while True:
            request.limit = min(chunk, total_limit - sent) if total_limit > 0 else chunk
            revision, kvs, count, more = ranges.select(self.node.view(), request)
            if not head_revision:
                head_revision = revision
                request.revision = request.revision if request.revision > 0 else revision
            done = not more or sent + len(kvs) == total_limit
            out = ranges.encode(kvs, sent + count if done else 0, more and done)
            if done:
                out = self.header.encode(head_revision, self.node.term) + out
            await call.write(delimited(_RANGE_RESPONSE_TAG, out))
            if done:
                return
            self.gate.check_range(call, request.key, request.range_end)
            sent += len(kvs)
            request.key = ranges.key_of(kvs[-1]) + b"\0"
            if len(out) < self._chunk_bytes // 2:
                chunk = request.limit * 2
            elif len(out) > self._chunk_bytes * 2:
                chunk = max(1, request.limit // 2)
