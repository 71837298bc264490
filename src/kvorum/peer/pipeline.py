"""POSTs of single messages, for a peer without streams and for whoever is not quite a member yet.

At most a few are under way at once; the rest waits in a bounded queue. A message is encoded when its turn
comes. Source of behaviour: etcd ``rafthttp/pipeline.go``.
"""

import asyncio
from collections import deque
from typing import Final, final

from kvorum import limits
from kvorum.logging import hex_id
from kvorum.peer.client import ClientResponse
from kvorum.peer.connection import PeerConnectionError
from kvorum.peer.headers import CLUSTER_ID_MISMATCH, INCOMPATIBLE_VERSION
from kvorum.peer.link import Link, MemberRemovedError
from kvorum.raft.codec import encode_message
from kvorum.raft.types import Message

RAFT_PATH: Final = "/raft"
SOURCE: Final = "pipeline"


@final
class Pipeline:
    """Messages to one peer that go by POST.

    Invariant: ``_queue`` is empty unless PEER_PIPELINE_CONNECTIONS tasks are at work.
    """

    def __init__(self, link: Link) -> None:
        self._link: Final = link
        self._headers: Final = (("Content-Type", "application/protobuf"), *link.identity.headers)
        self._queue: Final[deque[Message]] = deque()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._stopped = False
        link.log.info("started HTTP pipelining with remote peer", link.fields)

    def push(self, message: Message) -> bool:
        """Take a message; False if too many wait already."""
        if self._stopped or len(self._queue) >= limits.PEER_PIPELINE_QUEUE:
            return False
        self._queue.append(message)
        if len(self._tasks) < limits.PEER_PIPELINE_CONNECTIONS:
            task = self._link.tasks.spawn(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    def stop(self) -> None:
        """Drop what waits and what is under way."""
        self._stopped = True
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        self._link.log.info("stopped HTTP pipelining with remote peer", self._link.fields)

    async def _work(self) -> None:
        link = self._link
        while self._queue:
            message = self._queue.popleft()
            data = encode_message(message)
            url = link.picker.pick()
            try:
                response = await link.posts.post(
                    url, RAFT_PATH, data, headers=self._headers, timeout_seconds=limits.PEER_POST_SECONDS
                )
                check_post(link, response, f"{url}{RAFT_PATH}")
            except (OSError, MemberRemovedError) as error:
                link.picker.unreachable(url)
                link.status.deactivate("write", SOURCE, error)
                link.figures.sent_failures[link.name] += 1
                if isinstance(error, MemberRemovedError):
                    link.surroundings.removed_from_cluster()
                link.surroundings.unreachable(link.peer_id)
            else:
                link.status.activate()
                link.figures.sent_bytes[link.name] += len(data)


def check_post(link: Link, response: ClientResponse, url: str) -> None:
    """Raise PeerConnectionError or MemberRemovedError unless a POST was taken (etcd: checkPostResponse)."""
    status = response.status
    if status == 204:
        return
    text = response.body.decode("utf-8", "replace").removesuffix("\n")
    if status == 403:
        raise MemberRemovedError
    if status != 412:
        raise PeerConnectionError(f'unexpected http status {status} while posting to "{url}"')
    if text == INCOMPATIBLE_VERSION:
        link.log.error("request sent was ignored by peer", {"remote-peer-id": link.name})
    elif text == CLUSTER_ID_MISMATCH:
        link.log.error(
            "request sent was ignored due to cluster ID mismatch",
            {
                "remote-peer-id": link.name,
                "remote-peer-cluster-id": response.header("x-etcd-cluster-id"),
                "local-member-cluster-id": hex_id(link.identity.cluster_id),
            },
        )
    else:
        text = f'unhandled error "{text}" when precondition failed'
    raise PeerConnectionError(text)
