"""What calls share: a connection's accounts, plans of how to handle a header block, messages in pieces."""

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, final

from kvorum import limits
from kvorum.errors import OK
from kvorum.rpc.frames import encode_fields
from kvorum.rpc.http2 import Engine
from kvorum.rpc.messages import PREFIX_BYTES, check_prefix, decompress, encode_status_message
from kvorum.rpc.observer import MethodCounters, RpcObserver
from kvorum.rpc.streams import OPEN, Stream

if TYPE_CHECKING:
    from kvorum.rpc.calls import UnaryCall
    from kvorum.rpc.streaming import StreamCall

GATHERING: Final = 0
RUNNING: Final = 1
ANSWERED: Final = 2
CANCELLED: Final = 3

RESPONSE_HEADERS: Final = [(":status", "200"), ("content-type", "application/grpc")]
RESPONSE_HEADER_BLOCK: Final = encode_fields(RESPONSE_HEADERS)
OK_TRAILER_BLOCK: Final = encode_fields([("grpc-status", "0")])
NO_DEADLINE: Final = float("inf")
MESSAGE_OVERHEAD: Final = 64
"""Counted for each queued message beyond its bytes, so that many empty ones are bounded as well."""

UnaryHandler = Callable[["UnaryCall", bytes], None]
StreamHandler = Callable[["StreamCall"], Coroutine[Any, Any, None]]


@functools.lru_cache(maxsize=256)
def status_block(code: int, message: str, with_headers: bool, http_status: int = 200) -> bytes:
    """Trailer block of a status; ``with_headers`` makes it a whole answer (gRPC's "Trailers-Only")."""
    fields = [(":status", str(http_status)), RESPONSE_HEADERS[1]] if with_headers else []
    fields.append(("grpc-status", str(code)))
    if message:
        fields.append(("grpc-message", encode_status_message(message)))
    return encode_fields(fields)


@final
class Plan:
    """What a request header section means here, worked out once for all calls that repeat it.

    ``timeout`` is in seconds, NO_DEADLINE without one. ``refusal`` is the whole answer of a call that
    reaches no handler, ``refusal_code`` its status.
    """

    __slots__ = (
        "counters",
        "encoding",
        "refusal",
        "refusal_code",
        "stream_handler",
        "timeout",
        "unary_handler",
    )

    def __init__(self) -> None:
        self.unary_handler: UnaryHandler | None = None
        self.stream_handler: StreamHandler | None = None
        self.counters: MethodCounters = _NOT_COUNTED
        self.timeout = NO_DEADLINE
        self.encoding = ""
        self.refusal = b""
        self.refusal_code = OK


_NOT_COUNTED: Final = MethodCounters("", "")


class Connection:
    """What a call needs of its connection. ``grpc.GrpcProtocol`` is the only one; this breaks the circle.

    ``held`` are the bytes of messages that are not complete or not read, ``granted`` those that clients of
    large messages were promised beyond their stream windows, ``grants`` the promises that have to wait.
    ``waiting`` is what to do, ``writers`` which streams to wake, when a congested client has read again.
    """

    __slots__ = (
        "engine",
        "flush_pending",
        "granted",
        "grants",
        "held",
        "max_message_bytes",
        "observer",
        "peer",
        "waiting",
        "writers",
    )

    engine: Engine
    observer: RpcObserver
    peer: str

    def __init__(self, observer: RpcObserver, max_message_bytes: int) -> None:
        self.observer = observer
        self.max_message_bytes = max_message_bytes
        self.peer = ""
        self.flush_pending = False
        self.held = 0
        self.granted = 0
        self.grants: deque[tuple[Stream, Assembly, int]] = deque()
        self.waiting: deque[Callable[[], None]] = deque()
        self.writers: dict[StreamCall, None] = {}

    def flush_soon(self) -> None:
        """Something was sent: see that it leaves in this turn of the loop."""

    def broke(self, call: "UnaryCall | StreamCall", error: Exception) -> None:
        """A handler raised what it should not: log it."""

    def start(self, call: "StreamCall", coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a stream's handler."""
        raise AssertionError("a connection runs its handlers")

    def extra_info(self, name: str) -> Any:
        """What the transport knows (``peercert``, ``ssl_object``...); None otherwise."""

    def hold(self, size: int) -> bool:
        """Account for bytes kept; False: beyond the bound, and not accounted for."""
        if self.held + size > limits.MAX_UNFINISHED_BYTES + self.granted:
            return False
        self.held += size
        return True

    def release(self, size: int) -> None:
        """The bytes are no longer kept."""
        self.held -= size

    def ask_grant(self, stream: Stream, assembly: "Assembly", size: int) -> None:
        """Have ``size`` bytes of window opened on the stream, in the order of asking, within the bound."""
        self.grants.append((stream, assembly, size))
        self.give_grants()

    def give_grants(self) -> None:
        """Open what may be opened; one promise is always possible, however large the message."""
        while self.grants:
            stream, assembly, size = self.grants[0]
            if stream.state != OPEN:
                self.grants.popleft()
                continue
            if self.granted and self.granted + size > limits.MAX_UNFINISHED_BYTES:
                return
            self.grants.popleft()
            self.granted += size
            assembly.granted += size
            self.engine.grant(stream, size)

    def end_grant(self, assembly: "Assembly") -> None:
        """The message the window was opened for is complete or abandoned."""
        if assembly.granted:
            self.granted -= assembly.granted
            assembly.granted = 0
            self.give_grants()


@final
class Assembly:
    """A message that came, or comes, in several DATA frames.

    ``need`` is its size with prefix, -1 until the prefix is there.
    """

    __slots__ = ("body", "granted", "need")

    def __init__(self) -> None:
        self.body = bytearray()
        self.need = -1
        self.granted = 0

    def read_prefix(self, encoding: str, max_size: int) -> bool:
        """Whether the prefix is there; checks it.

        Raises:
            StatusError: from ``check_prefix``.
        """
        if self.need >= 0:
            return True
        if len(self.body) < PREFIX_BYTES:
            return False
        length = int.from_bytes(self.body[1:PREFIX_BYTES], "big")
        check_prefix(self.body[0], length, encoding, max_size)
        self.need = length + PREFIX_BYTES
        return True

    def take(self, max_size: int) -> bytes:
        """The whole message, decompressed; what came after it stays.

        Raises:
            StatusError: from ``decompress``.
        """
        content = bytes(memoryview(self.body)[PREFIX_BYTES : self.need])
        if self.body[0]:
            content = decompress(content, max_size)
        del self.body[: self.need]
        self.need = -1
        return content
