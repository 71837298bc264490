"""A cluster on its way to the release before: while that is allowed, members of that release may join.

The permission is in the log; it ends when every member speaks the older version, or when it is taken back.
Our own members go on as they are: they speak the older version too. Source: etcd ``v3_server.go``
(Downgrade), ``membership/downgrade.go``.
"""

import asyncio
from typing import Final, Protocol, final

from kvorum import errors
from kvorum.apply.applier import Result
from kvorum.proto.membership_pb2 import DowngradeInfoSetRequest
from kvorum.server import requests
from kvorum.server.membership import Cluster
from kvorum.server.propose import Done
from kvorum.server.versions import Version, parse_version


class Proposer(Protocol):
    """What this asks of the member (``node.Node``)."""

    def propose(self, number: int, body: bytes, done: Done) -> None:
        """Put a request into the log. Raises EtcdError."""

    async def linearizable_read(self) -> None:
        """Return once the member is known to be no older than this moment. Raises EtcdError."""


@final
class Downgrade:
    """Validates, allows and takes back a downgrade; each returns the cluster's version."""

    def __init__(self, cluster: Cluster, member: Proposer) -> None:
        self._cluster: Final = cluster
        self._member: Final = member

    async def validate(self, target: str) -> str:
        """Whether the cluster could go to the release ``target``, ``major.minor`` with or without a patch.

        Raises:
            EtcdError: ERR_WRONG_DOWNGRADE_VERSION_FORMAT, ERR_CLUSTER_VERSION_UNAVAILABLE,
                ERR_INVALID_DOWNGRADE_TARGET_VERSION, ERR_DOWNGRADE_IN_PROCESS; what a read is refused with.
        """
        wanted = cluster_version(target)
        await self._member.linearizable_read()
        version = self._cluster.version
        if version is None:
            raise errors.ERR_CLUSTER_VERSION_UNAVAILABLE
        present = parse_version(version)
        if wanted != Version(present.major, present.minor - 1):
            raise errors.ERR_INVALID_DOWNGRADE_TARGET_VERSION
        if self._cluster.downgrade_target is not None:
            raise errors.ERR_DOWNGRADE_IN_PROCESS
        return version

    async def enable(self, target: str) -> str:
        """Allow it. Raises EtcdError: as ``validate``, and what refuses a proposal."""
        await self.validate(target)
        return await self._set(DowngradeInfoSetRequest(enabled=True, ver=str(cluster_version(target))))

    async def cancel(self) -> str:
        """Take it back. Raises EtcdError: ERR_NO_INFLIGHT_DOWNGRADE; as ``enable``."""
        await self._member.linearizable_read()
        if self._cluster.downgrade_target is None:
            raise errors.ERR_NO_INFLIGHT_DOWNGRADE
        return await self._set(DowngradeInfoSetRequest())

    async def _set(self, request: DowngradeInfoSetRequest) -> str:
        applied: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def done(result: Result) -> None:
            if not applied.done():
                applied.set_result(result)

        self._member.propose(requests.DOWNGRADE_INFO_SET, request.SerializeToString(), done)
        error = (await applied).error
        if error is not None:
            raise error
        return self._cluster.version or ""


def cluster_version(text: str) -> Version:
    """The cluster version that a release stands for. Raises EtcdError: ERR_WRONG_DOWNGRADE_VERSION_FORMAT."""
    for candidate in (text, f"{text}.0"):
        try:
            return parse_version(candidate).of_cluster
        except ValueError:
            continue
    raise errors.ERR_WRONG_DOWNGRADE_VERSION_FORMAT
