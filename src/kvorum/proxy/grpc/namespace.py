"""``--namespace``: every key of a client has a prefix at the members, which the client does not see.

Messages are changed in place. Locks, elections and users are not prefixed, as with etcd. Sans-IO. Source of
behaviour: etcd ``client/v3/namespace``.
"""

from collections.abc import Iterable
from typing import Final, final

from kvorum.proto import kv_pb2, rpc_pb2

_FROM_KEY: Final = b"\0"


@final
class Namespace:
    """A prefix; an empty one changes nothing."""

    __slots__ = ("end", "prefix")

    def __init__(self, prefix: bytes) -> None:
        self.prefix: Final = prefix
        self.end: Final = behind_prefix(prefix)
        """Behind the last key of the namespace."""

    def __bool__(self) -> bool:
        return bool(self.prefix)

    def interval(self, key: bytes, end: bytes) -> tuple[bytes, bytes]:
        """An interval of the client as one of the members."""
        if not self.prefix or not end:
            return self.prefix + key, end
        return self.prefix + key, self.end if end == _FROM_KEY else self.prefix + end

    def enter(
        self,
        message: rpc_pb2.RangeRequest | rpc_pb2.PutRequest | rpc_pb2.DeleteRangeRequest | rpc_pb2.Compare,
    ) -> None:
        """Prefix the key or interval of a request."""
        if isinstance(message, rpc_pb2.PutRequest):
            message.key = self.prefix + message.key
        else:
            message.key, message.range_end = self.interval(message.key, message.range_end)

    def enter_txn(self, txn: rpc_pb2.TxnRequest) -> None:
        """Prefix all that a transaction names, nested ones too."""
        for compare in txn.compare:
            self.enter(compare)
        for operation in (*txn.success, *txn.failure):
            kind = operation.WhichOneof("request")
            if kind == "request_range":
                self.enter(operation.request_range)
            elif kind == "request_put":
                self.enter(operation.request_put)
            elif kind == "request_delete_range":
                self.enter(operation.request_delete_range)
            elif kind == "request_txn":
                self.enter_txn(operation.request_txn)

    def leave_keys(self, pairs: Iterable[kv_pb2.KeyValue]) -> None:
        """Take the prefix from keys."""
        size = len(self.prefix)
        for pair in pairs:
            pair.key = pair.key[size:]

    def leave(
        self, answer: rpc_pb2.RangeResponse | rpc_pb2.PutResponse | rpc_pb2.DeleteRangeResponse
    ) -> None:
        """Take it from the keys of an answer."""
        if isinstance(answer, rpc_pb2.RangeResponse):
            self.leave_keys(answer.kvs)
        elif isinstance(answer, rpc_pb2.DeleteRangeResponse):
            self.leave_keys(answer.prev_kvs)
        elif answer.HasField("prev_kv"):
            self.leave_keys((answer.prev_kv,))

    def leave_txn(self, answer: rpc_pb2.TxnResponse) -> None:
        """Take it from all that a transaction answered."""
        for response in answer.responses:
            kind = response.WhichOneof("response")
            if kind == "response_range":
                self.leave(response.response_range)
            elif kind == "response_put":
                self.leave(response.response_put)
            elif kind == "response_delete_range":
                self.leave(response.response_delete_range)
            elif kind == "response_txn":
                self.leave_txn(response.response_txn)

    def leave_events(self, events: Iterable[kv_pb2.Event]) -> None:
        """Take it from the keys of events."""
        for event in events:
            self.leave_keys((event.kv,))
            if event.HasField("prev_kv"):
                self.leave_keys((event.prev_kv,))


def behind_prefix(prefix: bytes) -> bytes:
    """The first key behind all with a prefix; a zero byte, which means no end, if there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else _FROM_KEY
