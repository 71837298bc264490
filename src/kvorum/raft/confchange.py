"""Who votes, and how that changes (thesis §4; etcd ``raft/confchange``).

A change of at most one voter takes effect in one step: any two majorities, one of the old and one of the
new configuration, share a member. Anything larger goes through a joint configuration, in which both
majorities have to agree, so that no two disjoint majorities ever exist. Learners receive the log and do not
vote.

Configurations are values: a change gives a new one or raises, and the old one is still whole.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from kvorum.raft.types import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    CONF_CHANGE_UPDATE_NODE,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
)

_NOBODY: Final[frozenset[int]] = frozenset()


class ConfChangeError(ValueError):
    """The change does not apply to the configuration. It was committed, so every member refuses it alike."""


@final
@dataclass(frozen=True)
class Configuration:
    """Who votes and who learns.

    Invariants::

        learners ∩ voters = learners ∩ voters_outgoing = ∅
        learners_next ⊆ voters_outgoing            they still vote there, so they can't be learners yet
        voters_outgoing = ∅ ⇒ learners_next = ∅ ∧ ¬auto_leave
    """

    voters: frozenset[int] = _NOBODY
    voters_outgoing: frozenset[int] = _NOBODY
    learners: frozenset[int] = _NOBODY
    learners_next: frozenset[int] = _NOBODY
    auto_leave: bool = False

    @property
    def is_joint(self) -> bool:
        """Whether two majorities decide."""
        return bool(self.voters_outgoing)

    @property
    def all_voters(self) -> frozenset[int]:
        """Everyone whose vote counts in some half."""
        return self.voters | self.voters_outgoing

    @property
    def members(self) -> frozenset[int]:
        """Everyone who is sent the log."""
        return self.voters | self.voters_outgoing | self.learners

    def conf_state(self) -> ConfState:
        """The form that is stored and sent."""
        return ConfState(
            tuple(sorted(self.voters)),
            tuple(sorted(self.learners)),
            tuple(sorted(self.voters_outgoing)),
            tuple(sorted(self.learners_next)),
            self.auto_leave,
        )

    def __str__(self) -> str:
        """As etcd's log prints it: ``voters=(1 2)&&(1 3) learners=(4) autoleave``."""
        text = f"voters={_majority(self.voters)}"
        if self.voters_outgoing:
            text += f"&&{_majority(self.voters_outgoing)}"
        if self.learners:
            text += f" learners={_majority(self.learners)}"
        if self.learners_next:
            text += f" learners_next={_majority(self.learners_next)}"
        return text + " autoleave" if self.auto_leave else text

    def check_invariants(self) -> None:
        """Raise ConfChangeError if the formulas above don't hold."""
        if self.learners & self.all_voters:
            raise ConfChangeError(f"both learner and voter: {sorted(self.learners & self.all_voters)}")
        if not self.learners_next <= self.voters_outgoing:
            raise ConfChangeError(f"learners-to-be that never voted: {sorted(self.learners_next)}")
        if not self.is_joint and (self.learners_next or self.auto_leave):
            raise ConfChangeError("a configuration that is not joint has nothing to leave")


def restore(state: ConfState) -> Configuration:
    """The configuration that was stored as ``state``. Raises ConfChangeError if it is impossible."""
    config = Configuration(
        frozenset(state.voters),
        frozenset(state.voters_outgoing),
        frozenset(state.learners),
        frozenset(state.learners_next),
        state.auto_leave,
    )
    config.check_invariants()
    return config


def apply(config: Configuration, change: ConfChangeV2) -> Configuration:
    """The configuration after ``change``. Raises ConfChangeError if it does not apply."""
    if change.leaves_joint():
        changed = leave_joint(config)
    elif change.enters_joint():
        changed = enter_joint(config, change.changes, change.auto_leaves())
    else:
        changed = simple(config, change.changes)
    changed.check_invariants()
    return changed


def simple(config: Configuration, changes: Sequence[ConfChangeSingle]) -> Configuration:
    """One step: at most one voter more or less."""
    if config.is_joint:
        raise ConfChangeError("can't apply simple config change in joint config")
    changed = _change_each(config, changes)
    if len(config.voters ^ changed.voters) > 1:
        raise ConfChangeError("more than one voter changed without entering joint config")
    return changed


def enter_joint(
    config: Configuration, changes: Sequence[ConfChangeSingle], auto_leave: bool
) -> Configuration:
    """The first of two steps: the old voters keep their say beside the new ones."""
    if config.is_joint:
        raise ConfChangeError("config is already joint")
    if not config.voters:
        raise ConfChangeError("can't make a zero-voter config joint")
    return replace(
        _change_each(replace(config, voters_outgoing=config.voters), changes), auto_leave=auto_leave
    )


def leave_joint(config: Configuration) -> Configuration:
    """The second step: the old voters lose their say, and those demoted become learners."""
    if not config.is_joint:
        raise ConfChangeError("can't leave a non-joint config")
    return Configuration(voters=config.voters, learners=config.learners | config.learners_next)


def _change_each(config: Configuration, changes: Sequence[ConfChangeSingle]) -> Configuration:
    for change in changes:
        if change.node_id:
            config = _change_one(config, change.type, change.node_id)
    if not config.voters:
        raise ConfChangeError("removed all voters")
    return config


def _change_one(config: Configuration, kind: int, node: int) -> Configuration:
    if kind == CONF_CHANGE_UPDATE_NODE:
        return config
    if kind == CONF_CHANGE_ADD_LEARNER_NODE and node in config.learners:
        return config
    one = frozenset((node,))
    gone = replace(
        config,
        voters=config.voters - one,
        learners=config.learners - one,
        learners_next=config.learners_next - one,
    )
    if kind == CONF_CHANGE_ADD_NODE:
        return replace(gone, voters=gone.voters | one)
    if kind == CONF_CHANGE_ADD_LEARNER_NODE:
        if node in config.voters_outgoing:
            return replace(gone, learners_next=gone.learners_next | one)
        return replace(gone, learners=gone.learners | one)
    if kind == CONF_CHANGE_REMOVE_NODE:
        return gone
    raise ConfChangeError(f"unexpected conf type {kind}")


def _majority(members: Iterable[int]) -> str:
    return f"({' '.join(str(member) for member in sorted(members))})"
