"""Frames that steer a connection and carry no request: windows, resets, settings, pings, GOAWAY.

All of them cost us work and their sender nothing, so each is paid for from a credit (``floods.py``).
"""

from collections import deque
from typing import Final

from kvorum import limits
from kvorum.rpc import frames
from kvorum.rpc.floods import Credit, PingPolicy
from kvorum.rpc.frames import (
    DEFAULT_MAX_FRAME_SIZE,
    DEFAULT_WINDOW,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    MAX_WINDOW,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    ConnectionFailed,
)
from kvorum.rpc.outbound import Outbound
from kvorum.rpc.streams import OPEN, ResponseShape, Stream

_GOAWAY_PING: Final = b"drained?"
"""Payload of the PING that follows a first GOAWAY: its answer shows that the client has seen the GOAWAY."""
_KEEPALIVE_PING: Final = b"alive???"


class Control(Outbound):
    """A connection's state besides its requests.

    ``last_id`` is the newest stream the client opened, ``final_id`` the last one handled after GOAWAY;
    ``gaps`` are ranges of ids it skipped.
    ``terminated``: a connection error was sent (``why``) or the transport is gone.
    """

    __slots__ = (
        "draining", "final_id", "gaps", "last_id", "now", "pings", "requests", "resets", "seen_answers",
        "seen_useful", "terminated", "useless", "why",
    )  # fmt: skip

    def __init__(self, shape: ResponseShape, keepalive_min_seconds: float, now: float) -> None:
        super().__init__(shape)
        self.now = now
        self.last_id = 0
        self.gaps: Final[deque[tuple[int, int]]] = deque(maxlen=limits.REMEMBERED_GAPS)
        self.requests = 0
        self.useless: Final = Credit(limits.USELESS_FRAME_CREDIT, limits.USELESS_FRAMES_PER_SECOND, now)
        self.resets: Final = Credit(limits.RESET_CREDIT, limits.RESETS_PER_SECOND, now)
        self.seen_useful = 0
        self.seen_answers = 0
        self.pings: Final = PingPolicy(keepalive_min_seconds)
        self.draining = False
        self.final_id: int = frames.MAX_STREAM_ID
        self.terminated = False
        self.why = ""

    def keepalive_ping(self) -> None:
        """Ask whether the client is there; whatever it sends then is an answer."""
        self._control(frames.frame(frames.PING, 0, 0, _KEEPALIVE_PING))

    def goaway_begin(self) -> None:
        """First phase (RFC 9113 6.8): no new streams please. The client's PING answer starts the second."""
        if not self.draining and not self.terminated:
            self.draining = True
            self._control(frames.goaway_frame(frames.MAX_STREAM_ID, frames.NO_ERROR))
            self._control(frames.frame(frames.PING, 0, 0, _GOAWAY_PING))

    def goaway_final(self) -> None:
        """Second phase: names the last stream that is handled."""
        if self.draining and self.final_id == frames.MAX_STREAM_ID and not self.terminated:
            self.final_id = self.last_id
            self._control(frames.goaway_frame(self.last_id, frames.NO_ERROR))

    @property
    def drained(self) -> bool:
        """Whether the second phase is over: every stream that will be handled has been."""
        return self.final_id != frames.MAX_STREAM_ID and not self.streams

    def terminate(self, code: int, reason: str) -> None:
        """Connection error (RFC 9113 5.4.1): GOAWAY, after which the shell closes; every stream is told."""
        if self.terminated:
            return
        self.terminated = True
        self.why = reason
        self.out.append(frames.goaway_frame(self.last_id, code, reason.encode()))
        self.lost()

    def lost(self) -> None:
        """The transport is gone, or about to be: tell every stream."""
        self.terminated = True
        streams = list(self.streams.values())
        for stream in streams:
            self._close(stream)
        for stream in streams:
            stream.aborted(frames.CANCEL)

    def consumed(self, stream: Stream, size: int) -> None:
        """``size`` bytes of content are no longer held: give them back to the stream's window, in batches."""
        incoming = stream.incoming
        if stream.state != OPEN or incoming is None:
            return
        incoming.unopened += size
        if incoming.unopened > DEFAULT_WINDOW // 2:
            self.grant(stream, incoming.unopened)
            incoming.unopened = 0

    def expect(self, stream: Stream, missing: int) -> None:
        """The owner needs ``missing`` bytes before it can consume any: leave none of the window unopened."""
        incoming = stream.incoming
        if incoming is not None and incoming.unopened and incoming.window < missing:
            self.grant(stream, incoming.unopened)
            incoming.unopened = 0

    def grant(self, stream: Stream, size: int) -> None:
        """Let the client send ``size`` more bytes on the stream."""
        incoming = stream.incoming
        if stream.state == OPEN and incoming is not None and size > 0:
            incoming.window += size
            self._control(frames.window_update_frame(stream.id, size))

    def _steer(self, kind: int, data: bytes, start: int, stop: int, flags: int, stream_id: int) -> None:
        """Any frame that is neither DATA nor part of a header block."""
        length = stop - start
        if kind == frames.WINDOW_UPDATE:
            self._window_update(data, start, length, stream_id)
        elif kind == frames.RST_STREAM:
            self._rst_stream(data, start, length, stream_id)
        elif kind == frames.PING:
            self._ping(data[start:stop], flags, stream_id)
        elif kind == frames.SETTINGS:
            self._settings(data[start:stop], flags, stream_id)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFailed(PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        elif kind == frames.PRIORITY:
            self._priority(length, stream_id)
        elif kind == frames.GOAWAY:
            self._useless()
            if stream_id:
                raise ConnectionFailed(PROTOCOL_ERROR, "GOAWAY on a stream")
            if length < 8:
                raise ConnectionFailed(FRAME_SIZE_ERROR, "GOAWAY of wrong size")
        else:
            self._useless()  # 4.1: unknown types are ignored

    def _late(self, stream_id: int, name: str) -> None:
        """A frame on a stream that is not open: idle, closed, or reset by us a moment ago (RFC 9113 5.1)."""
        if stream_id > self.last_id or not stream_id & 1:
            raise ConnectionFailed(PROTOCOL_ERROR, f"{name} on an idle stream")
        self._useless()
        if stream_id not in self.reset_ids and stream_id <= self.final_id:
            self._control(frames.rst_stream_frame(stream_id, STREAM_CLOSED))
            self._remember_reset(stream_id)

    def _late_headers(self, stream_id: int) -> None:
        """A header block on a stream that is not open any more, or never was (RFC 9113 5.1, 5.1.1)."""
        if stream_id in self.reset_ids or stream_id > self.final_id:
            self._useless()
            return
        if not stream_id & 1 or any(low <= stream_id <= high for low, high in self.gaps):
            raise ConnectionFailed(PROTOCOL_ERROR, "HEADERS on a stream id lower than before")
        raise ConnectionFailed(STREAM_CLOSED, "HEADERS on a closed stream")

    def _window_update(self, data: bytes, start: int, length: int, stream_id: int) -> None:
        """RFC 9113 6.9."""
        if length != 4:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "WINDOW_UPDATE of wrong size")
        self._useless()
        increment = frames.U32.unpack_from(data, start)[0] & 0x7FFFFFFF
        if stream_id == 0:
            self.send_window += increment
            if not increment:
                raise ConnectionFailed(PROTOCOL_ERROR, "WINDOW_UPDATE by zero")
            if self.send_window > MAX_WINDOW:
                raise ConnectionFailed(FLOW_CONTROL_ERROR, "connection window too large")
            self._refresh_room()
            self._pump()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id > self.last_id or not stream_id & 1:
                raise ConnectionFailed(PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
            return
        if not increment:
            self._stream_error(stream_id, PROTOCOL_ERROR)
            return
        stream.send_window += increment
        if stream.send_window > MAX_WINDOW:
            self._stream_error(stream_id, FLOW_CONTROL_ERROR)
            return
        if stream.outgoing is not None:
            self._enqueue(stream, stream.outgoing)
            self._pump()

    def _rst_stream(self, data: bytes, start: int, length: int, stream_id: int) -> None:
        """RFC 9113 6.4."""
        if length != 4:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "RST_STREAM of wrong size")
        if stream_id == 0:
            raise ConnectionFailed(PROTOCOL_ERROR, "RST_STREAM on stream 0")
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id > self.last_id or not stream_id & 1:
                raise ConnectionFailed(PROTOCOL_ERROR, "RST_STREAM on an idle stream")
            self._useless()
            return
        self._close(stream)
        stream.aborted(frames.U32.unpack_from(data, start)[0])
        self._spend_reset()

    def _priority(self, length: int, stream_id: int) -> None:
        """RFC 9113 6.3: checked for its size, otherwise without meaning."""
        self._useless()
        if stream_id == 0:
            raise ConnectionFailed(PROTOCOL_ERROR, "PRIORITY on stream 0")
        if length != 5:
            if stream_id not in self.streams:
                raise ConnectionFailed(FRAME_SIZE_ERROR, "PRIORITY of wrong size")
            self._stream_error(stream_id, FRAME_SIZE_ERROR)

    def _ping(self, payload: bytes, flags: int, stream_id: int) -> None:
        """RFC 9113 6.7, and the keepalive policy of gRPC."""
        if stream_id:
            raise ConnectionFailed(PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "PING of wrong size")
        self._useless()
        if flags & frames.ACK:
            if payload == _GOAWAY_PING:
                self.goaway_final()
            return
        self._control(frames.frame(frames.PING, frames.ACK, 0, payload))
        if not self.pings.allows(len(self.streams), self.answers, self.now):
            raise ConnectionFailed(ENHANCE_YOUR_CALM, "too_many_pings")

    def _settings(self, payload: bytes, flags: int, stream_id: int) -> None:
        """RFC 9113 6.5."""
        if stream_id:
            raise ConnectionFailed(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFailed(FRAME_SIZE_ERROR, "SETTINGS ack with content")
            self._useless()
            return
        if len(payload) % 6:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "SETTINGS of wrong size")
        self._useless(1 + len(payload) // 6)
        for key, value in frames.SETTING.iter_unpack(payload):
            self._setting(key, value)
        self._control(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._pump()

    def _setting(self, key: int, value: int) -> None:
        if key == frames.SETTINGS_INITIAL_WINDOW_SIZE:
            self._initial_window(value)
        elif key == frames.SETTINGS_MAX_FRAME_SIZE:
            if not DEFAULT_MAX_FRAME_SIZE <= value <= frames.LARGEST_MAX_FRAME_SIZE:
                raise ConnectionFailed(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
            self.peer_frame_size = value
        elif key == frames.SETTINGS_ENABLE_PUSH:
            if value > 1:
                raise ConnectionFailed(PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH out of range")
        elif key == frames.SETTINGS_HEADER_TABLE_SIZE:
            if value < limits.HEADER_TABLE_SIZE:
                self.plain = (
                    False  # the next header block says that our (unused) table is empty, RFC 7541 4.2
                )
        elif key == frames.SETTINGS_MAX_HEADER_LIST_SIZE:
            self.peer_header_list = value

    def _initial_window(self, value: int) -> None:
        """RFC 9113 6.9.2: the difference applies to every open stream."""
        if value > MAX_WINDOW:
            raise ConnectionFailed(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE too large")
        difference = value - self.initial_send_window
        self.initial_send_window = value
        if not difference:
            return
        self._useless(len(self.streams) // 64)  # work in proportion to the open streams is paid for
        for stream in self.streams.values():
            stream.send_window += difference
            if stream.send_window > MAX_WINDOW:
                raise ConnectionFailed(FLOW_CONTROL_ERROR, "stream window too large")
            if stream.outgoing is not None:
                self._enqueue(stream, stream.outgoing)

    def _refuse(self, stream_id: int, code: int) -> None:
        """Reset a stream that never came to be."""
        self._control(frames.rst_stream_frame(stream_id, code))
        self._remember_reset(stream_id)
        self._spend_reset()

    def _stream_error(self, stream_id: int, code: int) -> None:
        """RFC 9113 5.4.2."""
        stream = self.streams[stream_id]
        self.reset(stream, code)
        stream.aborted(code)
        self._spend_reset()

    def _spend_reset(self) -> None:
        earned = self.answers - self.seen_answers
        self.seen_answers = self.answers
        if not self.resets.spend(1, earned, self.now):
            raise ConnectionFailed(ENHANCE_YOUR_CALM, "too many resets")

    def _useless(self, amount: int = 1) -> None:
        useful = self.answers + self.requests
        earned = (useful - self.seen_useful) * limits.USELESS_FRAMES_PER_USEFUL
        self.seen_useful = useful
        if not self.useless.spend(amount, earned, self.now):
            raise ConnectionFailed(ENHANCE_YOUR_CALM, "too many useless frames")
