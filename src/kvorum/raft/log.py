"""The log in memory: every entry after the last compaction, and four cursors into it.

Entries live in one list; the list's first element has index ``offset + 1``. The cursors say how far each
thing has come, and in which order it may come there::

    offset          everything up to here was compacted away; only its term is kept
    applied         the state machine has taken it in (reported by the server)
    applying        handed out in some Ready's committed_entries
    committed       a majority has it (Raft §5.3); may run ahead of what is stable *here*
    stable          on this member's disk (reported by advance)
    saving          handed out in some Ready's entries, perhaps still being written

An entry that is replaced (Raft §5.3: a follower's tail that conflicts with its leader's) falls out of
``saving`` and ``stable`` together with everything behind it, so that the next Ready writes what is now
there.
"""

from collections.abc import Sequence
from typing import Final, final

from kvorum.raft.types import (
    EMPTY_SNAPSHOT,
    ENTRY_NORMAL,
    ConfState,
    Entry,
    HardState,
    Snapshot,
    SnapshotMetadata,
)

NO_TERM: Final = -1
"""The term of an index that this log cannot name: compacted away, or not there yet."""
NOT_MATCHING: Final = -1
_ENTRY_OVERHEAD_BYTES: Final = 24
"""What an entry without data counts in a page or message, so that empty ones are bounded too."""


class LogLostError(Exception):
    """The log has less than the member promised: entries that were acknowledged or applied are not there.

    Nothing can be done from inside: to go on would break the promise. The process stops with this text.
    """


