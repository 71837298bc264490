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
from kvorum.server.changes import Change, MemberInfo, adding, promoting, removing
from kvorum.wal.recovery import Recovered


def go_on_alone(
    recovered: Recovered,
    applied: int,
    conf_state: ConfState,
    member_id: int,
    peer_urls: Iterable[str],
    log: Logger,
) -> Recovered:
    """Write the removals of all others into the log, committed; returns the log with them.

    Args:
        recovered: the log, read to its end and open.
        applied, conf_state: where the database stands, and the configuration in force there.
        peer_urls: of this member, should it be none.

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
    added = forced_entries(configuration, member_id, tuple(peer_urls), state.term, commit)
    forced = HardState(state.term, state.vote, commit + len(added))
    wal.flush(wal.prepare(forced, added))
    log.info("forcing restart member", {"local-member-id": hex_id(member_id), "commit-index": forced.commit})
    return Recovered(wal, metadata, forced, kept + added)


def _in_force(conf_state: ConfState, entries: Sequence[Entry]) -> Configuration:
    """The configuration behind these entries, or more than that: one of them may not hold any more."""
    configuration = confchange.restore(conf_state)
    for entry in entries:
        if entry.type in (ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2):
            configuration = confchange.apply(configuration, conf_change_of(entry).as_v2())
    return configuration


def forced_entries(
    configuration: Configuration, member_id: int, peer_urls: tuple[str, ...], term: int, commit: int
) -> list[Entry]:
    """The entries behind ``commit`` that leave ``member_id`` as the only voter.

    It comes before the others go, since a configuration without voters is none.
    """
    changes: list[Change] = []
    if member_id in configuration.learners | configuration.learners_next:
        changes.append(promoting(member_id))
    elif member_id not in configuration.voters:
        changes.append(adding(MemberInfo(member_id, peer_urls)))
    changes += [removing(other) for other in sorted(configuration.members - {member_id})]
    encoded = [(ENTRY_CONF_CHANGE, encode_conf_change(change.encoded(0))) for change in changes]
    if configuration.is_joint:
        encoded.insert(0, (ENTRY_CONF_CHANGE_V2, encode_conf_change_v2(ConfChangeV2())))
    return [Entry(term, commit + place, kind, data) for place, (kind, data) in enumerate(encoded, 1)]
