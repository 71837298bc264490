"""Steps of the KV service: every field of its requests, nested transactions, compactions, hashes."""

from dataclasses import dataclass

import grpc

from kvorum.proto import rpc_pb2 as pb
from tests.differential.programs.draw import ENDS, VALUES, Surface
from tests.differential.side import Side
from tests.differential.steps import Call, Step, text_of


@dataclass(frozen=True)
class RangeBothWays:
    """A Range, and where there is RangeStream the same answer from it, put together."""

    request: pb.RangeRequest

    def perform(self, side: Side) -> object:
        answer = side.call("etcdserverpb.KV/Range", self.request)
        if side.streams_ranges:
            streamed = self._streamed(side)
            if streamed != answer:
                return "RangeStream differs from Range", answer, streamed
        return answer

    def _streamed(self, side: Side) -> object:
        whole = pb.RangeResponse()
        chunks = side.client.stream(
            "etcdserverpb.KV/RangeStream", side.placed(self.request), pb.RangeStreamResponse
        )
        try:
            for chunk in chunks:
                whole.MergeFrom(chunk.range_response)
        except grpc.RpcError as refusal:
            return side.comparable(refusal)
        return side.comparable(whole)

    def __str__(self) -> str:
        return f"Range and RangeStream({text_of(self.request)})"


@dataclass(frozen=True)
class Compact:
    """A compaction; left out while a lock is waited for, as etcd's waiters then may or may not miss it.

    Physical: etcd's HashKV depends on how far a compaction that nobody waited for has come. What watches
    are due is delivered first: whether a watch from the past is still behind is a matter of time.
    """

    revision: int

    def perform(self, side: Side) -> object:
        if side.waits:
            return "left out: somebody waits"
        side.watching.settle()
        request = pb.CompactionRequest(revision=self.revision, physical=True)
        return side.call("etcdserverpb.KV/Compact", request)

    def __str__(self) -> str:
        return f"Compact({self.revision})"


class Kv(Surface):
    """Draws KV steps."""

    def step(self) -> Step:
        kind = self.random.choices(
            ("put", "range", "stream", "delete", "txn", "compact", "hash"), (30, 25, 5, 10, 22, 4, 4)
        )[0]
        if kind in ("put", "delete", "txn"):
            self.draw.revision += 1
        if kind == "put":
            return Call("etcdserverpb.KV/Put", self._put())
        if kind == "range":
            return Call("etcdserverpb.KV/Range", self._range())
        if kind == "stream":
            return RangeBothWays(self._streamable_range())
        if kind == "delete":
            return Call("etcdserverpb.KV/DeleteRange", self._delete())
        if kind == "txn":
            return Call("etcdserverpb.KV/Txn", self._txn(2))
        if kind == "compact":
            return Compact(self.draw.any_revision())
        return Call("etcdserverpb.Maintenance/HashKV", pb.HashKVRequest(revision=self.draw.any_revision()))

    def _streamable_range(self) -> pb.RangeRequest:
        request = self._range()
        for field in (
            "sort_order",
            "sort_target",
            "min_mod_revision",
            "max_mod_revision",
            "min_create_revision",
            "max_create_revision",
        ):
            request.ClearField(field)
        return request

    def _put(self) -> pb.PutRequest:
        request = pb.PutRequest(key=self.draw.key(), value=self.random.choice(VALUES))
        request.prev_kv = self.draw.often()
        if self.draw.rarely():
            request.ignore_value = True
            if self.draw.often():
                request.ClearField("value")
        if self.draw.rarely():
            request.ignore_lease = True
        if self.random.random() < 0.25:
            request.lease = self.draw.lease()
        return request

    def _range(self) -> pb.RangeRequest:
        request = pb.RangeRequest(key=self.draw.key(), range_end=self.random.choice(ENDS))
        choose = self.random
        if choose.random() < 0.3:
            request.revision = self.draw.any_revision()
        if choose.random() < 0.4:
            request.MergeFrom(
                pb.RangeRequest(
                    sort_order=choose.choice(pb.RangeRequest.SortOrder.keys()),
                    sort_target=choose.choice(pb.RangeRequest.SortTarget.keys()),
                )
            )
        # Among equals etcd's order is that of Go's unstable sort, so a limit may only cut where there are
        # none.
        if request.sort_target == pb.RangeRequest.SortTarget.KEY and self.draw.often():
            request.limit = choose.randint(0, 4)
        request.serializable = self.draw.often()
        request.keys_only = choose.random() < 0.2
        request.count_only = choose.random() < 0.15
        for bound in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if choose.random() < 0.1:
                setattr(request, bound, self.draw.any_revision())
        return request

    def _delete(self) -> pb.DeleteRangeRequest:
        end = self.random.choice(ENDS) if self.random.random() < 0.4 else b""
        return pb.DeleteRangeRequest(key=self.draw.key(), range_end=end, prev_kv=self.draw.often())

    def _compare(self) -> pb.Compare:
        choose = self.random
        compare = pb.Compare(
            result=choose.choice(pb.Compare.CompareResult.keys()),
            target=choose.choice(pb.Compare.CompareTarget.keys()),
            key=self.draw.key(),
        )
        union = choose.choice(("version", "create_revision", "mod_revision", "value", "lease", None))
        if union == "value":
            compare.value = choose.choice(VALUES)
        elif union is not None:
            setattr(compare, union, choose.choice((0, 1, 2, self.draw.any_revision())))
        if choose.random() < 0.3:
            compare.range_end = choose.choice(ENDS)
        return compare

    def _txn(self, depth: int) -> pb.TxnRequest:
        choose = self.random
        return pb.TxnRequest(
            compare=[self._compare() for _ in range(choose.randint(0, 2))],
            success=[self._op(depth) for _ in range(choose.randint(0, 3))],
            failure=[self._op(depth) for _ in range(choose.randint(0, 3))],
        )

    def _op(self, depth: int) -> pb.RequestOp:
        kind = self.random.choices(
            ("put", "range", "delete", "txn", "nothing"), (40, 30, 15, 14 * (depth > 0), 1)
        )[0]
        if kind == "put":
            return pb.RequestOp(request_put=self._put())
        if kind == "range":
            return pb.RequestOp(request_range=self._range())
        if kind == "delete":
            return pb.RequestOp(request_delete_range=self._delete())
        if kind == "txn":
            return pb.RequestOp(request_txn=self._txn(depth - 1))
        return pb.RequestOp()
