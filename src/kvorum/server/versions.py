"""The cluster's version: what every member can speak, decided by the leader and kept in the log.

Members say their own version at ``/version`` of their peer URLs. Whenever a term begins, and every few
seconds, the leader asks all of them; once it knows every answer, the smallest is the cluster's, as
``major.minor.0``, and it only ever rises. As long as one is unknown a new cluster has the oldest version
there is. It is told by a PUT to the v2 tree, as members of etcd up to 3.5 do: 3.4 stops at the request that
3.6 makes of it. A member that joins looks whether the cluster's version is one that it can speak.
Source: etcd ``server.go`` (monitorVersions), ``cluster_util.go`` (decideClusterVersion,
isCompatibleWithCluster).
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, final

from kvorum import ETCD_VERSION, limits
from kvorum.apply.applier import Result
from kvorum.errors import EtcdError
from kvorum.logging import Logger, hex_id
from kvorum.proto.membership_pb2 import DowngradeInfoSetRequest
from kvorum.server import requests
from kvorum.server.changes import MemberInfo
from kvorum.server.forward import Client
from kvorum.server.membership import Cluster
from kvorum.server.propose import Done
from kvorum.server.timers import Timers
from kvorum.v2store.request import V2Request

NOT_DECIDED: Final = "not_decided"
"""What ``/version`` says while the members have not agreed."""

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")


@final
@dataclass(frozen=True, order=True)
class Version:
    """A release, compared number by number."""

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def of_cluster(self) -> "Version":
        """What counts for a cluster."""
        return Version(self.major, self.minor)


MIN_CLUSTER_VERSION: Final = Version(3, 0)
"""The oldest that members can speak (etcd: version.MinClusterVersion)."""


def parse_version(text: str) -> Version:
    """Read ``major.minor.patch``, with or without what semver allows behind it.

    Raises:
        ValueError: it is none.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} is not in dotted-tri format")
    return Version(int(match[1]), int(match[2]), int(match[3]))


LOCAL_VERSION: Final = parse_version(ETCD_VERSION)


@final
@dataclass(frozen=True)
class MemberVersions:
    """What a member says at ``/version``: its own release, and the cluster's version as it knows it."""

    server: str
    cluster: str


def decide(versions: Mapping[int, MemberVersions | None], log: Logger) -> Version | None:
    """The smallest release of the members; None as long as one is unknown."""
    smallest: Version | None = None
    for member_id, said in versions.items():
        if said is None:
            return None
        try:
            version = parse_version(said.server)
        except ValueError as error:
            log.warn(
                "failed to parse server version of remote member",
                remote_member_id=hex_id(member_id),
                remote_member_version=said.server,
                error=error,
            )
            return None
        if version > LOCAL_VERSION:
            log.warn(
                "leader found higher-versioned member",
                local_member_version=ETCD_VERSION,
                remote_member_id=hex_id(member_id),
                remote_member_version=said.server,
            )
        smallest = version if smallest is None else min(smallest, version)
    return smallest


def next_version(agreed: str | None, decided: Version | None, target: str | None = None) -> Version | None:
    """What the cluster's version shall become, None for what it is.

    Only upwards, as a member that is too old for the cluster was not let in; or to the ``target`` of a
    downgrade.
    """
    if agreed is None:
        return MIN_CLUSTER_VERSION if decided is None else decided.of_cluster
    present = parse_version(agreed).of_cluster
    if decided is not None and str(decided.of_cluster) == target != agreed:
        return decided.of_cluster
    if decided is None or decided.major != present.major or decided.of_cluster <= present:
        return None
    return decided.of_cluster


def is_compatible(versions: Mapping[int, MemberVersions | None], local_id: int, log: Logger) -> bool:
    """Whether this member can be part of a cluster whose members say this.

    At least one must say a cluster version in the range that we speak, and none one outside of it; those that
    say nothing may just be down.
    """
    lowest, highest = MIN_CLUSTER_VERSION, LOCAL_VERSION.of_cluster
    found = False
    for member_id, said in versions.items():
        if member_id == local_id or said is None:
            continue
        fields = {"remote-member-id": hex_id(member_id), "remote-member-cluster-version": said.cluster}
        try:
            version = parse_version(said.cluster)
        except ValueError as error:
            log.warn("failed to parse cluster version of remote member", fields, error=error)
            continue
        if not lowest <= version <= highest:
            too = "low" if version < lowest else "high"
            log.warn(
                f"cluster version of remote member is not compatible; too {too}",
                fields,
                minimum_cluster_version_supported=str(lowest),
            )
            return False
        found = True
    return found