@final
class RaftLog:
    """The log with its cursors.

    Invariants::

        entries[k].index = offset + 1 + k           terms never decrease
        applied ≤ applying ≤ min(committed, stable)
        stable ≤ saving ≤ last_index                committed ≤ last_index
        offset ≤ applied                            unless a snapshot is being restored
        offset ≤ snapshot.index                     whoever needs what was compacted gets the snapshot
    """

    __slots__ = (
        "_entries",
        "_snapshot_given",
        "applied",
        "applying",
        "committed",
        "offset",
        "offset_term",
        "pending_snapshot",
        "saving",
        "snapshot",
        "stable",
    )

    def __init__(
        self,
        snapshot: Snapshot = EMPTY_SNAPSHOT,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
        applied: int = 0,
    ) -> None:
        """What a restart finds. Raises LogLostError if it contradicts itself.

        ``entries`` follow each other; those the snapshot covers are left out. ``applied`` may be ahead of the
        hard state's commit, which is written without being synced: what was applied was committed.
        """
        offset = snapshot.metadata.index
        self.snapshot = snapshot
        self.offset = offset
        self.offset_term = snapshot.metadata.term
        kept = [entry for entry in entries if entry.index > offset]
        self._entries: list[Entry] = kept
        for position, entry in enumerate(kept, offset + 1):
            if entry.index != position:
                raise LogLostError(f"the log goes from entry {position - 1} to {entry.index}")
        last = offset + len(kept)
        self.saving = self.stable = last
        applied = max(applied, offset)
        committed = max(applied, hard_state.commit if hard_state else 0)
        if committed > last:
            raise LogLostError(
                f"entry {committed} was committed (applied: {applied}), but the log ends at {last}; "
                "was the log corrupted, truncated, or lost?"
            )
        self.committed = committed
        self.applied = self.applying = applied
        self.pending_snapshot: Snapshot | None = None
        self._snapshot_given = False

    # --- looking ------------------------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        """The lowest index whose entry is here (or would be the first one appended)."""
        return self.offset + 1

    @property
    def last_index(self) -> int:
        """The highest index of the log."""
        return self.offset + len(self._entries)

    @property
    def last_term(self) -> int:
        """The term of the last entry."""
        entries = self._entries
        return entries[-1].term if entries else self.offset_term

    def term(self, index: int) -> int:
        """The term at ``index``, NO_TERM if the log cannot tell. O(1)."""
        position = index - self.offset
        if position == 0:
            return self.offset_term
        if 0 < position <= len(self._entries):
            return self._entries[position - 1].term
        return NO_TERM

    def matches(self, index: int, term: int) -> bool:
        """Whether the entry ``(term, index)`` is in this log; with it, all before it (Log Matching, §5.3)."""
        return self.term(index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as up to date as this one (Raft §5.4.1)."""
        mine = self.last_term
        return last_term > mine or (last_term == mine and last_index >= self.last_index)

    def slice(self, start: int, end: int) -> list[Entry]:
        """The entries with ``start <= index < end``, all of which must be here."""
        assert self.offset < start <= end <= self.last_index + 1, (self.offset, start, end, self.last_index)
        return self._entries[start - self.offset - 1 : end - self.offset - 1]

    def page(self, start: int, end: int, max_bytes: int) -> list[Entry]:
        """As many of ``start <= index < end`` as fit ``max_bytes``, at least one if there is one."""
        position = start - self.offset - 1
        assert position >= 0, (start, self.offset)
        stop = min(end, self.last_index + 1) - self.offset - 1
        entries = self._entries
        at = position
        while at < stop:
            max_bytes -= len(entries[at].data) + _ENTRY_OVERHEAD_BYTES
            if max_bytes < 0 and at > position:
                break
            at += 1
        return entries[position:at]

    def has_conf_change(self, start: int, end: int) -> bool:
        """Whether a membership change is among ``start <= index < end``."""
        return any(entry.type != ENTRY_NORMAL for entry in self.slice(max(start, self.first_index), end))

    def find_conflict_by_term(self, index: int, term: int) -> int:
        """The highest index ≤ ``index`` whose term is ≤ ``term`` or unknown: where two logs may still agree.

        Both sides use it to skip a whole term per message instead of an entry (Raft §5.3, last paragraph
        but one; etcd ``raft/log.go``).
        """
        while self.term(index) > term:
            index -= 1
        return index

    # --- growing ------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Put entries behind the one before their first, replacing what is there; never a committed one.

        Raises:
            LogLostError: a committed entry would be replaced.
        """
        if not entries:
            return
        after = entries[0].index - 1
        last = self.last_index
        if after < last:
            if after < self.committed:
                raise LogLostError(
                    f"the leader replaces entry {after + 1}, but {self.committed} is committed"
                )
            del self._entries[after - self.offset :]
            self.stable = min(self.stable, after)
            self.saving = min(self.saving, after)
        else:
            assert after == last, (after, last)
        self._entries.extend(entries)

    def maybe_append(self, index: int, log_term: int, committed: int, entries: Sequence[Entry]) -> int:
        """AppendEntries' receiver (Raft Figure 2): the last index now known to match, or NOT_MATCHING."""
        if not self.matches(index, log_term):
            return NOT_MATCHING
        last_new = index + len(entries)
        if index == self.last_index:
            self.append(entries)
        else:
            for position, entry in enumerate(entries):
                if not self.matches(entry.index, entry.term):
                    self.append(entries[position:])
                    break
        self.commit_to(min(committed, last_new))
        return last_new

    def commit_to(self, index: int) -> None:
        """Raise the commit index; it never falls.

        Raises:
            LogLostError: the log ends before ``index``.
        """
        if index > self.committed:
            if index > self.last_index:
                raise LogLostError(
                    f"entry {index} is committed, but the log ends at {self.last_index}; "
                    "was the log corrupted, truncated, or lost?"
                )
            self.committed = index

    # --- to disk ------------------------------------------------------------------------------------------

    def has_unsaved(self) -> bool:
        """Whether there is anything for ``take_unsaved``."""
        return self.saving < self.last_index

    def take_unsaved(self) -> list[Entry]:
        """The entries no Ready has carried yet; they count as being written from now on."""
        entries = self._entries[self.saving - self.offset :]
        self.saving = self.last_index
        return entries

    def take_snapshot(self) -> Snapshot:
        """The restored snapshot that no Ready has carried yet, or the empty one."""
        if self.pending_snapshot is None or self._snapshot_given:
            return EMPTY_SNAPSHOT
        self._snapshot_given = True
        return self.pending_snapshot

    def has_untaken_snapshot(self) -> bool:
        """Whether there is anything for ``take_snapshot``."""
        return self.pending_snapshot is not None and not self._snapshot_given

    def saved(self) -> None:
        """What was taken is on disk; what was replaced meanwhile no longer counts as taken."""
        self.stable = self.saving
        if self._snapshot_given:
            self.pending_snapshot = None
            self._snapshot_given = False

    # --- to the state machine -----------------------------------------------------------------------------

    def is_restoring(self) -> bool:
        """Whether the state machine waits for a snapshot: nothing can be applied before it."""
        return self.applied < self.offset or self.pending_snapshot is not None

    def has_committed(self) -> bool:
        """Whether there is anything for ``take_committed``."""
        return self.applying < self.committed and self.applying < self.stable and not self.is_restoring()

    def take_committed(self, max_bytes: int) -> list[Entry]:
        """The next committed entries that fit; only what is on this disk, so a crash can't unapply it."""
        if not self.has_committed():
            return []
        page = self.page(self.applying + 1, min(self.committed, self.stable) + 1, max_bytes)
        self.applying += len(page)
        return page

    def applied_to(self, index: int) -> None:
        """The state machine has taken in everything up to ``index``."""
        assert index <= self.applying, (index, self.applying)
        if index > self.applied:
            self.applied = index

    # --- snapshots ----------------------------------------------------------------------------------------

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot from the leader (Raft §7)."""
        metadata = snapshot.metadata
        assert metadata.index > self.committed, (metadata.index, self.committed)
        self.snapshot = self.pending_snapshot = snapshot
        self._snapshot_given = False
        self._entries = []
        self.offset = self.committed = self.stable = self.saving = self.applying = metadata.index
        self.offset_term = metadata.term

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes) -> Snapshot:
        """Note that the state machine at ``index`` was saved; members that lag behind are sent this one."""
        if not self.snapshot.metadata.index <= index <= self.applied:
            raise ValueError(
                f"snapshot at {index} outside [{self.snapshot.metadata.index}, {self.applied}]: "
                "older than the last one, or not applied yet"
            )
        self.snapshot = Snapshot(data, SnapshotMetadata(conf_state, index, self.term(index)))
        return self.snapshot

    def compact(self, index: int) -> None:
        """Forget everything up to ``index`` but its term. An index already compacted changes nothing."""
        if index > self.snapshot.metadata.index:
            raise ValueError(
                f"cannot compact to {index}: the last snapshot is at {self.snapshot.metadata.index}"
            )
        if index <= self.offset:
            return
        self.offset_term = self.term(index)
        del self._entries[: index - self.offset]
        self.offset = index

    def check_invariants(self) -> None:
        """Assert the formulas above. O(length)."""
        last = self.last_index
        term = self.offset_term
        for position, entry in enumerate(self._entries, self.offset + 1):
            assert entry.index == position, (entry, position)
            assert entry.term >= term, (entry, term)
            term = entry.term
        assert self.applied <= self.applying, (self.applied, self.applying)
        assert self.applying <= self.committed <= last, (self.applying, self.committed, last)
        assert self.applying <= self.stable <= self.saving <= last, (self.applying, self.stable, self.saving)
        assert self.offset <= self.applied or self.is_restoring(), (self.offset, self.applied)
        assert self.offset <= self.snapshot.metadata.index, (self.offset, self.snapshot.metadata)
