"""What the services of the v3 API share: how a body becomes a message, and a result an answer."""

from functools import partial
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from kvorum import errors
from kvorum.api.gate import Gate
from kvorum.apply.applier import Result
from kvorum.rpc.connection import StreamHandler, UnaryHandler
from kvorum.rpc.grpc import UnaryCall, unreadable_message
from kvorum.rpc.observer import BIDI_STREAM
from kvorum.server.node import Node
from kvorum.server.propose import Done

M = TypeVar("M", bound=Message)


class Methods(Protocol):
    """Where services put their methods: a server's table, or what stands before it (``admission.py``)."""

    def unary(self, path: str, handler: UnaryHandler) -> None:
        """Serve "/service/method" with a synchronous handler."""

    def stream(self, path: str, handler: StreamHandler, kind: str = BIDI_STREAM) -> None:
        """Serve "/service/method" with a coroutine; ``kind`` is its ``grpc_type`` in metrics."""


class Service:
    """Holds the node, the gate and the header; a service's methods are its subclasses' handlers."""

    def __init__(self, node: Node, gate: Gate) -> None:
        self.node: Final = node
        self.gate: Final = gate
        self.users: Final = gate.users
        self.header: Final = node.header

    def reply(self, call: UnaryCall, revision: int, body: bytes) -> None:
        """Answer with a header at ``revision`` and the response's other fields."""
        call.reply(self.header.encode(revision, self.node.term) + body)

    def propose(
        self, call: UnaryCall, number: int, body: bytes, done: Done | None = None, parsed: object = None
    ) -> None:
        """Put a client's request into the log, with who asks; answer what applying it gives, or call
        ``done``.

        Raises:
            EtcdError: as ``Node.propose`` and ``Gate.entry``.
        """
        who = self.gate.entry(call) if self.users.enabled else b""
        self.node.propose(number, body, done or partial(self.answer, call), parsed, who)

    def answer(self, call: UnaryCall, result: Result) -> None:
        """Answer with what applying the request gave."""
        if result.error is not None:
            call.fail(result.error.code, result.error.message)
        else:
            call.reply(
                self.header.encode(result.revision or self.node.revision, self.node.term) + result.body
            )


def parse(kind: type[M], body: bytes) -> M:
    """Parse a request.

    Raises:
        EtcdError: INTERNAL, in grpc-go's words, if the body is no such message.
    """
    try:
        return kind.FromString(body)
    except DecodeError:
        unreadable = unreadable_message()
        raise errors.EtcdError(unreadable.code, unreadable.message) from None