async def ask_versions(
    members: Sequence[MemberInfo], client: Client, log: Logger
) -> dict[int, MemberVersions | None]:
    """Ask members for their versions, all at once; None for those that do not answer."""
    said = await asyncio.gather(*(_ask_version(member, client, log) for member in members))
    return {member.id: versions for member, versions in zip(members, said, strict=True)}


async def _ask_version(member: MemberInfo, client: Client, log: Logger) -> MemberVersions | None:
    fields = {"remote-member-id": hex_id(member.id)}
    failure: Exception | None = None
    for url in member.peer_urls:
        try:
            answer = await client.get(url, "/version", timeout_seconds=limits.PEER_VERSION_SECONDS)
            said = json.loads(answer.body)
            return MemberVersions(str(said["etcdserver"]), str(said["etcdcluster"]))
        except OSError as error:
            log.warn("failed to reach the peer URL", {"address": f"{url}/version", **fields}, error=error)
            failure = error
        except (ValueError, KeyError, TypeError) as error:
            log.warn("failed to unmarshal response", {"address": f"{url}/version", **fields}, error=error)
            failure = error
    log.warn("failed to get version", fields, error=str(failure))
    return None


class Leading(Protocol):
    """What deciding asks of the member (``node.Node``)."""

    leader: int
    """The leader's ID, 0 for none."""

    def propose(self, number: int, body: bytes, done: Done) -> None:
        """Put a request into the log. Raises EtcdError."""


@final
class VersionMonitor:
    """Keeps the cluster's version what it should be, while this member leads.

    ``run`` is a task of the member's; ``term_began`` may be called at any time.
    """

    def __init__(
        self, cluster: Cluster, member: Leading, client: Client | None, timers: Timers, log: Logger
    ) -> None:
        self._cluster: Final = cluster
        self._member: Final = member
        self._client: Final = client
        self._timers: Final = timers
        self._log: Final = log
        self._wake: asyncio.Future[None] | None = None
        self._due = False

    def term_began(self) -> None:
        """The first entry of a term was applied: decide now."""
        self._due = True
        if self._wake is not None:
            _wake(self._wake)

    async def run(self) -> None:
        """Decide again and again, until cancelled."""
        while True:
            if not self._due:
                self._wake = asyncio.get_running_loop().create_future()
                self._timers.call_later(limits.VERSION_MONITOR_SECONDS, partial(_wake, self._wake))
                await self._wake
            self._due = False
            await self._decide()

    async def _decide(self) -> None:
        if self._member.leader != self._cluster.local_id:
            return
        versions: dict[int, MemberVersions | None] = {
            self._cluster.local_id: MemberVersions(ETCD_VERSION, self._cluster.version or NOT_DECIDED)
        }
        others = self._cluster.others()
        if self._client is not None:
            versions |= await ask_versions(others, self._client, self._log)
        else:
            versions |= dict.fromkeys((member.id for member in others), None)
        target = self._cluster.downgrade_target
        version = next_version(self._cluster.version, decide(versions, self._log), target)
        if version is not None:
            await self._update(version)
        elif target is not None and {said and said.cluster for said in versions.values()} == {target}:
            self._log.info("the cluster has been downgraded", cluster_version=target)
            await self._propose(requests.DOWNGRADE_INFO_SET, DowngradeInfoSetRequest().SerializeToString())

    async def _update(self, version: Version) -> None:
        short = f"{version.major}.{version.minor}"
        if self._cluster.version is None:
            self._log.info("setting up initial cluster version", cluster_version=short)
        else:
            agreed = self._cluster.version.rpartition(".")[0]
            self._log.info("updating cluster version", {"from": agreed, "to": short})
        error = await self._propose(requests.V2, V2Request("PUT", "/0/version", str(version)).encode())
        if error is None:
            self._log.info("cluster version is updated", cluster_version=short)
        else:
            self._log.warn("failed to update cluster version", error=error.message)

    async def _propose(self, number: int, body: bytes) -> EtcdError | None:
        applied: asyncio.Future[EtcdError | None] = asyncio.get_running_loop().create_future()

        def done(result: Result) -> None:
            if not applied.done():
                applied.set_result(result.error)

        try:
            self._member.propose(number, body, done)
        except EtcdError as error:
            return error.forget()
        return await applied


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
