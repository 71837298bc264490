"""A member that goes on alone, because the majority of its cluster is lost (``--force-new-cluster``).

No majority can agree on that, so it is put into the log as if one had: entries that remove all other members,
behind the last one that is known to be committed. What stands there uncommitted is dropped. When they are
applied, Raft's configuration, the members, their copy in the v2 tree and the connections change as with any
other removal, and the member leads a cluster of one, under the cluster's ID.

That is safe only if the others never come back with their data. Source: etcd ``server/etcdserver/raft.go``
(restartAsStandaloneNode, createConfigChangeEnts).
"""

from collections.abc import Iterable, Sequence

from kvorum.logging import Logger, hex_id
from kvorum.raft import confchange
from kvorum.raft.codec import conf_change_of, encode_conf_change, encode_conf_change_v2
from kvorum.raft.confchange import Configuration
from kvorum.raft.types import (
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
)
from kvorum.server.changes import Change, MemberInfo, adding, promoting, removing, updating
from kvorum.wal.recovery import Recovered


def go_on_alone(
    recovered: Recovered,
    applied: int,
    conf_state: ConfState,
    members: Iterable[int],
    local: MemberInfo,
    log: Logger,
) -> Recovered:
    """Write the removals of all others into the log, committed; returns the log with them.

    Args:
        recovered: the log, read to its end and open.
        applied, conf_state: where the database stands, and the configuration in force there.
        members: whom the database lists.
        local: this member, with the peer URLs that it is to have should it be none.

    Raises:
        ConfChangeError: the configuration is impossible. WalError, OSError: the disk's.
    """
    wal, metadata, state, entries = recovered
    commit = max(state.commit, applied)  # what was applied was committed, whether or not that was written
    kept = [entry for entry in entries if entry.index <= commit]
    if len(kept) < len(entries):
        log.info(
            "discarding uncommitted WAL entries",
            {
                "entry-index": commit + 1,
                "commit-index-from-wal": state.commit,
                "number-of-discarded-entries": len(entries) - len(kept),
            },
        )
    configuration = _in_force(conf_state, [entry for entry in kept if entry.index > applied])
    added = forced_entries(configuration, members, local, state.term, commit)
    forced = HardState(state.term, state.vote, commit + len(added))
    wal.flush(wal.prepare(forced, added))
    log.info("forcing restart member", {"local-member-id": hex_id(local.id), "commit-index": forced.commit})
    return Recovered(wal, metadata, forced, kept + added)


def _in_force(conf_state: ConfState, entries: Sequence[Entry]) -> Configuration:
    """The configuration behind these entries, or more than that: one of them may not hold any more."""
    configuration = confchange.restore(conf_state)
    for entry in entries:
        if entry.type in (ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2):
            configuration = confchange.apply(configuration, conf_change_of(entry).as_v2())
    return configuration


def forced_entries(
    configuration: Configuration, members: Iterable[int], local: MemberInfo, term: int, commit: int
) -> list[Entry]:
    """The entries behind ``commit`` that leave ``local`` as the only member.

    It comes before the others go, since a configuration without voters is none. Its peer URLs may still be
    those of another then, so they come last.
    """
    changes: list[Change] = []
    if local.id in configuration.learners | configuration.learners_next:
        changes.append(promoting(local.id))
    elif local.id not in configuration.voters:
        changes.append(adding(MemberInfo(local.id, (f"http://{hex_id(local.id)}.invalid:2380",))))
    is_new = bool(changes) and not changes[0].is_promotion
    others = configuration.members | set(members)
    changes += [removing(other) for other in sorted(others - {local.id})]
    if is_new:
        changes.append(updating(local))
    encoded = [(ENTRY_CONF_CHANGE, encode_conf_change(change.encoded(0))) for change in changes]
    if configuration.is_joint:
        encoded.insert(0, (ENTRY_CONF_CHANGE_V2, encode_conf_change_v2(ConfChangeV2())))
    return [Entry(term, commit + place, kind, data) for place, (kind, data) in enumerate(encoded, 1)]
