"""Whole conversations with the ``h2`` package as the client, cut into random pieces on their way."""

from dataclasses import dataclass, field
from typing import Any, Final, final

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum.rpc import frames
from kvorum.rpc.http2 import Engine
from tests.rpc.engine_kit import SHAPE, RecordedStream, Recorder

NAMES: Final = st.sampled_from(["x-a", "x-b", "grpc-timeout", "authorization", "x-trace-bin"])
VALUES: Final = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)


@dataclass(frozen=True)
class Call:
    """What the client does on one stream, and what the server answers."""

    metadata: list[tuple[str, str]]
    sizes: list[int]
    trailers: bool
    reset_after: int | None
    answer_size: int
    padding: int | None

    @property
    def chunks(self) -> list[bytes]:
        return [
            bytes(range(97, 97 + number + 1)) * (size // (number + 1))
            for number, size in enumerate(self.sizes)
        ]

    @property
    def answer(self) -> bytes:
        return b"0123456789" * (self.answer_size // 10)


CALLS: Final = st.builds(
    Call,
    metadata=st.lists(st.tuples(NAMES, VALUES), max_size=4),
    sizes=st.lists(st.integers(0, 2000) | st.just(15_000), max_size=4),
    trailers=st.booleans(),
    reset_after=st.none() | st.integers(0, 4),
    answer_size=st.integers(0, 100) | st.just(200_000),
    padding=st.none() | st.integers(0, 255),
)


@final
class Echo(Recorder):
    """Answers each stream when the client is done with it; takes every byte at once."""

    def __init__(self, calls: list[Call]) -> None:
        super().__init__()
        self.calls = calls
        self.engine: Engine | None = None
        self.heard: dict[int, bytes] = {}
        self.finished: set[int] = set()

    def on_data(self, stream: RecordedStream, content: bytes, ended: bool) -> None:
        assert self.engine is not None
        self.heard[stream.id] = self.heard.get(stream.id, b"") + content
        self.engine.consumed(stream, len(content))
        if ended:
            self.finished.add(stream.id)
            self.engine.respond(stream, self.calls[stream.id // 2].answer)


@dataclass
class Got:
    """What the client heard of one stream."""

    headers: list[tuple[Any, Any]] = field(default_factory=list)
    trailers: list[tuple[Any, Any]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False


@final
class Conversation:
    """An h2 client and an engine with a wire between them."""

    def __init__(self, calls: list[Call], cuts: list[int], client_settings: dict[int, int]) -> None:
        self.calls = calls
        self.cuts = cuts or [1 << 20]
        self.cut = 0
        self.echo = Echo(calls)
        self.engine = Engine(self.echo, SHAPE, 100, 5.0, 0.0)
        self.echo.engine = self.engine
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.client.initiate_connection()
        self.client.update_settings({SettingCodes(key): value for key, value in client_settings.items()})
        self.got: dict[int, Got] = {}
        self.acks = 0
        self.exchange()

    def pieces(self, data: bytes) -> list[bytes]:
        out = []
        while data:
            size = self.cuts[self.cut % len(self.cuts)]
            self.cut += 1
            out.append(data[:size])
            data = data[size:]
        return out

    def exchange(self) -> None:
        """Carry bytes both ways until nobody has any."""
        while True:
            up = self.client.data_to_send()
            for piece in self.pieces(up):
                self.engine.receive(piece, 0.0)
            assert not self.engine.terminated, self.engine.why
            down = b"".join(self.engine.out)
            self.engine.out.clear()
            self.engine.flushed(False)
            self.engine.check_invariants()
            if not up and not down:
                return
            for piece in self.pieces(down):
                for event in self.client.receive_data(piece):
                    self.hear(event)

    def hear(self, event: Any) -> None:
        if isinstance(event, h2.events.PingAckReceived):
            self.acks += 1
        stream_id = getattr(event, "stream_id", None)
        if not stream_id:
            return
        got = self.got.setdefault(stream_id, Got())
        if isinstance(event, h2.events.ResponseReceived):
            got.headers = list(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            got.trailers = list(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            got.body += event.data
            if event.flow_controlled_length:
                self.client.acknowledge_received_data(event.flow_controlled_length, stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            got.ended = True

    def play(self) -> None:
        """All calls, their parts interleaved; then whatever flows on its own."""
        steps = [self.steps(number, call) for number, call in enumerate(self.calls)]
        while steps:
            for step in list(steps):
                if next(step, None) is None:
                    steps.remove(step)
                elif self.cuts[self.cut % len(self.cuts)] % 2:
                    self.exchange()
        self.client.ping(b"12345678")
        self.exchange()

    def steps(self, number: int, call: Call) -> Any:
        stream_id = 2 * number + 1
        last = not call.chunks and not call.trailers
        self.client.send_headers(stream_id, [*_REQUEST, *call.metadata], end_stream=last)
        yield "headers"
        for index, chunk in enumerate(call.chunks):
            if call.reset_after == index and not last:
                self.client.reset_stream(stream_id, frames.CANCEL)
                return
            last = index == len(call.chunks) - 1 and not call.trailers
            padding = call.padding if len(chunk) + 256 < 16_384 else None
            self.client.send_data(stream_id, chunk, end_stream=last, pad_length=padding)
            yield "data"
            self.exchange()
        if call.trailers:
            self.client.send_headers(stream_id, [("x-sum", "1")], end_stream=True)
            yield "trailers"


_REQUEST: Final = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/svc/Method"),
    (":authority", "test"),
    ("te", "trailers"),
]
SETTINGS: Final = st.fixed_dictionaries(
    {},
    optional={
        frames.SETTINGS_HEADER_TABLE_SIZE: st.sampled_from([0, 100, 4096, 65_536]),
        frames.SETTINGS_INITIAL_WINDOW_SIZE: st.sampled_from([1000, 65_535, 1 << 20]),
        frames.SETTINGS_MAX_FRAME_SIZE: st.sampled_from([16_384, 100_000]),
        frames.SETTINGS_ENABLE_PUSH: st.just(0),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(CALLS, min_size=1, max_size=6),
    st.lists(st.integers(1, 3) | st.integers(1, 40_000), max_size=6),
    SETTINGS,
)
def test_both_sides_hear_what_the_other_said(
    calls: list[Call], cuts: list[int], client_settings: dict[int, int]
) -> None:
    if cuts and max(cuts) < 40:
        cuts = [*cuts, 5000]  # some pieces of one byte, not 200,000 of them
    talk = Conversation(calls, cuts, client_settings)
    talk.play()
    assert talk.acks == 1
    assert not talk.engine.streams
    for number, call in enumerate(calls):
        stream_id = 2 * number + 1
        reset = call.reset_after is not None and call.reset_after < len(call.chunks)
        assert (stream_id in talk.echo.finished) is not reset
        request = talk.echo.made[stream_id].request
        assert request.fields == [("te", "trailers"), *call.metadata]
        if reset:
            assert ("aborted", stream_id, frames.CANCEL) in talk.echo.events
            continue
        assert talk.echo.heard[stream_id] == b"".join(call.chunks)
        got = talk.got[stream_id]
        assert got.ended
        assert got.body == b"\0" + len(call.answer).to_bytes(4, "big") + call.answer
        assert got.headers[0] == (b":status", b"200")
        assert got.trailers == [(b"grpc-status", b"0")]


def test_a_repeated_header_block_is_decoded_once_until_the_table_changes() -> None:
    calls = [Call([("x-a", "1")], [1], False, None, 10, None)] * 20
    talk = Conversation(calls, [], {})
    talk.play()
    prepared = talk.echo.prepared
    assert prepared <= 3  # h2 puts fields into the table at first, then refers to them
    other = Conversation([*calls, Call([("x-b", "2")], [1], False, None, 10, None), *calls], [], {})
    other.play()
    assert prepared < other.echo.prepared <= prepared + 4
