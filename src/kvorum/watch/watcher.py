"""A watcher, and groups of watchers that find those of a key.

Watchers of the same key, or of the same range, form a lot, a plain list: an event is matched with lots,
and all watchers of a lot get the same events. A watcher knows its place in its lot, so it leaves by
changing places with the last.
"""

from typing import TYPE_CHECKING, Final, final

from kvorum.proto.wire import varint
from kvorum.watch.ranges import RangeIndex

if TYPE_CHECKING:
    from kvorum.watch.stream import WatchStream

PREV_KV: Final = 1
NO_PUT: Final = 2
NO_DELETE: Final = 4
VARIANTS: Final = 8
"""The variant of a watcher is the sum of those it asked for: which events it gets, and in which form."""


@final
class Watcher:
    """One watch of a stream.

    ``group`` is the group it is in: the hub's synced one, or the cohort it catches up with. Without one
    it is held by its stream, whose queue is full (``stream.parked``), or it has ended. ``next_revision``
    means: of a synced watcher, the first revision it wants; of a parked one, the first it has not got.
    """

    __slots__ = (
        "end",
        "ended",
        "fragment",
        "group",
        "id",
        "id_field",
        "key",
        "next_revision",
        "place",
        "plain",
        "progress",
        "quiet",
        "resuming",
        "single",
        "stream",
        "variant",
    )

    def __init__(
        self,
        stream: "WatchStream",
        watch_id: int,
        key: bytes,
        end: bytes | None,
        *,
        single: bool,
        variant: int,
        fragment: bool,
        progress: bool,
        next_revision: int,
    ) -> None:
        self.stream: Final = stream
        self.id: Final = watch_id
        self.id_field: Final = b"\x10" + varint(watch_id) if watch_id else b""
        """``WatchResponse.watch_id``, encoded."""
        self.key: Final = key
        self.end: Final = end
        """The range's end, None for no upper bound; meaningless if ``single``."""
        self.single: Final = single
        self.variant: Final = variant
        self.fragment: Final = fragment
        self.progress: Final = progress
        self.plain: Final = not (fragment or progress)
        """Whether its responses need nothing but to be queued."""
        self.next_revision = next_revision
        self.quiet = True
        """No events since the last progress tick (only kept if ``progress``)."""
        self.resuming = False
        """It was up to date before, so it may not miss the change it has to go on with."""
        self.ended = False
        """Its history was compacted away; the id stays taken until the client cancels it, as in etcd."""
        self.group: WatcherGroup | None = None
        self.place = 0


@final
class WatcherGroup:
    """Watchers by key and by range.

    Invariants (``check_invariants``): no lot is empty; a watcher's ``place`` is its index in its lot and
    ``group`` is this group; ``size`` counts them.
    """

    __slots__ = ("_keys", "_ranges", "size")

    def __init__(self) -> None:
        self._keys: dict[bytes, list[Watcher]] = {}
        self._ranges: RangeIndex[list[Watcher]] = RangeIndex()
        self.size = 0

    def add(self, watcher: Watcher) -> None:
        """Take in a watcher that is in no group."""
        assert watcher.group is None, "a watcher is in one group"
        lot = self._keys.get(watcher.key) if watcher.single else self._ranges.get(watcher.key, watcher.end)
        if lot is not None:
            watcher.place = len(lot)
            lot.append(watcher)
        else:
            watcher.place = 0
            if watcher.single:
                self._keys[watcher.key] = [watcher]
            else:
                self._ranges.add(watcher.key, watcher.end, [watcher])
        watcher.group = self
        self.size += 1

    def remove(self, watcher: Watcher) -> None:
        """Let go of a watcher that is in this group."""
        assert watcher.group is self, "not in this group"
        lot = self._keys.get(watcher.key) if watcher.single else self._ranges.get(watcher.key, watcher.end)
        assert lot is not None, "a watcher of a group is in a lot"
        last = lot.pop()
        if last is not watcher:
            lot[watcher.place] = last
            last.place = watcher.place
        elif not lot:
            if watcher.single:
                del self._keys[watcher.key]
            else:
                self._ranges.remove(watcher.key, watcher.end)
        watcher.group = None
        self.size -= 1

    def match(self, key: bytes) -> list[list[Watcher]]:
        """The lots whose watchers watch the key; the lists are the group's own."""
        lot = self._keys.get(key)
        found = [lot] if lot is not None else []
        if len(self._ranges):
            self._ranges.stab(key, found)
        return found

    def take(self, limit: int) -> list[Watcher]:
        """Let go of up to ``limit`` watchers, whichever."""
        taken: list[Watcher] = []
        while self._keys and len(taken) < limit:
            key, lot = self._keys.popitem()
            rest = len(lot) - (limit - len(taken))
            if rest > 0:
                self._keys[key] = lot[:rest]
                lot = lot[rest:]
            taken += lot
        while len(self._ranges) and len(taken) < limit:
            start, end, lot = self._ranges.pop()
            rest = len(lot) - (limit - len(taken))
            if rest > 0:
                self._ranges.add(start, end, lot[:rest])
                lot = lot[rest:]
            taken += lot
        for watcher in taken:
            watcher.group = None
        self.size -= len(taken)
        return taken

    def lots(self) -> list[list[Watcher]]:
        """All lots, in no order."""
        return [*self._keys.values(), *self._ranges.values()]

    def check_invariants(self) -> None:
        """Assert what the class docstring promises; O(n)."""
        self._ranges.check_invariants()
        lots = self.lots()
        assert all(lots), "an empty lot"
        assert sum(map(len, lots)) == self.size, "size differs from the lots"
        for lot in lots:
            for place, watcher in enumerate(lot):
                assert watcher.place == place, "a watcher is not where it thinks it is"
                assert watcher.group is self, "a watcher thinks it is elsewhere"
                own = (
                    self._keys.get(watcher.key)
                    if watcher.single
                    else self._ranges.get(watcher.key, watcher.end)
                )
                assert own is lot, "a watcher is in a lot of others"
