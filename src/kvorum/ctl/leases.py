"""``lease grant|revoke|timetolive|list|keep-alive``.

Source of behaviour: etcdctl ``command/lease_command.go``.
"""

import threading
from collections.abc import Iterator
from typing import Final

import click

from kvorum.ctl import shown
from kvorum.ctl.errors import EXIT_BAD_ARGUMENTS, EXIT_BAD_CONNECTION, EXIT_ERROR, CallError, CtlError
from kvorum.ctl.keys import Params, Words
from kvorum.ctl.session import Session
from kvorum.ctl.values import BOOL, option
from kvorum.errors import ERR_LEASE_NOT_FOUND
from kvorum.golang import GoRangeError, GoSyntaxError, parse_int, quote
from kvorum.proto import rpc_pb2 as pb

_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")


def time_to_live_options() -> list[click.Option]:
    """Return the flags of ``lease timetolive``."""
    return [option("--keys", BOOL, False, "print the keys that are attached")]


def keep_alive_options() -> list[click.Option]:
    """Return the flags of ``lease keep-alive``."""
    return [option("--once", BOOL, False, "renew it once")]


def run_grant(session: Session, words: Words, params: Params) -> None:
    """Grant a lease."""
    if len(words) != 1:
        raise CtlError(EXIT_BAD_ARGUMENTS, "lease grant command needs TTL argument")
    text = words[0].decode("utf-8", "surrogateescape")
    try:
        ttl = parse_int(text)
    except (GoSyntaxError, GoRangeError) as error:
        problem = "invalid syntax" if isinstance(error, GoSyntaxError) else "value out of range"
        raise CtlError(
            EXIT_BAD_ARGUMENTS, f"bad TTL (strconv.ParseInt: parsing {quote(text)}: {problem})"
        ) from None
    try:
        response = session.call("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=ttl), pb.LeaseGrantResponse)
    except CallError as error:
        raise CtlError(EXIT_ERROR, f"failed to grant lease ({error.message})") from None
    session.printer.answer(response)


def run_revoke(session: Session, words: Words, params: Params) -> None:
    """Revoke a lease, and with it its keys."""
    if len(words) != 1:
        raise CtlError(EXIT_BAD_ARGUMENTS, "lease revoke command needs 1 argument")
    number = _lease(words[0])
    try:
        response = session.call("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=number), pb.LeaseRevokeResponse)
    except CallError as error:
        raise CtlError(EXIT_ERROR, f"failed to revoke lease ({error.message})") from None
    if session.printer.format == "simple":
        session.printer.line(f"lease {shown.lease_id(number)} revoked")
    else:
        session.printer.answer(response)


def run_time_to_live(session: Session, words: Words, params: Params) -> None:
    """Print what is left of a lease."""
    if len(words) != 1:
        raise CtlError(EXIT_BAD_ARGUMENTS, "lease timetolive command needs lease ID as argument")
    request = pb.LeaseTimeToLiveRequest(ID=_lease(words[0]), keys=params["keys"])
    try:
        response = session.call("Lease/LeaseTimeToLive", request, pb.LeaseTimeToLiveResponse)
    except CallError as error:
        raise CtlError(EXIT_BAD_CONNECTION, error.message) from None
    if session.printer.format == "simple":
        session.printer.line(shown.time_to_live(response, keys=params["keys"]))
    else:
        session.printer.answer(response)


def run_list(session: Session, words: Words, params: Params) -> None:
    """Print the leases there are."""
    try:
        response = session.call("Lease/LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse)
    except CallError as error:
        raise CtlError(EXIT_BAD_CONNECTION, error.message) from None
    session.printer.answer(response)


def run_keep_alive(session: Session, words: Words, params: Params) -> None:
    """Renew a lease, once or until it is gone."""
    if len(words) != 1:
        raise CtlError(EXIT_BAD_ARGUMENTS, "lease keep-alive command needs lease ID as argument")
    number = _lease(words[0])
    printer = session.printer
    for response in renewals(session, number):
        if response.TTL <= 0:
            if params["once"]:
                raise CtlError(EXIT_BAD_CONNECTION, ERR_LEASE_NOT_FOUND.message)
            break
        printer.answer(response)
        session.streams.flush()
        if params["once"]:
            return
    if printer.format == "simple":
        printer.line(f"lease {shown.lease_id(number)} expired or revoked.")


def renewals(
    session: Session, number: int, ended: threading.Event | None = None
) -> Iterator[pb.LeaseKeepAliveResponse]:
    """Renew a lease three times in its TTL until ``ended``; yields the answers, of TTL 0 when it is gone.

    Raises:
        CtlError: the member does not answer any more.
    """
    pause = threading.Event() if ended is None else ended
    waiting = 0.0

    def requests() -> Iterator[pb.LeaseKeepAliveRequest]:
        yield pb.LeaseKeepAliveRequest(ID=number)
        while answered.acquire() and not pause.wait(waiting):
            yield pb.LeaseKeepAliveRequest(ID=number)

    answered = threading.Semaphore(0)
    stream = session.client.stream("Lease/LeaseKeepAlive", requests(), pb.LeaseKeepAliveResponse)
    try:
        for response in stream:
            waiting = response.TTL / 3
            yield response
            answered.release()
    except CallError as error:
        raise CtlError(EXIT_BAD_CONNECTION, error.message) from None
    finally:
        pause.set()
        answered.release()
        stream.cancel()


def _lease(word: bytes) -> int:
    text = word.decode("utf-8", "surrogateescape")
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits or not set(digits) <= _HEX_DIGITS:
        problem = "invalid syntax"
    elif not -(1 << 63) <= int(text, 16) < 1 << 63:
        problem = "value out of range"
    else:
        return int(text, 16)
    raise CtlError(
        EXIT_BAD_ARGUMENTS,
        f"bad lease ID arg (strconv.ParseInt: parsing {quote(text)}: {problem}), expecting ID in Hex",
    )
