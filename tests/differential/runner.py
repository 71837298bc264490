"""Runs a program against both servers, compares every answer, shrinks a program that makes them differ."""

from typing import Any, Final, cast, final

import grpc
from google.protobuf.message import Message

from kvorum.proto import rpc_pb2 as pb
from tests.differential.programs import Step
from tests.support.client import Client

RESPONSES: Final[dict[str, type[Message]]] = {
    "etcdserverpb.KV/Put": pb.PutResponse,
    "etcdserverpb.KV/Range": pb.RangeResponse,
    "etcdserverpb.KV/DeleteRange": pb.DeleteRangeResponse,
    "etcdserverpb.KV/Txn": pb.TxnResponse,
    "etcdserverpb.KV/Compact": pb.CompactionResponse,
    "etcdserverpb.Maintenance/HashKV": pb.HashKVResponse,
}


@final
class Pair:
    """The same calls to etcd and to Kvorum, which both began empty.

    Revisions count from where the last program left them, so requests that name one are shifted by what the
    store had when the program began. Only what must differ is left out of the comparison: the IDs in headers.
    """

    def __init__(self, etcd: Client, kvorum: Client) -> None:
        self._clients: Final = (etcd, kvorum)

    def run(self, steps: list[Step]) -> str | None:
        """Run a program on emptied key spaces; returns what differed, or None."""
        base = self._empty() - 1
        for number, step in enumerate(steps):
            request = shifted(step.request, base)
            answers = [self._answer(client, step.method, request) for client in self._clients]
            if answers[0] != answers[1]:
                done = "\n".join(f"  {earlier}" for earlier in steps[: number + 1])
                return f"step {number} differs:\n{done}\netcd:   {answers[0]}\nkvorum: {answers[1]}"
        return None

    def shrink(self, steps: list[Step]) -> list[Step]:
        """Leave out steps as long as the rest still makes them differ."""
        size = len(steps) // 2
        while size:
            at = 0
            while at < len(steps):
                fewer = steps[:at] + steps[at + size :]
                if fewer and self.run(fewer) is not None:
                    steps = fewer
                else:
                    at += size
            size //= 2
        return steps

    def _empty(self) -> int:
        """Delete every key on both; returns the revision they stand at."""
        revisions = {client.delete(b"\0", b"\0").header.revision for client in self._clients}
        assert len(revisions) == 1, f"the two servers stand at different revisions: {revisions}"
        return revisions.pop()

    @staticmethod
    def _answer(client: Client, method: str, request: Message) -> Any:
        try:
            response = client.call(method, request, RESPONSES[method])
        except grpc.RpcError as refusal:
            call = cast("grpc.Call", refusal)
            return call.code().name, call.details()
        without_ids(response)
        without_order_among_equals(response)
        return response


def without_ids(message: Message) -> None:
    """Blank the cluster's and the member's ID in every header of a response."""
    for field, value in message.ListFields():
        if field.name == "header":
            value.ClearField("cluster_id")
            value.ClearField("member_id")
        elif field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                without_ids(part)


def without_order_among_equals(message: Message) -> None:
    """Put the key-values of every range into the order of their keys: what sorts equal stands in any order.

    That Kvorum's own order is the one asked for is shown by ``tests/apply/test_range.py``.
    """
    for field, value in message.ListFields():
        if field.name == "kvs":
            value.sort(key=lambda kv: kv.key)
        elif field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                without_order_among_equals(part)


_REVISIONS: Final = frozenset(
    (
        "revision",
        "min_mod_revision",
        "max_mod_revision",
        "min_create_revision",
        "max_create_revision",
        "create_revision",
        "mod_revision",
    )
)


def shifted(request: Message, base: int) -> Message:
    """The request with every positive revision in it moved by ``base``."""
    copy = type(request)()
    copy.CopyFrom(request)
    _shift(copy, base)
    return copy


def _shift(message: Message, base: int) -> None:
    for field, value in message.ListFields():
        if field.name in _REVISIONS:
            if value > 0:
                setattr(message, field.name, value + base)
        elif field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                _shift(part, base)
