"""``endpoint health|status|hashkv``: what the members say of themselves.

Source of behaviour: etcdctl ``command/ep_command.go``.
"""

import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import click
from google.protobuf.message import Message

from kvorum.ctl.client import Client
from kvorum.ctl.errors import EXIT_ERROR, CallError, CtlError
from kvorum.ctl.keys import Params, Words
from kvorum.ctl.printers import Health
from kvorum.ctl.session import Session
from kvorum.ctl.settings import Settings
from kvorum.ctl.values import BOOL, INT64, option
from kvorum.duration import Duration
from kvorum.errors import ERR_PERMISSION_DENIED
from kvorum.proto import rpc_pb2 as pb

R = TypeVar("R", bound=Message)

_ALARMS: Final = {pb.NOSPACE: "NOSPACE ", pb.CORRUPT: "CORRUPT "}
_AT_ONCE: Final = 16


def endpoint_options() -> list[click.Option]:
    """Return the flag that every ``endpoint`` command has."""
    return [option("--cluster", BOOL, False, "ask every member of the cluster")]


def hashkv_options() -> list[click.Option]:
    """Return the flags of ``endpoint hashkv``."""
    return [*endpoint_options(), option("--rev", INT64, 0, "hash up to this revision")]


def cluster_endpoints(session: Session, params: Params) -> Sequence[str]:
    """Return the endpoints that were given, or with ``--cluster`` those of all members."""
    if not params["cluster"]:
        return session.settings.endpoints
    try:
        response = member_list(session)
    except CallError as error:
        raise CtlError(
            EXIT_ERROR, f"failed to fetch endpoints from etcd cluster member list: {error.message}"
        ) from None
    return [url for member in response.members for url in member.clientURLs]


def member_list(session: Session) -> pb.MemberListResponse:
    """Return the members, as the leader knows them."""
    request = pb.MemberListRequest(linearizable=True)
    return session.call("Cluster/MemberList", request, pb.MemberListResponse)


def run_health(session: Session, words: Words, params: Params) -> None:
    """Check that each endpoint commits a read and has no alarm."""
    printer = session.printer
    endpoints = cluster_endpoints(session, params)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        healths = list(pool.map(lambda endpoint: _health(session.settings, endpoint), endpoints))
    printer.health(healths)
    if any(item.error for item in healths):
        raise CtlError(EXIT_ERROR, "unhealthy cluster")


def _health(settings: Settings, endpoint: str) -> Health:
    # A connection of its own for each, so that one that hangs takes no time from the others.
    with Client(dataclasses.replace(settings, endpoints=(endpoint,))) as client:
        begin = time.monotonic_ns()
        problem = ""
        try:
            client.call("KV/Range", pb.RangeRequest(key=b"health"), pb.RangeResponse)
        except CallError as error:
            if error.message != ERR_PERMISSION_DENIED.message:  # that, too, went through the cluster
                problem = error.message
        took = str(Duration(time.monotonic_ns() - begin))
        problem = problem or _alarms(client)
        return Health(endpoint, not problem, took, problem)


def _alarms(client: Client) -> str:
    try:
        response = client.call(
            "Maintenance/Alarm", pb.AlarmRequest(action=pb.AlarmRequest.GET), pb.AlarmResponse
        )
    except CallError:
        return "Unable to fetch the alarm list"
    if not response.alarms:
        return ""
    return "Active Alarm(s): " + "".join(_ALARMS.get(item.alarm, "UNKNOWN ") for item in response.alarms)


def run_status(session: Session, words: Words, params: Params) -> None:
    """Print each endpoint's status."""
    statuses, failed = [], False
    for endpoint in cluster_endpoints(session, params):
        try:
            status = session.call("Maintenance/Status", pb.StatusRequest(), pb.StatusResponse, endpoint)
            statuses.append((endpoint, status))
        except CallError as error:
            failed = True
            session.streams.error(f"Failed to get the status of endpoint {endpoint} ({error.message})\n")
    session.printer.statuses(statuses)
    if failed:
        raise CtlError(EXIT_ERROR)


def run_hashkv(session: Session, words: Words, params: Params) -> None:
    """Print the hash of each endpoint's keys."""
    hashes, failure = [], ""
    request = pb.HashKVRequest(revision=params["rev"])
    for endpoint in cluster_endpoints(session, params):
        try:
            answer = session.call("Maintenance/HashKV", request, pb.HashKVResponse, endpoint)
            hashes.append((endpoint, answer))
        except CallError as error:
            failure = error.message
            session.streams.error(f"Failed to get the hash of endpoint {endpoint} ({error.message})\n")
    session.printer.hashes(hashes)
    if failure:
        raise CtlError(EXIT_ERROR, failure)
