"""Answers to ranges, kept until a write through this proxy may have changed them. Sans-IO.

Only serializable reads are answered from here: they may be old. What is kept is bounded in number (etcd's
bound) and in bytes; the least used goes first. An answer that is on its way while a write passes must not be
kept either, so a read first takes a `Ticket`, which writes spoil like entries. Answers are kept apart by who
asked (token), since users may read different things; etcd's proxy does not look.

An entry is found by a write of one key through ``_by_key`` or, if it is of a range, through a tree of
intervals; a write of a range looks at all. Invariants (``check_invariants``): an entry is in exactly one of
the two indexes unless it is of a fixed revision, which no write changes; ``size_bytes`` is the sum.
Source of behaviour: etcd ``server/proxy/grpcproxy/cache/store.go``.
"""

from collections import OrderedDict
from typing import Final, final

from kvorum import limits
from kvorum.proto import rpc_pb2
from kvorum.watch.intervals import IntervalTree

_NO_END: Final = b"\0"
_FAR: Final = b"\xff" * 64
"""Stands for the end of an interval that has none; etcd's keys of more than that are none of interest: an
interval that ends here is also spoiled by every write behind."""


@final
class Ticket:
    """An interval whose answer is on its way or kept."""

    __slots__ = ("answer", "end", "fixed", "key", "name", "spoiled")

    def __init__(self, name: bytes, request: rpc_pb2.RangeRequest) -> None:
        self.name: Final = name
        self.key: Final = request.key
        self.end: Final = request.range_end
        self.fixed: Final = request.revision
        """The revision asked for; 0 for the newest."""
        self.spoiled = False
        self.answer = b""

    def overlaps(self, key: bytes, end: bytes) -> bool:
        """Whether a write of [key, end) concerns it; an empty end is one key, a zero byte no end."""
        if not self.end:
            return self.key >= key and (self.key == key if not end else end == _NO_END or self.key < end)
        starts_before = (not end and self.key <= key) or (bool(end) and (end == _NO_END or self.key < end))
        return starts_before and (self.end == _NO_END or key < self.end)


@final
class Cache:
    """The entries, and the tickets of those on their way."""

    def __init__(
        self, max_entries: int = limits.PROXY_CACHE_ENTRIES, max_bytes: int = limits.PROXY_CACHE_BYTES
    ) -> None:
        self._max_entries: Final = max_entries
        self._max_bytes: Final = max_bytes
        self._entries: Final[OrderedDict[bytes, Ticket]] = OrderedDict()
        self._by_key: Final[dict[bytes, dict[Ticket, None]]] = {}
        self._ranges: Final[IntervalTree[dict[Ticket, None]]] = IntervalTree()
        self._of_range: Final[dict[tuple[bytes, bytes], dict[Ticket, None]]] = {}
        self.size_bytes = 0
        self.compacted_revision = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: bytes) -> bytes | None:
        """The answer kept under a name."""
        ticket = self._entries.get(name)
        if ticket is None:
            return None
        self._entries.move_to_end(name)
        return ticket.answer

    def begin(self, name: bytes, request: rpc_pb2.RangeRequest) -> Ticket:
        """A ticket for an answer that is about to be asked for; `keep` or `drop` ends it."""
        ticket = Ticket(name, request)
        self._index(ticket)
        return ticket

    def keep(self, ticket: Ticket, answer: bytes) -> None:
        """Keep an answer, unless a write has spoiled it meanwhile."""
        if ticket.spoiled:
            return
        before = self._entries.pop(ticket.name, None)
        if before is not None:
            self._forget(before)
        ticket.answer = answer
        self._entries[ticket.name] = ticket
        self.size_bytes += _size(ticket)
        while len(self._entries) > self._max_entries or self.size_bytes > self._max_bytes:
            self._forget(self._entries.popitem(last=False)[1])

    def drop(self, ticket: Ticket) -> None:
        """End a ticket that brought nothing."""
        if not ticket.spoiled:
            self._unindex(ticket)

    def invalidate(self, key: bytes, end: bytes) -> None:
        """A write of [key, end): forget what it may have changed."""
        for ticket in self._concerned(key, end):
            if self._entries.get(ticket.name) is ticket:
                del self._entries[ticket.name]
                self._forget(ticket)
            else:
                self._unindex(ticket)
            ticket.spoiled = True

    def clear(self) -> None:
        """Forget everything."""
        self.invalidate(b"", _NO_END)
        for ticket in list(self._entries.values()):
            self._forget(self._entries.pop(ticket.name))

    def compacted(self, revision: int) -> None:
        """Revisions below this one are gone."""
        self.compacted_revision = max(self.compacted_revision, revision)

    def check_invariants(self) -> None:
        """Assert what the module docstring promises."""
        indexed = [ticket for group in self._by_key.values() for ticket in group]
        indexed += [ticket for group in self._of_range.values() for ticket in group]
        assert len(set(indexed)) == len(indexed), "an entry is indexed twice"
        for ticket in self._entries.values():
            assert (ticket in indexed) != bool(ticket.fixed), "an entry that writes do not find"
            assert not ticket.spoiled
        assert self.size_bytes == sum(map(_size, self._entries.values())), "the sum is wrong"
        assert len(self._entries) <= self._max_entries
        assert len(self._ranges) == len(self._of_range), "tree and table differ"

    # --- within -------------------------------------------------------------------------------------------

    def _concerned(self, key: bytes, end: bytes) -> list[Ticket]:
        if not end:
            found: list[dict[Ticket, None]] = []
            self._ranges.stab(min(key, _FAR[:-1]), found)
            return [*self._by_key.get(key, ()), *(ticket for group in found for ticket in group)]
        groups = [*self._by_key.values(), *self._of_range.values()]
        return [ticket for group in groups for ticket in group if ticket.overlaps(key, end)]

    def _index(self, ticket: Ticket) -> None:
        if ticket.fixed:
            return
        if not ticket.end:
            self._by_key.setdefault(ticket.key, {})[ticket] = None
            return
        start, end = _bounds(ticket)
        group = self._of_range.get((start, end))
        if group is None:
            group = self._of_range[start, end] = {}
            self._ranges.add(start, end, group)
        group[ticket] = None

    def _unindex(self, ticket: Ticket) -> None:
        if ticket.fixed:
            return
        if not ticket.end:
            alike = self._by_key[ticket.key]
            del alike[ticket]
            if not alike:
                del self._by_key[ticket.key]
            return
        bounds = _bounds(ticket)
        group = self._of_range[bounds]
        del group[ticket]
        if not group:
            del self._of_range[bounds]
            self._ranges.remove(*bounds)

    def _forget(self, ticket: Ticket) -> None:
        """Let go of an entry that is not in the table any more."""
        self.size_bytes -= _size(ticket)
        self._unindex(ticket)


def _bounds(ticket: Ticket) -> tuple[bytes, bytes]:
    """A range as the tree takes it; one that holds nothing becomes the smallest that holds its start."""
    end = _FAR if ticket.end == _NO_END else min(ticket.end, _FAR)
    start = min(ticket.key, _FAR[:-1])
    return (start, end) if start < end else (start, start + b"\0")


def _size(ticket: Ticket) -> int:
    return len(ticket.name) + len(ticket.answer) + limits.PROXY_CACHE_OVERHEAD_BYTES
