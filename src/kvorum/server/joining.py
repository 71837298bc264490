"""Becoming a member of a cluster that runs: what the others say about it, before the first start.

A member that was added knows the peer URLs of all members from its configuration, but neither their IDs nor
the cluster's: one of them is asked. The configuration must name the same members by the same addresses, and
the cluster must be of a version that this member speaks. Source: etcd ``cluster_util.go``
(GetClusterFromRemotePeers, isMemberBootstrapped), ``membership/cluster.go`` (ValidateClusterAndAssignIDs),
``server.go`` (NewServer).
"""

import asyncio
import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

from kvorum import limits
from kvorum.logging import Logger, hex_id
from kvorum.server import ids, versions
from kvorum.server.changes import MemberInfo
from kvorum.server.forward import Client
from kvorum.urls import Url, parse_url

CLUSTER_ID_HEADER: Final = "X-Etcd-Cluster-ID"
MEMBERS_PATH: Final = "/members"


class JoinError(Exception):
    """The cluster does not take this member in, or is not the one that was meant; one line says why."""


@final
@dataclass(frozen=True)
class RemoteCluster:
    """A cluster as one of its members describes it."""

    id: int
    members: tuple[MemberInfo, ...]

    def __str__(self) -> str:
        """As etcd prints it."""
        members = " ".join(_describe(member) for member in self.members)
        return f"{{ClusterID:{hex_id(self.id)} Members:[{members}] RemovedMemberIDs:[]}}"


def _describe(member: MemberInfo) -> str:
    raft = f"{{PeerURLs:[{' '.join(member.peer_urls)}] IsLearner:{str(member.is_learner).lower()}}}"
    attributes = f"{{Name:{member.name} ClientURLs:[{' '.join(member.client_urls)}]}}"
    return f"&{{ID:{hex_id(member.id)} RaftAttributes:{raft} Attributes:{attributes}}}"


def configured(initial: Mapping[str, Sequence[Url]], token: str) -> list[MemberInfo]:
    """The members that the configuration names, with the IDs they have if the cluster begins with them.

    Raises:
        JoinError: two of them are the same.
    """
    members: dict[int, MemberInfo] = {}
    for name, urls in initial.items():
        peer_urls = tuple(sorted(str(url) for url in urls))
        member = MemberInfo(ids.member_id(peer_urls, token), peer_urls, name)
        if member.id in members:
            raise JoinError(f"member exists with identical ID {_describe(member)}")
        members[member.id] = member
    return list(members.values())


def urls_of_others(members: Iterable[MemberInfo], local_name: str) -> list[str]:
    """The peer URLs of all members but the one of that name."""
    return sorted(url for member in members if member.name != local_name for url in member.peer_urls)


async def ask_cluster(
    urls: Sequence[str], client: Client, timeout_seconds: float, log: Logger | None
) -> RemoteCluster:
    """Have the first of these that answers describe its cluster; ``log`` hears of those that do not.

    Raises:
        JoinError: none does, or it has no members.
    """
    for url in urls:
        address = url + MEMBERS_PATH
        try:
            answer = await client.get(url, MEMBERS_PATH, timeout_seconds=timeout_seconds)
            members = [MemberInfo.from_fields(fields) for fields in json.loads(answer.body)]
            cluster_id = int(answer.header(CLUSTER_ID_HEADER), 16)
        except OSError as error:
            if log is not None:
                log.warn("failed to get cluster response", address=address, error=error)
        except (ValueError, TypeError) as error:
            if log is not None:
                log.warn("failed to unmarshal cluster response", address=address, error=error)
        else:
            if not members:
                raise JoinError("failed to get raft cluster member(s) from the given URLs")
            return RemoteCluster(cluster_id, tuple(sorted(members, key=lambda member: member.id)))
    raise JoinError("could not retrieve cluster information from the given URLs")


async def is_bootstrapped(
    members: Sequence[MemberInfo], local: MemberInfo, client: Client, timeout_seconds: float
) -> bool:
    """Whether a cluster of these members runs and has this one as a member that has already started once.

    Then its data is lost, and beginning anew as a member of the same ID would break what it promised.
    """
    try:
        remote = await ask_cluster(urls_of_others(members, local.name), client, timeout_seconds, None)
    except JoinError:
        return False
    return any(member.id == local.id and member.client_urls for member in remote.members)


async def join(
    members: Sequence[MemberInfo], local_name: str, client: Client, log: Logger
) -> tuple[RemoteCluster, MemberInfo]:
    """The cluster that the configured members are, and this member as it is known there.

    Raises:
        JoinError: it cannot be asked, has other members, or is of a version that this member does not speak.
    """
    try:
        remote = await ask_cluster(
            urls_of_others(members, local_name), client, limits.PEER_MEMBERS_SECONDS, log
        )
    except JoinError as error:
        raise JoinError(f"cannot fetch cluster info from peer urls: {error}") from None
    try:
        matched = await assign_ids(members, remote.members)
    except JoinError as error:
        raise JoinError(f"error validating peerURLs {remote}: {error}") from None
    local = next(member for member in matched if member.name == local_name)
    others = [member for member in matched if member is not local]
    if not versions.is_compatible(await versions.ask_versions(others, client, log), local.id, log):
        raise JoinError("incompatible with current running cluster")
    return remote, local


async def assign_ids(local: Sequence[MemberInfo], existing: Sequence[MemberInfo]) -> list[MemberInfo]:
    """The configured members with the IDs that they have in the cluster, matched by their peer URLs.

    Raises:
        JoinError: they are not the same members.
    """
    if len(local) != len(existing):
        raise JoinError("member count is unequal")
    addresses = [await _addresses(member.peer_urls) for member in local]
    matched: list[MemberInfo] = []
    for member in existing:
        wanted = await _addresses(member.peer_urls)
        for candidate, its in zip(local, addresses, strict=True):
            if its == wanted:
                matched.append(replace(candidate, id=member.id, is_learner=member.is_learner))
                break
        else:
            urls = " ".join(member.peer_urls)
            raise JoinError(
                f"PeerURLs: no match found for existing member ({hex_id(member.id)}, [{urls}]),"
                " last resolver error (<nil>)"
            )
    if len({member.name for member in matched}) != len(local):
        raise JoinError("two members of the cluster have the same peer URLs")
    return matched


async def _addresses(urls: Iterable[str]) -> list[str]:
    """URLs in a form in which those of one address are equal, whatever name they call it by."""
    return sorted([await _resolved(url) for url in urls])


async def _resolved(text: str) -> str:
    try:
        url = parse_url(text)
        if url.is_unix:
            return str(url)
        found: list[tuple[Any, ...]] = await asyncio.get_running_loop().getaddrinfo(
            url.host, int(url.port), type=socket.SOCK_STREAM
        )
    except (ValueError, OSError):  # no name that resolves: only itself is equal to it
        return text
    host, port = found[0][4][:2]
    return f"{url.scheme}://{host}:{port}"
