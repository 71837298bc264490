"""Long polls: what waits for events of a key, and is told of one or of all that come.

The head of the answer leaves at once, so that a client knows that it is waiting and from where. Events come
while their entry is applied; what they woke is written out at the end of the turn, an event's JSON being made
once for all who get it. A stream whose client does not read keeps its events in the watcher, which closes
when it holds too many; then the stream ends, and the client resumes from the index it has seen.

    began --event--> told --one-shot--> ended
      |                `--stream, client reads--> waits again
      `--client gone--> removed
"""

from collections.abc import Callable
from typing import Final, Protocol, final

from kvorum.api.v2.answers import KEYS, Answers
from kvorum.rpc.http1_types import HttpRequest
from kvorum.server.v2 import V2
from kvorum.v2store.event import Event
from kvorum.v2store.hub import Watcher
from kvorum.v2store.request import V2Request


class CallSoon(Protocol):
    """The event loop's ``call_soon``."""

    def __call__(self, callback: Callable[[], None], /) -> object:
        """Call back at the end of the turn."""


@final
class LongPolls:
    """The long polls that have something to write. Invariant: none stands twice in ``_woken``."""

    def __init__(self, v2: V2, answers: Answers, call_soon: CallSoon) -> None:
        self._v2: Final = v2
        self._answers: Final = answers
        self._call_soon: Final = call_soon
        self._woken: list[LongPoll] = []
        self._last: Event | None = None
        self._last_json = b""

    def begin(self, request: HttpRequest, parsed: V2Request) -> None:
        """Answer a request that waits.

        Raises:
            V2Error: EVENT_INDEX_CLEARED.
        """
        watcher = self._v2.watch(parsed.path, parsed.recursive, parsed.stream, parsed.since)
        poll = LongPoll(self, request, watcher)
        request.on_cancel = watcher.remove
        self._answers.begin_stream(request, watcher.start_index)
        watcher.wake = poll.woken
        if watcher.events or watcher.closed:
            poll.tell()

    def add(self, poll: "LongPoll") -> None:
        """Have a long poll told at the end of the turn."""
        if not self._woken:
            self._call_soon(self._tell)
        self._woken.append(poll)

    def _tell(self) -> None:
        woken, self._woken = self._woken, []
        for poll in woken:
            poll.tell()

    def json(self, event: Event) -> bytes:
        """An event's line; made once for those who get it one after another."""
        if event is not self._last:
            self._last, self._last_json = event, event.to_json(KEYS) + b"\n"
        return self._last_json


@final
class LongPoll:
    """One request that waits."""

    __slots__ = ("_is_woken", "_polls", "_request", "_watcher")

    def __init__(self, polls: LongPolls, request: HttpRequest, watcher: Watcher) -> None:
        self._polls: Final = polls
        self._request: Final = request
        self._watcher: Final = watcher
        self._is_woken = False

    def woken(self) -> None:
        """There are events, or the watcher was closed; called from inside of applying."""
        if not self._is_woken and self._request.on_writable is None:
            self._is_woken = True
            self._polls.add(self)

    def tell(self) -> None:
        """Write what there is, as far as the client reads."""
        self._is_woken = False
        request, watcher, polls = self._request, self._watcher, self._polls
        request.on_writable = None
        while not request.cancelled and (event := watcher.take()) is not None:
            if watcher.closed and not watcher.events:
                self._end(polls.json(event))
                return
            if not request.send(polls.json(event)):
                request.on_writable = self.tell
                return
        if watcher.closed and not request.cancelled:
            self._end(b"")

    def _end(self, last: bytes) -> None:
        self._request.on_cancel = None
        self._request.end(last)
