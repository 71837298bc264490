"""What the parts that carry messages to and from one peer share."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final

from kvorum.logging import Logger, hex_id
from kvorum.peer.client import PeerClient
from kvorum.peer.figures import PeerFigures
from kvorum.peer.headers import Identity
from kvorum.peer.status import PeerStatus, UrlPicker
from kvorum.peer.surroundings import Surroundings

_T = TypeVar("_T")


class MemberRemovedError(Exception):
    """A peer says that this member was removed from the cluster, for good."""

    def __init__(self) -> None:
        super().__init__("the member has been permanently removed from the cluster")


@final
class Tasks:
    """The tasks at work; one that fails says so."""

    def __init__(self, log: Logger) -> None:
        self._log: Final = log
        self._tasks: Final[set[asyncio.Task[Any]]] = set()

    def spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start a task; it is kept until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def stop(self) -> None:
        """Cancel what is at work and wait for its end."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("peer task failed", error=task.exception())


@final
@dataclass(frozen=True)
class Link:
    """A peer (or remote) and what is needed to talk to it."""

    peer_id: int
    identity: Identity
    surroundings: Surroundings
    log: Logger
    figures: PeerFigures
    tasks: Tasks
    picker: UrlPicker
    status: PeerStatus
    streams: PeerClient
    """For streams, whose connections are used once."""
    posts: PeerClient
    """For everything else."""

    @property
    def name(self) -> str:
        """The peer's id as text."""
        return hex_id(self.peer_id)

    @property
    def local_name(self) -> str:
        """Our own id as text."""
        return hex_id(self.identity.member_id)

    @property
    def fields(self) -> dict[str, object]:
        """Who talks to whom, for the log."""
        return {"local-member-id": self.local_name, "remote-peer-id": self.name}
