"""``lock`` and ``elect``: a lease that is renewed, and what it holds.

The members' own services of locks and elections do the waiting, so whoever uses those of etcd's clients waits
in the same queue. A session's lease is revoked when the command ends; etcdctl leaves it to expire. Source of
behaviour: etcdctl ``command/lock_command.go``, ``elect_command.go``, etcd ``client/v3/concurrency``.
"""

import os
import subprocess
import threading
from typing import Final, final

import click

from kvorum.ctl.errors import EXIT_BAD_ARGUMENTS, EXIT_ERROR, CallError, CtlError
from kvorum.ctl.keys import Params, Words
from kvorum.ctl.leases import renewals
from kvorum.ctl.session import Session
from kvorum.ctl.signals import Interrupted, interruptible
from kvorum.ctl.values import BOOL, INT64, option
from kvorum.proto import rpc_pb2 as pb
from kvorum.proto import v3election_pb2 as election
from kvorum.proto import v3lock_pb2 as lock

_SESSION_TTL: Final = 60
_LOOK_SECONDS: Final = 0.2
"""How soon a session that has expired is noticed."""


def lock_options() -> list[click.Option]:
    """Return the flags of ``lock``."""
    return [option("--ttl", INT64, 10, "seconds until others get the lock from a command that hangs")]


def elect_options() -> list[click.Option]:
    """Return the flags of ``elect``."""
    return [option(("-l", "--listen"), BOOL, False, "print who is elected, and do not stand")]


@final
class LeaseSession:
    """A lease that a thread renews; a context manager, which revokes it."""

    def __init__(self, session: Session, ttl: int) -> None:
        self._session: Final = session
        self._ended: Final = threading.Event()
        self.expired: Final = threading.Event()
        granted = session.call("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=ttl), pb.LeaseGrantResponse)
        self.id: Final = granted.ID
        self._thread: Final = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "LeaseSession":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        try:
            request = pb.LeaseRevokeRequest(ID=self.id)
            self._session.call("Lease/LeaseRevoke", request, pb.LeaseRevokeResponse)
        except CallError:
            pass  # it expires

    def _renew(self) -> None:
        try:
            for response in renewals(self._session, self.id, self._ended):
                if response.TTL <= 0:
                    break
        except CtlError:
            pass
        if not self._ended.is_set():
            self.expired.set()

    def wait_expired(self) -> None:
        """Wait until the lease is gone; a signal ends that earlier."""
        while not self.expired.wait(_LOOK_SECONDS):
            pass


def run_lock(session: Session, words: Words, params: Params) -> None:
    """Take a lock, and hold it until a signal comes, or while a command runs."""
    if not words:
        raise CtlError(
            EXIT_BAD_ARGUMENTS, "lock takes a lock name argument and an optional command to execute"
        )
    name, *command = words
    with interruptible(), LeaseSession(session, params["ttl"]) as lease:
        request = lock.LockRequest(name=name, lease=lease.id)
        try:
            taken = session.client.call("v3lockpb.Lock/Lock", request, lock.LockResponse, patient=True)
        except Interrupted:
            raise CtlError(EXIT_ERROR, "context canceled") from None
        try:
            if command:
                _run(command, taken)
                return
            _print_key(session, taken.key, "lock lost on init")
            lease.wait_expired()
            raise CtlError(EXIT_ERROR, "session expired")
        except Interrupted:
            pass
        finally:
            if not lease.expired.is_set():
                unlock = lock.UnlockRequest(key=taken.key)
                session.call("v3lockpb.Lock/Unlock", unlock, lock.UnlockResponse)


def _run(command: Words, taken: lock.LockResponse) -> None:
    environment = {b"ETCD_LOCK_KEY": taken.key, b"ETCD_LOCK_REV": b"%d" % taken.header.revision}
    try:
        done = subprocess.run(list(command), env={**environment, **os.environb}, check=False)
    except OSError:
        name = os.fsdecode(command[0])
        raise CtlError(EXIT_ERROR, f'exec: "{name}": executable file not found in $PATH') from None
    if done.returncode > 0:
        raise CtlError(done.returncode, f"exit status {done.returncode}")
    if done.returncode < 0:
        raise CtlError(EXIT_ERROR, f"signal: {-done.returncode}")


def _print_key(session: Session, key: bytes, lost: str) -> None:
    response = session.call("KV/Range", pb.RangeRequest(key=key), pb.RangeResponse)
    if not response.kvs:
        raise CtlError(EXIT_ERROR, lost)
    session.printer.answer(response)
    session.streams.flush()


def run_elect(session: Session, words: Words, params: Params) -> None:
    """Stand for an election and lead until a signal comes, or print who leads."""
    if not 1 <= len(words) <= 2:
        raise CtlError(
            EXIT_BAD_ARGUMENTS, "elect takes one election name argument and an optional proposal argument"
        )
    if len(words) == 1:
        if not params["listen"]:
            raise CtlError(EXIT_BAD_ARGUMENTS, "no proposal argument but -l not set")
        _observe(session, words[0])
        return
    if params["listen"]:
        raise CtlError(EXIT_BAD_ARGUMENTS, "proposal given but -l is set")
    with interruptible(), LeaseSession(session, _SESSION_TTL) as lease:
        request = election.CampaignRequest(name=words[0], lease=lease.id, value=words[1])
        try:
            won = session.client.call(
                "v3electionpb.Election/Campaign", request, election.CampaignResponse, patient=True
            )
        except Interrupted:
            raise CtlError(EXIT_ERROR, "context canceled") from None
        try:
            _print_key(session, won.leader.key, "elect: session expired")
            lease.wait_expired()
            raise CtlError(EXIT_ERROR, "elect: session expired")
        except Interrupted:
            resign = election.ResignRequest(leader=won.leader)
            session.call("v3electionpb.Election/Resign", resign, election.ResignResponse)


def _observe(session: Session, name: bytes) -> None:
    request = election.LeaderRequest(name=name)
    printer = session.printer
    with interruptible():
        try:
            for leader in session.client.stream(
                "v3electionpb.Election/Observe", request, election.LeaderResponse
            ):
                printer.answer(pb.RangeResponse(header=leader.header, kvs=[leader.kv]))
                session.streams.flush()
        except Interrupted:
            return
        except CallError:
            pass
    raise CtlError(EXIT_ERROR, "elect: observer lost")
