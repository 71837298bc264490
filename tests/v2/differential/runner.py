"""Plays a program on both servers, compares every answer, shrinks a program that makes them differ."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, final

from tests.v2.differential.normal import normal, normal_body
from tests.v2.differential.programs import CLIENTS
from tests.v2.differential.steps import FORM, Ask, Outlive, Program, Step, Watch, absolute
from tests.v2.differential.wire import Answer, Connection

_EXPIRY_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.05
_QUIET_SECONDS: Final = 0.2


@final
class Side:
    """One server: its connections, and where its index stood when the program began."""

    def __init__(self, name: str, port: int) -> None:
        self.name: Final = name
        self._port: Final = port
        self._clients: Final = [Connection(port) for _ in range(CLIENTS)]
        self._watches: list[tuple[Watch, Connection, Answer]] = []
        self._base = 0

    def play(self, root: str, steps: Sequence[Step]) -> list[object]:
        """Run a program; returns what can be compared of each step, and of each long poll afterwards."""
        path = f"/v2/keys/{root}".encode()
        begun = self._clients[0].ask("PUT", path, (FORM,), b"dir=true")
        self._base = int(begun.header("x-etcd-index") or 0)
        answers: list[object] = [normal(begun, self._base, is_sorted=True)]
        answers += [self._step(step) for step in steps]
        ended = self._clients[0].ask("DELETE", path + b"?recursive=true&dir=true", (), b"")
        answers.append(normal(ended, self._base, is_sorted=True))
        answers += self._collect(root)
        return answers

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()
        for _, connection, _ in self._watches:
            connection.close()

    def _step(self, step: Step) -> object:
        if isinstance(step, Ask):
            target = absolute(step.target, self._base)
            body = absolute(step.body, self._base).encode("utf-8", "surrogateescape")
            answer = self._clients[step.client].ask(step.method, target.encode(), step.headers, body)
            return normal(answer, self._base, is_sorted="sorted=true" in target)
        if isinstance(step, Watch):
            connection = Connection(self._port)
            connection.send("GET", absolute(step.target, self._base).encode(), (), b"")
            head = connection.read_head()
            self._watches.append((step, connection, head))
            return normal(head, self._base, is_sorted=True)
        return self._outlive(step)

    def _outlive(self, step: Outlive) -> object:
        """Wait for expiries without a trace in the store."""
        deadline = time.monotonic() + _EXPIRY_SECONDS
        for target in step.targets:
            while self._clients[0].ask("GET", target.encode(), (), b"").status != 404:
                if time.monotonic() > deadline:
                    return f"{target} does not expire"
                time.sleep(_LOOK_SECONDS)
        return "expired"

    def _collect(self, root: str) -> list[object]:
        """What the long polls delivered; those that may wait for ever are over once all is quiet."""
        polls = [LongPoll(root, *watch) for watch in self._watches]
        self._watches = []
        quiet_since = time.monotonic()
        while not all(poll.ended for poll in polls) and time.monotonic() - quiet_since < _QUIET_SECONDS:
            for poll in polls:
                while not poll.ended and poll.connection.has_more():
                    poll.read(self._base)
                    quiet_since = time.monotonic()
            time.sleep(_LOOK_SECONDS / 10)
        for poll in polls:
            poll.connection.close()
        return [poll.outcome() for poll in polls]


@final
class LongPoll:
    """A watch whose program is over."""

    def __init__(self, root: str, watch: Watch, connection: Connection, head: Answer) -> None:
        self.watch: Final = watch
        self.connection: Final = connection
        self.events: Final[list[object]] = []
        self.ended = False
        self._head: Final = head
        self._root: Final = root

    def outcome(self) -> object:
        """What can be compared. Of a stream that begins in the history etcd sends one event and falls silent;
        Kvorum goes on.
        """
        if "stream=true" in self.watch.target and "waitIndex" in self.watch.target:
            return self.watch.target, self.events[:1]
        return self.watch.target, self.ended, self.events

    def read(self, base: int) -> None:
        """Read an event, or the end."""
        piece = self.connection.read_piece(self._head)
        chunked = self._head.header("transfer-encoding") is not None
        self.ended = not piece or not chunked or _is_the_end(piece, self._root)
        if piece:
            self.events.append(normal_body(piece, base, is_sorted=True))


def _is_the_end(piece: bytes, root: str) -> bool:
    """Whether this is the deletion of the program's directory, the last that a stream shows."""
    event = json.loads(piece)
    return bool(event["action"] == "delete" and event["node"]["key"] == f"/{root}")


@final
class Pair:
    """Two servers that get the same programs; both are replaced after one that did not end."""

    def __init__(self, start: Callable[[], tuple[Side, Side]]) -> None:
        self._start: Final = start
        self._sides = start()
        self._threads: Final = ThreadPoolExecutor(2, "side")

    def run(self, root: str, program: Sequence[Step]) -> str | None:
        """Run a program; returns what differed, or None."""
        futures = [self._threads.submit(side.play, root, program) for side in self._sides]
        try:
            first, second = (future.result() for future in futures)
        except (OSError, ValueError, KeyError) as error:
            failed = [
                side.name for side, future in zip(self._sides, futures, strict=True) if future.exception()
            ]
            self._replace()
            return f"did not end: {failed}: {error!r}"
        for number, (one, other) in enumerate(zip(first, second, strict=False)):
            if one != other:
                return self._told(program, number, one, other)
        return None

    def close(self) -> None:
        """End what is open on both."""
        for side in self._sides:
            side.close()
        self._threads.shutdown()

    def _replace(self) -> None:
        for side in self._sides:
            side.close()
        self._sides = self._start()

    def _told(self, program: Sequence[Step], number: int, *answers: object) -> str:
        at = number - 1
        what = f"step {at}: {program[at]}" if 0 <= at < len(program) else f"what came at the end ({at})"
        done = "\n".join(f"  {i}: {step}" for i, step in enumerate(program[: at + 1]))
        sides = "\n".join(f"{side.name}: {answer}" for side, answer in zip(self._sides, answers, strict=True))
        return f"{done}\n{what} differs\n{sides}"


def shrunk(pair: Pair, root: str, program: Program) -> list[Step]:
    """Leave out steps as long as the rest still makes them differ."""
    left = list(program)
    size = max(len(left) // 2, 1)
    while size:
        at = 0
        while at < len(left):
            fewer = left[:at] + left[at + size :]
            if pair.run(root, fewer) is not None:
                left = fewer
            else:
                at += size
        size //= 2
    return left
