"""A member tells the cluster its name and client URLs, through the log; until then it serves nobody.

It does so by a PUT to the v2 tree, as members of etcd up to 3.5 do: 3.4 stops at the request that 3.6 makes
of it, and 3.6 still takes this one. Source: etcd ``server/etcdserver/server.go`` (publish, publishV3).
"""

import asyncio
from typing import Final, Protocol, final

from kvorum.apply.applier import Result
from kvorum.config import Config
from kvorum.golang import json_text
from kvorum.logging import Logger, hex_id
from kvorum.server import requests
from kvorum.server.changes import MemberInfo
from kvorum.server.propose import Done
from kvorum.v2store.request import V2Request


class Proposer(Protocol):
    """What publishing asks of the node."""

    @property
    def member_id(self) -> int:
        """This member's ID."""

    def propose(self, number: int, body: bytes, done: Done) -> None:
        """Put a request into the log. Raises EtcdError."""


@final
class Publisher:
    """Publishes until it is applied. ``failed`` is done when the member cannot go on."""

    def __init__(
        self,
        config: Config,
        node: Proposer,
        cluster_id: int,
        failed: asyncio.Future[BaseException],
        log: Logger,
    ) -> None:
        self._node: Final = node
        self._failed: Final = failed
        self._log: Final = log
        urls = [str(url) for url in config.advertise_client_urls]
        member = MemberInfo(node.member_id, (), config.name, tuple(urls))
        path = f"/0/members/{hex_id(node.member_id)}/attributes"
        self._body: Final = V2Request("PUT", path, json_text(member.attributes())).encode()
        self._fields: Final = {
            "local-member-id": hex_id(node.member_id),
            "local-member-attributes": f"{{Name:{config.name} ClientURLs:[{' '.join(urls)}]}}",
            "cluster-id": hex_id(cluster_id),
            "publish-timeout": str(config.request_timeout),
        }

    async def publish(self) -> None:
        """Return when the log says it; raises what the member failed with."""
        while True:
            error = (await self._propose()).error
            if error is None:
                self._log.info("published local member to cluster through raft", self._fields)
                return
            self._log.warn(
                "failed to publish local member to cluster through raft", self._fields, error=error.message
            )

    async def _propose(self) -> Result:
        applied: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def done(result: Result) -> None:
            if not applied.done():
                applied.set_result(result)

        self._node.propose(requests.V2, self._body, done)
        await asyncio.wait((applied, self._failed), return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            raise self._failed.result()
        return applied.result()
