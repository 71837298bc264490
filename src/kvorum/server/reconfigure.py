"""Membership changes: proposed, waited for, and applied.

A change is an entry of its own kind. Whoever asks for one has it checked for danger (``strict.py``) and waits
until it is applied here; then Raft's configuration, the members' names and addresses, and the connections
change together, in the entry's place in the log. A change that no longer holds by then changes nothing, on
any member, and who asked is told why. Raft takes one change at a time. A leader keeps the next one until it
can be taken; what a follower sends meanwhile becomes an empty entry there, and whoever waits for it is told
that it took too long (in etcd that is so at the leader as well).

    proposed -- no leader, or another change is under way --> kept --> proposed again with the next tick
        \\-- applied --> checked --> raft, cluster, connections --> who waits
                             \\-- does not hold --> raft, as no change --> who waits

Source: etcd ``server/etcdserver/server.go`` (AddMember, ..., configure, applyConfChange).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol, final

from kvorum import errors, limits
from kvorum.errors import EtcdError
from kvorum.logging import Logger, hex_id
from kvorum.raft.codec import conf_change_of, encode_conf_state
from kvorum.raft.confchange import ConfChangeError
from kvorum.raft.core import ProposalDropped
from kvorum.raft.rawnode import Status
from kvorum.raft.types import (
    CONF_CHANGE_REMOVE_NODE,
    CONF_CHANGE_UPDATE_NODE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
)
from kvorum.server import changes, ids
from kvorum.server.changes import Change, MemberInfo
from kvorum.server.forward import ToLeader
from kvorum.server.membership import Cluster
from kvorum.server.strict import Connections, StrictCheck
from kvorum.server.timers import Timers
from kvorum.urls import parse_urls

Done = Callable[[EtcdError | None], None]


class Raft(Protocol):
    """What changes ask of Raft (``raft.RawNode``)."""

    @property
    def is_leader(self) -> bool:
        """Whether this member leads."""

    @property
    def conf_change_under_way(self) -> bool:
        """Whether a leader cannot take a change now."""

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> None:
        """Put a change into the log. Raises ProposalDropped."""

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Take a committed change into effect. Raises ConfChangeError."""

    def transfer_leadership(self, transferee: int) -> None:
        """Hand leadership over."""

    def status(self) -> Status:
        """A look inside."""


class Transport(Connections, Protocol):
    """The connections to the other members (``peer.PeerTransport``)."""

    def add_peer(self, member_id: int, urls: Sequence[str]) -> None:
        """Connect to a member."""

    def remove_peer(self, member_id: int) -> None:
        """Drop the connections to a member."""

    def update_peer(self, member_id: int, urls: Sequence[str]) -> None:
        """A member has other addresses."""

    def remove_all(self) -> None:
        """Drop all connections."""


class Surroundings(Protocol):
    """What changes ask of their member (``node.Node`` and who assembles it)."""

    def kick(self) -> None:
        """Raft may have something to do."""

    def set_conf_state(self, encoded: bytes) -> None:
        """Keep Raft's configuration with the data, in the transaction that is open."""

    def why_late(self, started: float) -> EtcdError:
        """What to tell who has waited for too long, since ``started``."""

    def removed_self(self) -> None:
        """This member is none any more, and has had its time to tell the others: stop."""


@final
class _Waiter:
    __slots__ = ("change", "deadline", "done", "proposed", "started")

    def __init__(self, change: Change, started: float, deadline: float, done: Done) -> None:
        self.change = change
        self.started = started
        self.deadline = deadline
        self.done = done
        self.proposed = False


