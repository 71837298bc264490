"""The gRPC server: what the rest of the program imports of this room.

A :class:`GrpcServer` has methods and connections; a connection is a ``GrpcProtocol`` (``protocol.py``), which
may also be handed a transport that another protocol began with.
"""

import asyncio
import logging
from typing import Final, final

from kvorum.rpc.calls import UnaryCall
from kvorum.rpc.connection import StreamHandler, UnaryHandler
from kvorum.rpc.messages import StatusError, unreadable_message
from kvorum.rpc.methods import GrpcOptions, MethodTable
from kvorum.rpc.observer import BIDI_STREAM, UNARY, MethodCounters, RpcObserver
from kvorum.rpc.protocol import GrpcProtocol
from kvorum.rpc.streaming import StreamCall

__all__ = [
    "GrpcOptions", "GrpcProtocol", "GrpcServer", "MethodCounters", "RpcObserver", "StatusError", "StreamCall",
    "UnaryCall", "unreadable_message",
]  # fmt: skip


@final
class GrpcServer:
    """The method table, and all connections that use it.

    Call it (or ``protocol``) for a protocol object: ``loop.create_server(server, host, port)``.
    """

    def __init__(
        self,
        options: GrpcOptions | None = None,
        logger: logging.Logger | None = None,
        *,
        alike: "GrpcServer | None" = None,
    ) -> None:
        """``alike``: another server, whose methods this one answers as well; its connections are its own."""
        self.options: Final = options if options is not None else GrpcOptions()
        self.logger: Final = logger if logger is not None else logging.getLogger("kvorum.rpc")
        self.observer: Final[RpcObserver] = (
            RpcObserver(self._active_streams) if alike is None else alike.observer
        )
        self.connections: Final[dict[GrpcProtocol, None]] = {}
        self.methods: Final[MethodTable] = MethodTable(self.observer) if alike is None else alike.methods
        self._stopping = False
        self._all_closed: asyncio.Event | None = None

    def unary(self, path: str, handler: UnaryHandler) -> None:
        """Serve "/service/method" with a synchronous handler."""
        self.methods.add(path, handler, None, UNARY)

    def stream(self, path: str, handler: StreamHandler, kind: str = BIDI_STREAM) -> None:
        """Serve "/service/method" with a coroutine; ``kind`` is its ``grpc_type`` in metrics."""
        self.methods.add(path, None, handler, kind)

    @property
    def services(self) -> list[str]:
        """Names of the services that have a method, sorted."""
        return sorted(self.methods.services)

    def protocol(self) -> "GrpcProtocol":
        """A protocol object for one new connection."""
        return GrpcProtocol(self)

    __call__ = protocol

    async def shutdown(self, grace_seconds: float) -> None:
        """Stop taking calls, let the open ones end within ``grace_seconds``, then close what is left."""
        self._stopping = True
        if not self.connections:
            return
        self._all_closed = asyncio.Event()
        for connection in list(self.connections):
            connection.drain()
        try:
            await asyncio.wait_for(self._all_closed.wait(), grace_seconds)
        except TimeoutError:
            for connection in list(self.connections):
                connection.abort()
            await self._all_closed.wait()

    # -- for GrpcProtocol ----------------------------------------------------------------------------------

    def opened(self, connection: "GrpcProtocol") -> bool:
        """A connection was made; False: the server is shutting down."""
        self.connections[connection] = None
        self.observer.connections += 1
        return not self._stopping

    def closed(self, connection: "GrpcProtocol") -> None:
        """A connection is gone."""
        self.connections.pop(connection, None)
        if not self.connections and self._all_closed is not None:
            self._all_closed.set()

    def _active_streams(self) -> int:
        return sum(len(connection.engine.streams) for connection in self.connections)
