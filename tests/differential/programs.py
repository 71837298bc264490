"""Random programs over the KV service: a seed makes a list of calls, the same list every time.

Few keys and small revisions, so that operations meet; about one call in ten is wrong on purpose (no key, a
revision of the future, a key written twice), because refusals are answers that clients compare too.
"""

import random
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from kvorum.proto import rpc_pb2 as pb

KEYS: Final = (b"a", b"aa", b"ab", b"b", b"ba", b"c", b"c\x00", b"\x00", b"\xff", b"z" * 40)
ENDS: Final = (b"", b"\x00", b"ab", b"b", b"bb", b"c", b"d", b"\xff\xff", b"a")
VALUES: Final = (b"", b"1", b"2", b"x" * 300, bytes(range(256)))


@dataclass(frozen=True)
class Step:
    """One call: ``package.Service/Method`` and its request."""

    method: str
    request: Message

    def __str__(self) -> str:
        text = " ".join(str(self.request).split())
        return f"{self.method.rpartition('/')[2]}({text})"


class Program:
    """Draws the steps of one program from its seed."""

    def __init__(self, seed: int, steps: int) -> None:
        self.random = random.Random(seed)
        self.revision = 1  # an upper bound of the store's revision is enough to draw from
        self.steps = [self._step() for _ in range(steps)]

    def _step(self) -> Step:
        kind = self.random.choices(
            ("put", "range", "delete", "txn", "compact", "hash"), (30, 30, 10, 22, 4, 4)
        )[0]
        if kind == "put":
            self.revision += 1
            return Step("etcdserverpb.KV/Put", self._put())
        if kind == "range":
            return Step("etcdserverpb.KV/Range", self._range())
        if kind == "delete":
            self.revision += 1
            return Step("etcdserverpb.KV/DeleteRange", self._delete())
        if kind == "txn":
            self.revision += 1
            return Step("etcdserverpb.KV/Txn", self._txn(2))
        if kind == "compact":
            # Physical: etcd's HashKV depends on how far a compaction that nobody waited for has come.
            request = pb.CompactionRequest(revision=self._revision(), physical=True)
            return Step("etcdserverpb.KV/Compact", request)
        return Step("etcdserverpb.Maintenance/HashKV", pb.HashKVRequest(revision=self._revision()))

    def _rarely(self) -> bool:
        return self.random.random() < 0.08

    def _often(self) -> bool:
        return self.random.random() < 0.5

    def _key(self) -> bytes:
        return b"" if self.random.random() < 0.03 else self.random.choice(KEYS)

    def _revision(self) -> int:
        pick = self.random.random()
        if pick < 0.1:
            return self.revision + self.random.randint(1, 50)
        if pick < 0.15:
            return -1
        return self.random.randint(0, self.revision)

    def _put(self) -> pb.PutRequest:
        request = pb.PutRequest(key=self._key(), value=self.random.choice(VALUES))
        request.prev_kv = self._often()
        if self._rarely():
            request.ignore_value = True
            if self._often():
                request.ClearField("value")
        if self._rarely():
            request.ignore_lease = True
        if self._rarely():
            request.lease = self.random.randint(1, 3)
        return request

    def _range(self) -> pb.RangeRequest:
        request = pb.RangeRequest(key=self._key(), range_end=self.random.choice(ENDS))
        choose = self.random
        if choose.random() < 0.3:
            request.revision = self._revision()
        if choose.random() < 0.4:
            request.MergeFrom(
                pb.RangeRequest(
                    sort_order=choose.choice(pb.RangeRequest.SortOrder.keys()),
                    sort_target=choose.choice(pb.RangeRequest.SortTarget.keys()),
                )
            )
        # Among equals etcd's order is that of Go's unstable sort, so a limit may only cut where there are
        # none.
        if request.sort_target == pb.RangeRequest.SortTarget.KEY and self._often():
            request.limit = choose.randint(0, 4)
        request.serializable = self._often()
        request.keys_only = choose.random() < 0.2
        request.count_only = choose.random() < 0.15
        for bound in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if choose.random() < 0.1:
                setattr(request, bound, self._revision())
        return request

    def _delete(self) -> pb.DeleteRangeRequest:
        end = self.random.choice(ENDS) if self.random.random() < 0.4 else b""
        return pb.DeleteRangeRequest(key=self._key(), range_end=end, prev_kv=self._often())

    def _compare(self) -> pb.Compare:
        choose = self.random
        compare = pb.Compare(
            result=choose.choice(pb.Compare.CompareResult.keys()),
            target=choose.choice(pb.Compare.CompareTarget.keys()),
            key=self._key(),
        )
        union = choose.choice(("version", "create_revision", "mod_revision", "value", "lease", None))
        if union == "value":
            compare.value = choose.choice(VALUES)
        elif union is not None:
            setattr(compare, union, choose.choice((0, 1, 2, self._revision())))
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
