"""Who in this process waits for a key to change: calls of Lock and Election.

Clients watch through the watch hub, with a queue and a history that is read again when they are slow. Who
waits in here needs neither: a callback per change, made while the change is applied, and the store at hand
to look at. Between looking and asking to be told nothing can be missed as long as both happen in one turn of
the loop, since entries are applied on the loop too.
"""

from collections.abc import Callable, Sequence
from typing import Final, final

from kvorum.mvcc.keyvalue import is_delete, key_of
from kvorum.watch.ranges import RangeIndex, prefix_end

Told = Callable[[bytes, bytes | None], None]
"""Gets a key and what it has become: its serialized KeyValue, or None if it was deleted.

The key is empty when all may have changed, because a snapshot has replaced the store: look anew.
"""


@final
class Observer:
    """One callback and what it is for: a key, or all keys with a prefix."""

    __slots__ = ("is_prefix", "key", "told")

    def __init__(self, key: bytes, is_prefix: bool, told: Told) -> None:
        self.key: Final = key
        self.is_prefix: Final = is_prefix
        self.told: Final = told


@final
class Observers:
    """All observers of a member. Their callbacks must not raise, and may add and remove observers.

    Invariants (``check_invariants``): no key and no prefix is kept without an observer; ``size`` counts them.
    """

    __slots__ = ("_keys", "_prefixes", "size")

    def __init__(self) -> None:
        self._keys: Final[dict[bytes, dict[Observer, None]]] = {}
        self._prefixes: Final[RangeIndex[dict[Observer, None]]] = RangeIndex()
        self.size = 0

    def observe_key(self, key: bytes, told: Told) -> Observer:
        """Call ``told`` for every change of ``key`` that is applied from now on."""
        observer = Observer(key, False, told)
        self._keys.setdefault(key, {})[observer] = None
        self.size += 1
        return observer

    def observe_prefix(self, prefix: bytes, told: Told) -> Observer:
        """Call ``told`` for every change of a key with ``prefix``, in their order."""
        observer = Observer(prefix, True, told)
        end = prefix_end(prefix)
        lot = self._prefixes.get(prefix, end)
        if lot is None:
            lot = {}
            self._prefixes.add(prefix, end, lot)
        lot[observer] = None
        self.size += 1
        return observer

    def remove(self, observer: Observer) -> None:
        """Tell an observer nothing more; one that is not here (any more) is nothing."""
        key = observer.key
        end = prefix_end(key)
        lot = self._prefixes.get(key, end) if observer.is_prefix else self._keys.get(key)
        if lot is None or observer not in lot:
            return
        del lot[observer]
        self.size -= 1
        if lot:
            return
        if observer.is_prefix:
            self._prefixes.remove(key, end)
        else:
            del self._keys[key]

    def count(self, key: bytes) -> int:
        """How many observe this very key."""
        return len(self._keys.get(key, ()))

    def notify(self, changes: Sequence[bytes]) -> None:
        """Tell whom it concerns of the changes of one revision, in order."""
        for change in changes:
            key = key_of(change)
            lot = self._keys.get(key)
            found = [] if lot is None else [lot]
            if len(self._prefixes):
                self._prefixes.stab(key, found)
            if not found:
                continue
            kv = None if is_delete(change) else change
            for lot in found:
                for observer in list(lot):
                    observer.told(key, kv)

    def restored(self) -> None:
        """A snapshot has replaced the store: everyone has to look anew."""
        for lot in [*self._keys.values(), *self._prefixes.values()]:
            for observer in list(lot):
                observer.told(b"", None)

    def check_invariants(self) -> None:
        """Assert what the class docstring promises; O(n)."""
        lots = [*self._keys.values(), *self._prefixes.values()]
        assert all(lots), "a key is kept that nobody observes"
        assert sum(map(len, lots)) == self.size, "size differs from the observers"
