"""A program's watch streams on one server, and how the harness knows that all that is due has been delivered.

Nothing here waits for time to pass. In etcd 3.5.1 the responses of a stream to watches in step with the
store leave in the order of revisions, so a watch of the harness's own on each stream, on a key that it
writes, shows that everything before has been sent (a progress response does not: etcd may let it overtake
events). Watches that begin in the past are brought up in passes over all of them; so once a later watch
from the past has had its event, earlier ones have been looked at, and the next write comes after them.
"""

from typing import Final, final

from kvorum.proto import rpc_pb2 as pb
from tests.differential import normal
from tests.differential.streams import WatchStream
from tests.differential.transcript import MARKER, Item, transcribe
from tests.support.client import Client

MARKER_ID: Final = 1 << 40
"""The harness's own watch on every stream; programs give smaller IDs."""

PROGRESS_ID: Final = -1
"""The watch ID of an answer to a progress request."""


@final
class ProgramStream:
    """One stream of the program, with the marker's watch on it."""

    def __init__(self, client: Client) -> None:
        self._stream: Final = WatchStream(client)
        self._stream.create(watch_id=MARKER_ID, key=MARKER)
        self._stream.wait(lambda response: response.created, "the marker's watch")

    def create(self, request: pb.WatchCreateRequest) -> pb.WatchResponse:
        """Create a watch; returns the answer to it."""
        since = len(self._stream.responses)
        self._stream.send(pb.WatchRequest(create_request=request))
        at = self._stream.wait(lambda response: response.created, f"the answer to {request}", since)
        return self._stream.responses[at]

    def exchange(self, *requests: pb.WatchRequest) -> list[pb.WatchResponse]:
        """Send requests and then one for progress; returns the answers that are no events."""
        since = len(self._stream.responses)
        for request in (*requests, pb.WatchRequest(progress_request=pb.WatchProgressRequest())):
            self._stream.send(request)
        at = self._stream.wait(
            lambda response: response.watch_id == PROGRESS_ID and not response.created,
            "a progress response",
            since,
        )
        return [answer for answer in self._stream.responses[since : at + 1] if not answer.events]

    def wait_marker(self, revision: int) -> None:
        """Wait until the write of the marker at ``revision`` has been delivered."""
        self._stream.wait(
            lambda response: (
                response.watch_id == MARKER_ID
                and any(event.kv.mod_revision >= revision for event in response.events)
            ),
            f"the event of revision {revision} on a watch that sees it",
        )

    def half_close(self) -> None:
        """Say that no more requests come."""
        self._stream.half_close()

    def close(self) -> None:
        """Cancel the stream."""
        self._stream.close()

    def transcript(self, base: int) -> dict[int, list[Item]]:
        """Return what was delivered on each watch ID so far."""
        told = transcribe(
            [pb.WatchResponse.FromString(each.SerializeToString()) for each in list(self._stream.responses)],
            base,
        )
        del told[MARKER_ID]
        return told


@final
class Control:
    """A stream of the harness's own: it sees every event, and follows watches from the past."""

    def __init__(self, client: Client) -> None:
        self._stream: Final = WatchStream(client)
        self._stream.create(watch_id=1, key=b"\0", range_end=b"\0")
        self._stream.wait(lambda response: response.created, "the watch on everything")
        self._followers = 1

    @property
    def position(self) -> int:
        """How much has been seen."""
        return len(self._stream.responses)

    def wait_event(self, key: bytes, kind: int, since: int) -> int:
        """Wait for a put (0) or delete (1) of a key after ``position``; returns its revision."""
        found: list[int] = []

        def wanted(response: pb.WatchResponse) -> bool:
            found.extend(
                event.kv.mod_revision
                for event in response.events
                if event.kv.key == key and event.type == kind
            )
            return bool(found)

        self._stream.wait(wanted, f"event {kind} of {key!r}", since)
        return found[0]

    def follow(self, revision: int) -> None:
        """Watch the marker from its write at ``revision`` and wait for that event."""
        self._followers += 1
        mine = self._followers
        since = self.position
        self._stream.create(watch_id=mine, key=MARKER, start_revision=revision)
        self._stream.wait(
            lambda response: response.watch_id == mine and bool(response.events),
            "an event of the past",
            since,
        )
        self._stream.send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=mine)))
        self._stream.wait(
            lambda response: response.watch_id == mine and response.canceled, "the end of a watch", since
        )

    def forget(self) -> None:
        """Let go of what was seen."""
        self._stream.forget()

    def close(self) -> None:
        """Cancel the stream."""
        self._stream.close()


@final
class Watching:
    """All of a program's streams on one server."""

    def __init__(self, client: Client) -> None:
        self._client: Final = client
        self._streams: Final[dict[int, ProgramStream]] = {}
        self._half_closed: Final[list[ProgramStream]] = []
        self._control: Control | None = None
        self._behind = False  # a watch from the past may not have come up to the present

    @property
    def control(self) -> Control:
        """The harness's own stream, opened when first needed."""
        if self._control is None:
            self._control = Control(self._client)
        return self._control

    @property
    def _open(self) -> list[ProgramStream]:
        return [*self._streams.values(), *self._half_closed]

    def stream(self, number: int) -> ProgramStream:
        """Return a stream of the program, opened when first needed."""
        if number not in self._streams:
            self._streams[number] = ProgramStream(self._client)
        return self._streams[number]

    def create(self, number: int, request: pb.WatchCreateRequest) -> pb.WatchResponse:
        """Create a watch on a stream; returns the answer."""
        answer = self.stream(number).create(request)
        copy = pb.WatchResponse.FromString(answer.SerializeToString())
        if request.start_revision != 0 and request.start_revision <= copy.header.revision:
            self._behind = True
        normal.without_ids(copy)
        return copy

    def exchange(self, number: int, *requests: pb.WatchRequest) -> list[pb.WatchResponse]:
        """Cancel or ask for progress once all that is due has been delivered; returns the answers."""
        stream = self.stream(number)
        self.settle()
        answers = []
        for answer in stream.exchange(*requests):
            copy = pb.WatchResponse.FromString(answer.SerializeToString())
            normal.without_ids(copy)
            answers.append(copy)
        return answers

    def settle(self) -> None:
        """Wait until every watch has been sent all that has happened. Raises StuckError."""
        if not self._open:
            return
        if self._behind:
            self.control.follow(self._write_marker())
            self._behind = False
        revision = self._write_marker()
        for stream in self._open:
            stream.wait_marker(revision)

    def half_close(self, number: int) -> object:
        """Send no more requests on a stream: etcd goes on to deliver to its watches."""
        if number not in self._streams:
            return "not open"
        stream = self._streams.pop(number)
        stream.half_close()
        self._half_closed.append(stream)
        return "half-closed"

    def end(self, base: int) -> object:
        """End the program's streams; returns what they delivered."""
        self.settle()
        told = {number: stream.transcript(base) for number, stream in sorted(self._streams.items())}
        half_closed = [stream.transcript(base) for stream in self._half_closed]
        self.abandon()
        return told, half_closed

    def abandon(self) -> None:
        """End the program's streams."""
        for stream in self._open:
            stream.close()
        self._streams.clear()
        self._half_closed.clear()
        self._behind = False
        if self._control is not None:
            self._control.forget()

    def close(self) -> None:
        """End everything."""
        self.abandon()
        if self._control is not None:
            self._control.close()

    def _write_marker(self) -> int:
        return self._client.put(MARKER, b"").header.revision
