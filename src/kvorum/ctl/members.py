"""``member add|remove|update|promote|list`` and ``move-leader``.

Source of behaviour: etcdctl ``command/member_command.go``, ``move_leader_command.go``.
"""

from typing import Final, TypeVar

import click
from google.protobuf.message import Message

from kvorum.ctl.endpoints import member_list
from kvorum.ctl.errors import EXIT_BAD_ARGUMENTS, EXIT_ERROR, CtlError
from kvorum.ctl.keys import Params, Words
from kvorum.ctl.session import Session
from kvorum.ctl.values import BOOL, TEXT, option
from kvorum.golang import quote
from kvorum.proto import rpc_pb2 as pb
from kvorum.urls import parse_urls

R = TypeVar("R", bound=Message)

_HEX: Final = frozenset("0123456789abcdefABCDEF")
_MAX_ID: Final = (1 << 64) - 1


def add_options() -> list[click.Option]:
    """Return the flags of ``member add``."""
    return [
        option("--peer-urls", TEXT, "", "peer URLs of the new member, by comma"),
        option("--learner", BOOL, False, "add it without a vote"),
    ]


def update_options() -> list[click.Option]:
    """Return the flags of ``member update``."""
    return [option("--peer-urls", TEXT, "", "the member's new peer URLs, by comma")]


def run_add(session: Session, words: Words, params: Params) -> None:
    """Add a member, and print the settings that it starts with."""
    texts = [word.decode("utf-8", "surrogateescape") for word in words]
    if not texts:
        raise CtlError(EXIT_BAD_ARGUMENTS, "member name not provided")
    if len(texts) > 1:
        hints = [f", did you mean --peer-urls={text}" for text in texts if text.lower().startswith("http")]
        raise CtlError(EXIT_BAD_ARGUMENTS, "too many arguments" + "".join(hints))
    (name,) = texts
    urls = _peer_urls(params)
    request = pb.MemberAddRequest(peerURLs=urls, isLearner=params["learner"])
    response = session.call("Cluster/MemberAdd", request, pb.MemberAddResponse)
    if not _simple(session):
        session.printer.answer(response)
        return
    number = response.member.ID
    line = session.printer.line
    line(f"Member {number:16x} added to cluster {response.header.cluster_id:16x}")
    cluster = [
        f"{name if number == member.ID else member.name}={url}"
        for member in response.members
        for url in member.peerURLs
    ]
    line()
    line(f"ETCD_NAME={quote(name)}")
    line(f"ETCD_INITIAL_CLUSTER={quote(','.join(cluster))}")
    line(f"ETCD_INITIAL_ADVERTISE_PEER_URLS={quote(','.join(urls))}")
    line('ETCD_INITIAL_CLUSTER_STATE="existing"')


def run_remove(session: Session, words: Words, params: Params) -> None:
    """Remove a member."""
    number = _member(words)
    request = pb.MemberRemoveRequest(ID=number)
    _changed(
        session,
        "Cluster/MemberRemove",
        request,
        pb.MemberRemoveResponse,
        f"{number:16x} removed from cluster",
    )


def run_update(session: Session, words: Words, params: Params) -> None:
    """Give a member other peer URLs."""
    number = _member(words)
    request = pb.MemberUpdateRequest(ID=number, peerURLs=_peer_urls(params))
    _changed(
        session, "Cluster/MemberUpdate", request, pb.MemberUpdateResponse, f"{number:16x} updated in cluster"
    )


def run_promote(session: Session, words: Words, params: Params) -> None:
    """Give a learner its vote."""
    number = _member(words)
    request = pb.MemberPromoteRequest(ID=number)
    _changed(
        session,
        "Cluster/MemberPromote",
        request,
        pb.MemberPromoteResponse,
        f"{number:16x} promoted in cluster",
    )


def run_list(session: Session, words: Words, params: Params) -> None:
    """Print the members."""
    session.printer.members(member_list(session))


def run_move_leader(session: Session, words: Words, params: Params) -> None:
    """Have the leader, which must be among the endpoints, hand over to another member."""
    if len(words) != 1:
        raise CtlError(EXIT_BAD_ARGUMENTS, "move-leader command needs 1 argument")
    target = _parse(words[0], "{}")
    endpoints = session.settings.endpoints
    for endpoint in endpoints:
        status = session.call("Maintenance/Status", pb.StatusRequest(), pb.StatusResponse, endpoint)
        if status.header.member_id == status.leader:
            break
    else:
        raise CtlError(EXIT_BAD_ARGUMENTS, f"no leader endpoint given at [{' '.join(endpoints)}]")
    request = pb.MoveLeaderRequest(targetID=target)
    response = session.call("Maintenance/MoveLeader", request, pb.MoveLeaderResponse, endpoint)
    if _simple(session):
        session.printer.line(f"Leadership transferred from {status.leader:x} to {target:x}")
    else:
        session.printer.answer(response)


def _changed(session: Session, method: str, request: Message, response: type[R], what: str) -> None:
    answer = session.call(method, request, response)
    if _simple(session):
        header: pb.ResponseHeader = getattr(answer, "header")  # noqa: B009 - R is any answer of Cluster
        session.printer.line(f"Member {what} {header.cluster_id:16x}")
    else:
        session.printer.answer(answer)


def _simple(session: Session) -> bool:
    return session.printer.format == "simple"


def _peer_urls(params: Params) -> list[str]:
    if not params["peer_urls"]:
        raise CtlError(EXIT_BAD_ARGUMENTS, "member peer urls not provided")
    urls: list[str] = params["peer_urls"].split(",")
    try:
        parse_urls(urls)
    except ValueError as error:
        raise CtlError(EXIT_ERROR, str(error)) from None
    return urls


def _member(words: Words) -> int:
    if len(words) != 1:
        raise CtlError(EXIT_BAD_ARGUMENTS, "member ID is not provided")
    return _parse(words[0], "bad member ID arg ({}), expecting ID in Hex")


def _parse(word: bytes, problem: str) -> int:
    text = word.decode("utf-8", "surrogateescape")
    if not text or not set(text) <= _HEX:
        reason = "invalid syntax"
    elif int(text, 16) > _MAX_ID:
        reason = "value out of range"
    else:
        return int(text, 16)
    told = problem.format(f"strconv.ParseUint: parsing {quote(text)}: {reason}")
    raise CtlError(EXIT_BAD_ARGUMENTS, told)
