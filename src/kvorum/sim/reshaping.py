"""Membership changes during the storm: members are added (with a vote, or as learners that are promoted
later), removed, and several at once through joint consensus.

A newcomer starts once some member has applied its addition, with nothing but the cluster's ID and its own. A
removed member stops when it learns of that: from the log, or because the others turn its messages away.
"""

import asyncio
import json
import random
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, final

from kvorum.errors import EtcdError
from kvorum.raft.core import ProposalDropped
from kvorum.raft.types import (
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    TRANSITION_AUTO,
    TRANSITION_JOINT_IMPLICIT,
    ConfChangeSingle,
    ConfChangeV2,
)
from kvorum.server import changes
from kvorum.server.changes import Change, MemberInfo
from kvorum.sim.member import Member, Running

if TYPE_CHECKING:
    from kvorum.sim.cluster import Cluster

MOST_MEMBERS: Final = 5
MOST_EVER: Final = 9
FEWEST_VOTERS: Final = 3
"""Of two, one that removes the other (or itself) and is cut off before that one knows leaves nobody who can
lead.
"""
REST_SECONDS: Final = 4.0
"""Between two removals, so that their number is known."""
LOOK_SECONDS: Final = 0.2


@final
class Reshaper:
    """See the module."""

    def __init__(self, cluster: "Cluster", dice: random.Random) -> None:
        self._cluster: Final = cluster
        self._dice: Final = dice
        self._waiting: Final[dict[int, tuple[Member, MemberInfo]]] = {}
        """Newcomers that have been proposed and not been started."""
        self._rests_until = 0.0
        self._tasks: Final[list[asyncio.Task[None]]] = []

    # --- what is proposed -----------------------------------------------------------------------------------

    def add(self) -> None:
        """Propose a newcomer, or promote a learner there is."""
        at = self._somewhere()
        if at is None:
            return
        learners = [member for member in at.node.cluster.listed() if member.is_learner]
        if learners and self._dice.random() < 0.7:
            leader = self._cluster.leader()
            if leader is not None:
                self._cluster.trace.note(f"promote {learners[0].id:x}")
                self._try(leader.require().node.reconfigure.promote_member(learners[0].id))
            return
        newcomer = self._newcomer(at, is_learner=self._dice.random() < 0.6)
        if newcomer is not None:
            self._propose(at, changes.adding(newcomer))

    def remove(self) -> None:
        """Propose to remove a member."""
        at = self._somewhere()
        if at is None:
            return
        leaving = self._leaving()
        if leaving is not None:
            self._propose(at, changes.removing(leaving.id))

    def change_jointly(self) -> None:
        """Propose a change of several members in two steps: one replaced, or two removed."""
        at = self._somewhere()
        if at is None:
            return
        leaving = self._leaving()
        newcomer = None
        if len(at.node.cluster.voters()) < MOST_MEMBERS:
            newcomer = self._newcomer(at, is_learner=False, replaces=leaving is not None)
        steps: list[ConfChangeSingle] = []
        contexts: list[object] = []
        if newcomer is not None:
            steps.append(ConfChangeSingle(CONF_CHANGE_ADD_NODE, newcomer.id))
            contexts.append(newcomer.fields())
        elif leaving is not None and len(at.node.cluster.voters()) >= MOST_MEMBERS:
            others = [info for info in at.node.cluster.voters() if info.id != leaving.id]
            steps.append(ConfChangeSingle(CONF_CHANGE_REMOVE_NODE, self._dice.choice(others).id))
            contexts.append(None)
        if leaving is not None:
            steps.append(ConfChangeSingle(CONF_CHANGE_REMOVE_NODE, leaving.id))
            contexts.append(None)
        if not steps:
            return
        context = json.dumps(contexts).encode()
        transition = self._dice.choice((TRANSITION_AUTO, TRANSITION_JOINT_IMPLICIT))
        self._cluster.trace.note(f"change jointly: {[f'{step.type} {step.node_id:x}' for step in steps]}")

        def propose() -> None:
            try:
                at.begun.raft.propose_conf_change(ConfChangeV2(transition, tuple(steps), context))
            except ProposalDropped:
                return
            at.ready.kick()

        at.process.run(lambda: at.node.guard(propose))

    def _somewhere(self) -> Running | None:
        up = [member for member in self._cluster.up if not member.require().process.paused]
        return self._dice.choice(up).require() if up else None

    def _newcomer(self, at: Running, *, is_learner: bool, replaces: bool = False) -> MemberInfo | None:
        there = len(at.node.cluster.members) + len(self._waiting) - replaces
        if there >= MOST_MEMBERS or len(self._cluster.members) >= MOST_EVER:
            return None
        member, info = self._cluster.newcomer(is_learner=is_learner)
        self._waiting[info.id] = (member, info)
        self._look()
        return info

    def _leaving(self) -> MemberInfo | None:
        cluster = self._cluster
        newest = max((member.require().node for member in cluster.up), key=lambda node: node.applied_index)
        if cluster.loop.now < self._rests_until or len(newest.cluster.voters()) < FEWEST_VOTERS:
            return None
        self._rests_until = cluster.loop.now + REST_SECONDS
        return self._dice.choice(newest.cluster.listed())

    def _propose(self, at: Running, change: Change) -> None:
        self._cluster.trace.note(f"{changes.KIND_NAMES[change.kind]} {change.member_id:x}")

        def propose() -> None:
            try:
                at.node.reconfigure.propose(change, _ignore)
            except EtcdError:
                return

        at.process.run(lambda: at.node.guard(propose))

    def _try(self, work: Coroutine[Any, Any, object]) -> None:
        async def run() -> None:
            try:
                await work
            except EtcdError:
                return

        self._tasks.append(self._cluster.loop.create_task(run()))

    # --- what comes of it -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Start the newcomers that are members now."""
        cluster = self._cluster
        for member_id, (member, info) in list(self._waiting.items()):
            if any(member_id in other.require().node.cluster.members for other in cluster.up):
                del self._waiting[member_id]
                cluster.join(member, info)
        if self._waiting and not cluster.is_over:
            cluster.loop.call_later(LOOK_SECONDS, self._look)

    def end(self) -> None:
        """The run is over."""
        for task in self._tasks:
            task.cancel()


def _ignore(_error: EtcdError | None) -> None:
    """Nobody waits."""