@final
class Reconfigure:
    """The membership changes of one member.

    Invariant: whoever waits is told once: applied, refused, too late, or stopped.

    Args:
        next_id: gives numbers that no member gave before.
        unix_time: the time that new members' IDs are made of, in seconds.
        timeout_seconds: how long may be waited for a change.
        strict: ``--strict-reconfig-check``.
    """

    def __init__(
        self,
        raft: Raft,
        cluster: Cluster,
        transport: Transport,
        surroundings: Surroundings,
        timers: Timers,
        log: Logger,
        *,
        next_id: Callable[[], int],
        unix_time: Callable[[], float],
        timeout_seconds: float,
        strict: bool,
    ) -> None:
        self._raft: Final = raft
        self._cluster: Final = cluster
        self._transport: Final = transport
        self._surroundings: Final = surroundings
        self._timers: Final = timers
        self._log: Final = log
        self._next_id: Final = next_id
        self._unix_time: Final = unix_time
        self._timeout_seconds: Final = timeout_seconds
        self._strict: Final = StrictCheck(cluster, transport, timers, log, enabled=strict)
        self._waiting: Final[dict[int, _Waiter]] = {}
        self._stopped = False
        self.to_leader: ToLeader | None = None
        """The way to the leader; None for a member that has no peers."""
        self.promotions_total = 0
        """Learners that this member promoted as leader."""

    # --- what is asked for --------------------------------------------------------------------------------

    async def add_member(self, urls: Sequence[str], is_learner: bool) -> tuple[MemberInfo, list[MemberInfo]]:
        """Add a member that will have these peer URLs; returns it, and all members after that.

        Raises:
            EtcdError: ERR_MEMBER_BAD_URLS; what the strict check, the change itself, or waiting comes to.
        """
        peer_urls = _checked(urls)
        member_id = ids.member_id(peer_urls, "", int(self._unix_time()))
        member = MemberInfo(member_id, peer_urls, is_learner=is_learner)
        self._strict.before_add(member)
        return member, await self._configure(changes.adding(member))

    async def remove_member(self, member_id: int) -> list[MemberInfo]:
        """Remove a member for good; returns those that stay. Raises EtcdError."""
        self._strict.before_remove(member_id)
        return await self._configure(changes.removing(member_id))

    async def update_member(self, member_id: int, urls: Sequence[str]) -> list[MemberInfo]:
        """Give a member other peer URLs; returns the members after that.

        Raises:
            EtcdError: ERR_MEMBER_BAD_URLS (of bad ones etcd lets the change pass, and every member that
                applies it panics); what the change, or waiting, comes to.
        """
        peer_urls = _checked(urls)
        known = self._cluster.member(member_id)
        # The change replaces what it does not name as well, so a learner has to be called one to stay one.
        is_learner = known is not None and known.is_learner
        return await self._configure(
            changes.updating(MemberInfo(member_id, peer_urls, is_learner=is_learner))
        )

    async def promote_member(self, member_id: int) -> list[MemberInfo]:
        """Give a learner its vote, if it has caught up, which only the leader knows; returns the members.

        Raises:
            EtcdError: ERR_LEARNER_NOT_READY, ERR_MEMBER_NOT_LEARNER, ERR_MEMBER_NOT_FOUND; what waiting, or
                the way to the leader, comes to.
        """
        to_leader = self.to_leader
        deadline = self._timers.time() + self._timeout_seconds
        while to_leader is not None and not self._raft.is_leader:
            members = await to_leader.promote(member_id)
            if members is not None:
                return members
            await to_leader.again(deadline)
        return await self.promote_here(member_id)

    async def promote_here(self, member_id: int) -> list[MemberInfo]:
        """As ``promote_member``, if this member leads. Raises EtcdError: ERR_NOT_LEADER besides."""
        if not self._raft.is_leader:
            raise errors.ERR_NOT_LEADER
        self._check_caught_up(member_id)
        self._strict.before_promote(member_id)
        members = await self._configure(changes.promoting(member_id))
        self.promotions_total += 1
        return members

    def _check_caught_up(self, member_id: int) -> None:
        """Raises EtcdError: ERR_LEARNER_NOT_READY. Who is no member is found out when it is applied."""
        progress = self._raft.status().progress
        learner, own = progress.get(member_id), progress.get(self._cluster.local_id)
        if learner is not None and own is not None and learner.match < own.match * limits.LEARNER_READY_SHARE:
            raise errors.ERR_LEARNER_NOT_READY

    async def _configure(self, change: Change) -> list[MemberInfo]:
        applied: asyncio.Future[EtcdError | None] = asyncio.get_running_loop().create_future()

        def done(error: EtcdError | None) -> None:
            if not applied.done():
                applied.set_result(error)

        request_id = self.propose(change, done)
        try:
            error = await applied
        finally:
            self._waiting.pop(request_id, None)
        if error is not None:
            raise error
        return self._cluster.listed()

    # --- from proposing to applying -----------------------------------------------------------------------

    def propose(self, change: Change, done: Done) -> int:
        """Propose a change; ``done`` hears once what came of it. Returns the number it waits under.

        Raises:
            EtcdError: ERR_STOPPED, ERR_REQUEST_TOO_MANY_REQUESTS.
        """
        if self._stopped:
            raise errors.ERR_STOPPED
        if len(self._waiting) >= limits.MAX_WAITING_MEMBER_CHANGES:
            raise errors.ERR_REQUEST_TOO_MANY_REQUESTS
        request_id = self._next_id()
        now = self._timers.time()
        self._waiting[request_id] = _Waiter(change, now, now + self._timeout_seconds, done)
        self._try_to_propose(request_id)
        return request_id

    def _try_to_propose(self, request_id: int) -> None:
        waiter = self._waiting[request_id]
        if self._raft.conf_change_under_way:
            return
        try:
            self._raft.propose_conf_change(waiter.change.encoded(request_id))
        except ProposalDropped:
            return  # no leader: again with the next tick
        waiter.proposed = True
        self._surroundings.kick()

    def tick(self, now: float) -> None:
        """Propose what found no leader, and tell who has waited for too long; for every tick."""
        for request_id, waiter in list(self._waiting.items()):
            if waiter.deadline <= now:
                self._answer(request_id, self._surroundings.why_late(waiter.started))
            elif not waiter.proposed:
                self._try_to_propose(request_id)

    def fail_all(self, error: EtcdError) -> None:
        """Tell everyone who waits, and take nothing more: the member stops."""
        self._stopped = True
        for request_id in list(self._waiting):
            self._answer(request_id, error)

    def apply(self, entry: Entry) -> None:
        """Apply a committed entry of the kind ENTRY_CONF_CHANGE or ENTRY_CONF_CHANGE_V2.

        Raises:
            BadContextError: it is not what members write.
        """
        change = conf_change_of(entry)
        steps = changes.opened(change)
        error: EtcdError | None = None
        try:
            self._cluster.check(steps)
        except EtcdError as refused:
            error = refused.forget()
            change, steps = _without_effect(change), []
        try:
            conf_state = self._raft.apply_conf_change(change)
        except ConfChangeError as refused:
            # It would leave nobody to vote (etcd: a panic of all members).
            self._log.warn("Raft refuses a membership change", error=refused)
            error = errors.ERR_MEMBER_NOT_ENOUGH_STARTED
        else:
            # Without effect as well: a change of several steps makes the configuration joint in any case.
            self._surroundings.set_conf_state(encode_conf_state(conf_state))
            for step in steps:
                self._take_effect(step)
        if isinstance(change, ConfChange):
            self._answer(change.id, error)

    def _take_effect(self, step: Change) -> None:
        """The names and addresses, and the connections."""
        self._cluster.apply(step)
        member_id = step.member_id
        if member_id == self._cluster.local_id:
            if step.kind == CONF_CHANGE_REMOVE_NODE:
                self._leave()
        elif step.kind == CONF_CHANGE_REMOVE_NODE:
            self._transport.remove_peer(member_id)
        elif step.member is not None and not step.is_promotion:
            connect = (
                self._transport.update_peer
                if step.kind == CONF_CHANGE_UPDATE_NODE
                else self._transport.add_peer
            )
            connect(member_id, step.member.peer_urls)

    def installed(self) -> None:
        """A snapshot has replaced the members: connect to those there are now."""
        self.start()
        self._transport.remove_all()
        for member in self._cluster.others():
            self._transport.add_peer(member.id, member.peer_urls)

    # --- leaving ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: a member whose removal was applied before, in an earlier run or elsewhere, stops again."""
        if self._cluster.is_removed(self._cluster.local_id):
            self._timers.call_later(limits.LEAVE_SECONDS, self._surroundings.removed_self)

    def _leave(self) -> None:
        """This member was removed. A leader still has to tell the others that this is committed; having had
        two heartbeats for it, it hands over, so that nobody waits for an election timeout.
        """
        self._timers.call_later(limits.LEAVE_SECONDS / 2, self._hand_over)
        self._timers.call_later(limits.LEAVE_SECONDS, self._surroundings.removed_self)

    def _hand_over(self) -> None:
        transferee = longest_connected(self._cluster.voters(), self._transport)
        if self._raft.is_leader and transferee is not None and not self._stopped:
            self._raft.transfer_leadership(transferee)
            self._surroundings.kick()

    def _answer(self, request_id: int, error: EtcdError | None) -> None:
        waiter = self._waiting.pop(request_id, None)
        if waiter is None:
            return
        self._log.info(
            "applied a configuration change through raft" if error is None else "no configuration change",
            {
                "local-member-id": hex_id(self._cluster.local_id),
                "raft-conf-change": changes.KIND_NAMES[waiter.change.kind],
                "raft-conf-change-node-id": hex_id(waiter.change.member_id),
            },
            **({} if error is None else {"error": error.message}),
        )
        waiter.done(error)


def longest_connected(members: Sequence[MemberInfo], connections: Connections) -> int | None:
    """The member to which this one has been connected for longest; None if there is no connection."""
    since = {member.id: connections.active_since(member.id) for member in members}
    active = {member_id: at for member_id, at in since.items() if at is not None}
    return min(active, key=lambda member_id: active[member_id]) if active else None


def _without_effect(change: ConfChange | ConfChangeV2) -> ConfChange | ConfChangeV2:
    """The change with nobody in it: Raft takes it in and stays as it is."""
    if isinstance(change, ConfChange):
        return replace(change, node_id=0)
    return replace(change, changes=tuple(ConfChangeSingle(step.type, 0) for step in change.changes))


def _checked(urls: Sequence[str]) -> tuple[str, ...]:
    """URLs as etcd keeps them. Raises EtcdError: ERR_MEMBER_BAD_URLS."""
    try:
        checked = tuple(str(url) for url in parse_urls(urls))
    except ValueError:
        raise errors.ERR_MEMBER_BAD_URLS from None
    if not checked:
        raise errors.ERR_MEMBER_BAD_URLS
    return checked
