"""Steps of the Watch service: creates, cancels, progress, ends and resumes on a few streams."""

from dataclasses import dataclass
from typing import Final

from kvorum.proto import rpc_pb2 as pb
from tests.differential.programs.draw import ENDS, KEYS, Surface
from tests.differential.side import Side
from tests.differential.steps import Call, Step, text_of

STREAMS: Final = 3
GIVEN_IDS: Final = (1, 2, 3, 5, 1000, -2)
FILTERS: Final = (0, 1, 7)
"""NOPUT, NODELETE, and one that there is none of."""
LARGE: Final = b"L" * 65536


@dataclass(frozen=True)
class CreateWatch:
    """A create request and its answer."""

    stream: int
    request: pb.WatchCreateRequest

    def perform(self, side: Side) -> object:
        return side.watching.create(self.stream, side.placed(self.request))

    def __str__(self) -> str:
        return f"stream {self.stream}: create({text_of(self.request)})"


@dataclass(frozen=True)
class CancelWatch:
    """A cancel request, whose ID may be unknown, and a progress request behind it."""

    stream: int
    watch_id: int

    def perform(self, side: Side) -> object:
        cancel = pb.WatchCancelRequest(watch_id=self.watch_id)
        return side.watching.exchange(self.stream, pb.WatchRequest(cancel_request=cancel))

    def __str__(self) -> str:
        return f"stream {self.stream}: cancel({self.watch_id})"


@dataclass(frozen=True)
class Progress:
    """A progress request, after a request that is none if ``idle``."""

    stream: int
    idle: bool

    def perform(self, side: Side) -> object:
        return side.watching.exchange(self.stream, *([pb.WatchRequest()] if self.idle else []))


@dataclass(frozen=True)
class HalfClose:
    """The client says that it has no more requests; its watches go on."""

    stream: int

    def perform(self, side: Side) -> object:
        return side.watching.half_close(self.stream)


@dataclass(frozen=True)
class ResumeWatch:
    """Cancel a watch and create it again from just after the last event it had."""

    stream: int
    request: pb.WatchCreateRequest

    def perform(self, side: Side) -> object:
        watch_id = self.request.watch_id
        cancel = pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch_id))
        answers = side.watching.exchange(self.stream, cancel)
        seen = side.watching.stream(self.stream).transcript(side.base).get(watch_id, [])
        revisions = [item[0] for item in seen if isinstance(item[0], int)]
        if not revisions:
            return answers, "nothing seen"
        again = pb.WatchCreateRequest()
        again.CopyFrom(self.request)
        again.start_revision = revisions[-1] + 1
        return answers, side.watching.create(self.stream, side.placed(again))

    def __str__(self) -> str:
        return f"stream {self.stream}: resume({text_of(self.request)})"


class Watch(Surface):
    """Draws Watch steps; now and then writes so much that a response is sent in fragments."""

    def step(self) -> Step:
        kinds = ("create", "cancel", "progress", "end", "resume", "large")
        kind = self.random.choices(kinds, (50, 20, 12, 5, 12, 1))[0]
        stream = self.random.randrange(STREAMS)
        if kind == "create":
            return CreateWatch(stream, self._request())
        if kind == "cancel":
            return CancelWatch(stream, self._watch_id())
        if kind == "progress":
            return Progress(stream, self.draw.rarely())
        if kind == "end":
            return HalfClose(stream)
        if kind == "resume":
            request = self._request()
            request.watch_id = self.random.choice(GIVEN_IDS)
            return ResumeWatch(stream, request)
        return self._large()

    def _watch_id(self) -> int:
        return self.random.choice((0, 1, 2, 3, 4, *GIVEN_IDS))

    def _request(self) -> pb.WatchCreateRequest:
        request = pb.WatchCreateRequest(
            key=self.draw.key(),
            range_end=self.random.choice(ENDS) if self.draw.often() else b"",
            prev_kv=self.draw.often(),
            fragment=self.draw.often(),
            progress_notify=self.draw.rarely(),
        )
        if self.random.random() < 0.2:
            request.key, request.range_end = b"\0", b"\0"
        if self.draw.often():
            request.start_revision = self.draw.any_revision()
        if self.random.random() < 0.2:
            for _ in range(self.random.randint(1, 2)):
                self._add_filter(request, self.random.choice(FILTERS))
        if self.random.random() < 0.4:
            request.watch_id = self.random.choice(GIVEN_IDS)
        return request

    @staticmethod
    def _add_filter(request: pb.WatchCreateRequest, number: int) -> None:
        request.MergeFromString(b"\x28" + bytes((number,)))  # field 5; the type of the list knows no others

    def _large(self) -> Step:
        """Return a transaction of 1 MiB: a few of them are more than one response takes."""
        self.draw.revision += 1
        puts = [
            pb.RequestOp(
                request_put=pb.PutRequest(key=b"%s/%d" % (self.random.choice(KEYS), at), value=LARGE)
            )
            for at in range(16)
        ]
        return Call("etcdserverpb.KV/Txn", pb.TxnRequest(success=puts))
