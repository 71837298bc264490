"""A cluster of real processes, each of them etcd 3.5.1, etcd 3.4.23 or Kvorum, with the same flags.

What is asked of it is asked over the wire, so it is the same whoever the members are: who leads by
``Status``, how far each one is by its applied index, whether they hold the same by ``HashKV``. A member that
is dead or stopped (``Member.pause``) is left out of such questions; one that hangs costs its look
``LOOK_SECONDS``, not the test.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar, final

import grpc

from kvorum.proto import rpc_pb2 as pb
from tests.support.client import Client
from tests.support.etcdctl import Etcdctl
from tests.support.process import Member, Program
from tests.support.waiting import WAIT_SECONDS, WaitError, wait_until

T = TypeVar("T")

LOOK_SECONDS: Final = 1.0
LOOSE: Final = ("--strict-reconfig-check=false",)
"""Flags of a cluster whose membership changes at once: the check wants all connected for 5 s."""


@final
class Cluster:
    """The members, in the order in which they came, and clients of each.

    Not to be shared between threads, except for ``client`` of one member and ``fresh_client``.
    """

    def __init__(
        self,
        directory: Path,
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        ctl_flags: Sequence[str] = (),
    ) -> None:
        """With ``credentials`` all ports speak TLS; ``ctl_flags`` are what etcdctl needs then."""
        self._credentials: Final = credentials
        self._ctl_flags: Final = tuple(ctl_flags)
        self.directory: Final = directory
        self.flags: Final = tuple(flags)
        self.env: Final = dict(env or {})
        self.members: Final[list[Member]] = []
        self.gone: Final[list[Member]] = []
        self._clients: Final[dict[str, Client]] = {}
        self._looks: Final[dict[str, Client]] = {}
        self._lock: Final = threading.Lock()
        self._made = 0

    # --- members ------------------------------------------------------------------------------------------

    def make(self, program: Program, flags: Sequence[str] = ()) -> Member:
        """Return a member with a name and a directory of its own, not started and of no cluster."""
        self._made += 1
        name = f"m{self._made}"
        directory = self.directory / f"{name}-{program.name}.etcd"
        scheme = "http" if self._credentials is None else "https"
        return Member(
            program,
            directory,
            flags=(*self.flags, *flags),
            env=self.env,
            name=name,
            client_scheme=scheme,
            peer_scheme=scheme,
        )

    def form(self, programs: Iterable[Program], failpoints: Mapping[int, str] | None = None) -> None:
        """Start a new cluster; ``failpoints`` by position. Raises MemberError."""
        assert not self.members, "formed before"
        self.members.extend(self.make(program) for program in programs)
        for member in self.members:
            member.initial_cluster = self._initial_cluster()
        for at, member in enumerate(self.members):
            member.start(wait=False, failpoints=(failpoints or {}).get(at, ""))
        for member in self.members:
            member.wait_ready()

    def announce(self, program: Program, flags: Sequence[str] = (), *, learner: bool = False) -> Member:
        """Tell the cluster of a new member (``MemberAdd``, at the leader) and return it, not started."""
        member = self.make(program, flags)
        self.client(self.wait_leader()).member_add(member.peer_url, learner=learner)
        self.members.append(member)
        member.initial_cluster = self._initial_cluster()
        member.initial_cluster_state = "existing"
        return member

    def join(self, program: Program, flags: Sequence[str] = (), *, learner: bool = False) -> Member:
        """Add a member to the running cluster and wait until it serves."""
        return self.announce(program, flags, learner=learner).start()

    def remove(self, member: Member, *, through: Member | None = None) -> None:
        """Remove a member from the cluster (``MemberRemove``, at the leader if not told otherwise)."""
        self.client(through or self.wait_leader()).member_remove(self.id_of(member))
        self.members.remove(member)
        self.gone.append(member)

    def restart_all(self) -> None:
        """Start every member that does not run, all at once, and wait until they serve."""
        starting = [member for member in self.members if not member.running]
        for member in starting:
            member.start(wait=False)
        for member in starting:
            member.wait_ready()

    def heal(self) -> None:
        """Let everybody go on and start who does not run; wait until all serve."""
        for member in self.members:
            if member.paused:
                member.resume()
        self.restart_all()

    def kill_all(self) -> None:
        """End every member by SIGKILL before any of them is waited for."""
        killed = [member for member in self.members if member.running]
        for member in killed:
            member.send_kill()
        for member in killed:
            member.wait_exit()

    def forget(self, member: Member) -> None:
        """Close the clients of a member whose name goes on at another address."""
        for kept in (self._clients, self._looks):
            if member.name in kept:
                kept.pop(member.name).close()

    def close(self) -> None:
        """End what still runs, by force: nothing of it is needed any more."""
        for client in (*self._clients.values(), *self._looks.values()):
            client.close()
        self.kill_all()
        for member in (*self.members, *self.gone):
            member.close()

    @property
    def live(self) -> list[Member]:
        """The members that run and are not paused."""
        return [member for member in self.members if member.running and not member.paused]

    def _initial_cluster(self) -> str:
        return ",".join(f"{member.name}={member.peer_url}" for member in self.members)

    # --- asking -------------------------------------------------------------------------------------------

    def client(self, member: Member) -> Client:
        """Return the client of one member; it stays the same over restarts."""
        return self._client(self._clients, member, 20.0, wait_for_ready=True)

    def fresh_client(self, member: Member, timeout_seconds: float) -> Client:
        """Return a client for the caller to close, which fails as soon as its connection does."""
        return Client(member.endpoint, timeout_seconds, wait_for_ready=False, credentials=self._credentials)

    def _client(
        self, kept: dict[str, Client], member: Member, timeout_seconds: float, *, wait_for_ready: bool
    ) -> Client:
        with self._lock:
            if member.name not in kept:
                kept[member.name] = Client(
                    member.endpoint,
                    timeout_seconds,
                    wait_for_ready=wait_for_ready,
                    credentials=self._credentials,
                )
            return kept[member.name]

    def etcdctl(self, *members: Member) -> Etcdctl:
        """Return the official etcdctl for these members, or for all that live."""
        return Etcdctl(",".join(member.url for member in members or self.live), *self._ctl_flags)

    def status(self, member: Member) -> pb.StatusResponse | None:
        """Return a member's status, None if it does not answer soon."""
        look = self._client(self._looks, member, LOOK_SECONDS, wait_for_ready=False)
        try:
            return look.status()
        except grpc.RpcError:
            return None

    def statuses(self) -> dict[str, pb.StatusResponse]:
        """Return the status of all that live and answer, by name."""
        found = {member.name: self.status(member) for member in self.live}
        return {name: status for name, status in found.items() if status is not None}

    def id_of(self, member: Member) -> int:
        """Return a member's id, as the list of members of anyone who answers has it."""
        for asked in self.live:
            try:
                listed = self.client(asked).member_list(linearizable=False).members
            except grpc.RpcError:
                continue
            for found in listed:
                if member.peer_url in found.peerURLs:
                    return int(found.ID)
        raise AssertionError(f"nobody lists {member.name} at {member.peer_url}")

    def leader(self) -> Member | None:
        """Return the member that leads in the highest term anybody knows, None if there is none now."""
        statuses = self.statuses()
        term = max((status.raftTerm for status in statuses.values()), default=0)
        for member in self.members:
            status = statuses.get(member.name)
            if status is not None and status.raftTerm == term and status.leader == status.header.member_id:
                return member
        return None

    def followers(self) -> list[Member]:
        """Return those that live and do not lead; there must be a leader."""
        leader = self.wait_leader()
        return [member for member in self.live if member is not leader]

    # --- waiting ------------------------------------------------------------------------------------------

    def wait_leader(self, deadline_seconds: float = WAIT_SECONDS) -> Member:
        """Wait until one leads and all that live follow it; returns it. Raises WaitError."""

        def agreed() -> Member | None:
            leader = self.leader()
            if leader is None:
                return None
            statuses = self.statuses()
            same = {(status.leader, status.raftTerm) for status in statuses.values()}
            return leader if len(same) == 1 and len(statuses) == len(self.live) else None

        return self._wait(agreed, "one leader of all that live", deadline_seconds)

    def wait_led_by(self, member: Member, deadline_seconds: float = WAIT_SECONDS) -> None:
        """Wait until this member leads. Raises WaitError."""
        self._wait(lambda: self.leader() is member or None, f"{member.name} leads", deadline_seconds)

    def lead(self, member: Member) -> None:
        """Make this member the leader (``MoveLeader``) and wait until it is."""
        leader = self.wait_leader()
        if leader is not member:
            self.client(leader).move_leader(self.id_of(member))
            self.wait_led_by(member)

    def wait_level(self, deadline_seconds: float = WAIT_SECONDS) -> int:
        """Wait until all that live have applied the same index, which is the last one; returns it."""

        def level() -> int | None:
            statuses = self.statuses()
            indexes = {status.raftAppliedIndex for status in statuses.values()}
            indexes |= {status.raftIndex for status in statuses.values()}
            return indexes.pop() if len(indexes) == 1 and len(statuses) == len(self.live) else None

        return self._wait(level, "all applied the same index", deadline_seconds)

    def check_equal(self) -> int:
        """Wait until all are level, and compare what they hold; returns the revision."""
        self.wait_level()
        revision = max(status.header.revision for status in self.statuses().values())
        hashes = {member.name: self.client(member).hash_kv(revision) for member in self.live}
        found = {(answer.hash, answer.compact_revision) for answer in hashes.values()}
        assert len(found) == 1, {
            name: (answer.hash, answer.compact_revision) for name, answer in hashes.items()
        }
        return revision

    def _wait(self, look: Callable[[], T | None], what: str, deadline_seconds: float) -> T:
        try:
            return wait_until(look, what, deadline_seconds)
        except WaitError as error:
            seen = {
                name: (f"{status.leader:x}", status.raftTerm, status.raftIndex, status.raftAppliedIndex)
                for name, status in self.statuses().items()
            }
            raise WaitError(f"{error}; leader, term, index, applied: {seen}\n{self.tails()}") from None

    def tails(self, lines: int = 40) -> str:
        """Return the ends of all logs."""
        return "\n".join(
            f"--- {member.name}, {member.program.name}\n{member.log_tail(lines)}"
            for member in (*self.members, *self.gone)
        )


@contextmanager
def forming(
    directory: Path,
    programs: Iterable[Program],
    flags: Sequence[str] = (),
    *,
    failpoints: Mapping[int, str] | None = None,
    env: Mapping[str, str] | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    ctl_flags: Sequence[str] = (),
) -> Iterator[Cluster]:
    """Form a cluster that has a leader; all that ever belonged to it is ended with the block."""
    cluster = Cluster(directory, flags, env, credentials=credentials, ctl_flags=ctl_flags)
    try:
        cluster.form(programs, failpoints)
        cluster.wait_leader()
        yield cluster
    except BaseException:
        sys.stderr.write(cluster.tails() + "\n")
        raise
    finally:
        cluster.close()
