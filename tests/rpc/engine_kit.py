"""A client made of frames, and a layer above that writes down what it is told: for tests of the engine."""

from dataclasses import dataclass
from typing import Any, Final, final

from hpack import Encoder

from kvorum.rpc import frames
from kvorum.rpc.http2 import Engine
from kvorum.rpc.requests import Request
from kvorum.rpc.streams import ResponseShape, Stream

SHAPE: Final = ResponseShape(
    frames.encode_fields([(":status", "200"), ("content-type", "application/grpc")]),
    frames.encode_fields([("grpc-status", "0")]),
    frames.encode_fields([(":status", "200"), ("grpc-status", "8")]),
)
REQUEST: Final = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/svc/Method"),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
END_STREAM: Final = frames.END_STREAM
END_HEADERS: Final = frames.END_HEADERS


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame the engine sent."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM and GOAWAY."""
        at = 4 if self.kind == frames.GOAWAY else 0
        return int.from_bytes(self.payload[at : at + 4], "big")

    @property
    def text(self) -> str:
        """The frame in a line, for expectations that read well."""
        name = frames.FRAME_NAMES[self.kind]
        if self.kind in (frames.RST_STREAM, frames.GOAWAY):
            return f"{name} {self.stream_id} {self.code}"
        return f"{name} {self.stream_id}"


def parse_frames(data: bytes) -> list[Frame]:
    """Cut bytes into frames; all must be whole."""
    found = []
    while data:
        length = int.from_bytes(data[:3], "big")
        assert len(data) >= 9 + length, "a frame is cut off"
        found.append(
            Frame(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]),
        )
        data = data[9 + length :]
    return found


def block(fields: list[tuple[str, str]]) -> bytes:
    """A header block that does not touch the dynamic table."""
    encoder = Encoder()
    return bytes(encoder.encode([(name, value, True) for name, value in fields], huffman=False))


REQUEST_BLOCK: Final = block(REQUEST)
TRAILER_BLOCK: Final = block([("x-checksum", "1")])


@final
class RecordedStream(Stream):
    """A stream that notes events in its recorder."""

    __slots__ = ("recorder",)

    def __init__(self, recorder: "Recorder", stream_id: int, request: Request, send_window: int) -> None:
        super().__init__(stream_id, request, send_window)
        self.recorder = recorder

    def opened(self) -> None:
        self.recorder.events.append(("opened", self.id, self.request.path))

    def data(self, buffer: bytes, start: int, stop: int, ended: bool) -> None:
        content = buffer[start:stop]
        assert len(content) == stop - start
        self.recorder.events.append(("data", self.id, content, ended))
        self.recorder.on_data(self, content, ended)

    def writable(self) -> None:
        self.recorder.events.append(("writable", self.id))

    def aborted(self, code: int) -> None:
        self.recorder.events.append(("aborted", self.id, code))


class Recorder:
    """The layer above. ``made`` keeps every stream, also closed ones."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.made: dict[int, RecordedStream] = {}
        self.prepared = 0

    def prepare(self, request: Request) -> None:
        self.prepared += 1

    def new_stream(self, stream_id: int, request: Request, send_window: int) -> Stream:
        stream = RecordedStream(self, stream_id, request, send_window)
        self.made[stream_id] = stream
        return stream

    def on_data(self, stream: RecordedStream, content: bytes, ended: bool) -> None:
        """For tests that answer."""

    def take(self) -> list[tuple[Any, ...]]:
        events, self.events = self.events, []
        return events


@final
class Peer:
    """A client of one engine. Time stands still unless ``now`` is moved."""

    def __init__(
        self, recorder: Recorder | None = None, *, max_streams: int = 100, settings: bool = True
    ) -> None:
        self.recorder = recorder if recorder is not None else Recorder()
        self.now = 1000.0
        self.engine = Engine(self.recorder, SHAPE, max_streams, 5.0, self.now)
        if settings:
            self.raw(frames.CLIENT_PREFACE + frames.settings_frame({}))
            self.received()

    def raw(self, data: bytes) -> None:
        self.engine.receive(data, self.now)

    def frame(self, kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> None:
        self.raw(frames.frame(kind, flags, stream_id, payload))

    def open(
        self, stream_id: int, *, ended: bool = False, fields: list[tuple[str, str]] | None = None
    ) -> Stream:
        flags = END_HEADERS | (END_STREAM if ended else 0)
        self.frame(frames.HEADERS, flags, stream_id, REQUEST_BLOCK if fields is None else block(fields))
        return self.recorder.made[stream_id]

    def send(self, stream_id: int, content: bytes = b"", *, ended: bool = False) -> None:
        self.frame(frames.DATA, END_STREAM if ended else 0, stream_id, content)

    def window(self, stream_id: int, increment: int) -> None:
        self.frame(frames.WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))

    def settings(self, values: dict[int, int]) -> None:
        self.raw(frames.settings_frame(values))

    def received(self) -> list[Frame]:
        """What the engine has to say, taken as a transport takes it."""
        data = b"".join(self.engine.out)
        self.engine.out.clear()
        self.engine.flushed(self.engine.paused)
        self.engine.check_invariants()
        return parse_frames(data)

    def texts(self) -> list[str]:
        return [frame.text for frame in self.received()]

    def outcome(self) -> str:
        """The first error the engine answers with: "stream N", "connection N" or "" (N: the code)."""
        for frame in self.received():
            if frame.kind == frames.GOAWAY:
                assert self.engine.terminated
                return f"connection {frame.code}"
            if frame.kind == frames.RST_STREAM:
                return f"stream {frame.code}"
        assert not self.engine.terminated
        return ""
