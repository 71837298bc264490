"""What a watch delivered, told so that only how it was batched is left out.

Responses are taken apart into revisions: a revision's events belong together, in order, and into one response
unless that response says that it is a fragment. What breaks a promise of the Watch API becomes a line of its
own and so a difference, even if both servers did it.
"""

from typing import Final, final

from kvorum.proto import kv_pb2 as kv
from kvorum.proto import rpc_pb2 as pb
from tests.differential import normal

MARKER: Final = b"\xfe\xfe-marker"
"""A key that the harness writes to see how far a server has come; no program names it."""

Item = tuple[object, ...]


@final
class Transcript:
    """One watch ID of one stream."""

    def __init__(self, base: int) -> None:
        self.items: Final[list[Item]] = []
        self._base: Final = base
        self._last_revision = 0
        self._unfinished = False  # the last response was a fragment that others follow

    def add(self, response: pb.WatchResponse) -> None:
        """Append a response. It may be changed."""
        if response.created or response.canceled or not response.events:
            self._add_control(response)
        else:
            self._add_events(response)

    def _add_control(self, response: pb.WatchResponse) -> None:
        if response.created:
            self._last_revision = 0
        normal.without_ids(response)
        self.items.append(("control", response))

    def _add_events(self, response: pb.WatchResponse) -> None:
        if response.events[0].kv.mod_revision == self._last_revision and not self._unfinished:
            self.items.append(("revision split over two responses", self._last_revision - self._base))
        for event in response.events:
            revision = event.kv.mod_revision
            if revision < self._last_revision:
                self.items.append(("delivered again or late", revision - self._base))
            if revision > response.header.revision:
                self.items.append(("event newer than its header", revision - self._base))
            self._last_revision = revision
            if event.kv.key != MARKER:
                self._add_event(revision - self._base, event)
        self._unfinished = response.fragment

    def _add_event(self, revision: int, event: kv.Event) -> None:
        if self.items and self.items[-1][0] == revision:
            self.items[-1] = (*self.items[-1], event)
        else:
            self.items.append((revision, event))


def transcribe(responses: list[pb.WatchResponse], base: int) -> dict[int, list[Item]]:
    """Take the responses of a stream apart by watch ID."""
    transcripts: dict[int, Transcript] = {}
    for response in responses:
        transcripts.setdefault(response.watch_id, Transcript(base)).add(response)
    return {watch_id: transcript.items for watch_id, transcript in sorted(transcripts.items())}
