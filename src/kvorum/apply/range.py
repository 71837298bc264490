"""Range: from what the store holds to the bytes of a RangeResponse.

Limit, revision bounds and sorting happen here, above the store, as in etcd (``server/etcdserver/apply.go``,
``txn/range.go``): ``count`` is the number of keys in the range whatever the limit and the bounds say.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from kvorum import errors
from kvorum.mvcc.keyvalue import create_revision_of, parse, without_value
from kvorum.mvcc.keyvalue import key_of as key_of
from kvorum.mvcc.store import CompactedError, FutureRevisionError, RangeResult
from kvorum.proto.rpc_pb2 import RangeRequest
from kvorum.proto.wire import varint

_NONE: Final = int(RangeRequest.SortOrder.NONE)
_DESCEND: Final = int(RangeRequest.SortOrder.DESCEND)
_KEY: Final = int(RangeRequest.SortTarget.KEY)
_VALUE: Final = int(RangeRequest.SortTarget.VALUE)

_KVS_TAG: Final = b"\x12"
_MORE: Final = b"\x18\x01"
_COUNT_TAG: Final = b"\x20"

_SORT_FIELD: Final[dict[int, Callable[[bytes], Any]]] = {
    _KEY: key_of,
    int(RangeRequest.SortTarget.VERSION): lambda kv: parse(kv).version,
    int(RangeRequest.SortTarget.CREATE): create_revision_of,
    int(RangeRequest.SortTarget.MOD): lambda kv: parse(kv).mod_revision,
    _VALUE: lambda kv: value_of(kv),
}


class Readable(Protocol):
    """What a range reads from: a view of the store's head, or an open transaction with its own writes."""

    def get(self, key: bytes) -> bytes | None:
        """A key's serialized KeyValue, None if it does not exist."""

    def range(
        self,
        key: bytes,
        range_end: bytes,
        *,
        limit: int = 0,
        revision: int = 0,
        count_only: bool = False,
        keys_only: bool = False,
    ) -> RangeResult:
        """Keys of [key, range_end) in order, and how many there are."""


def is_bounded(r: RangeRequest) -> bool:
    """Whether the request filters by create or mod revision."""
    return bool(r.min_mod_revision or r.max_mod_revision or r.min_create_revision or r.max_create_revision)


def execute(view: Readable, r: RangeRequest) -> tuple[int, bytes]:
    """Answer ``r``: the revision for the header, and the response's bytes without the header.

    Raises:
        EtcdError: ERR_COMPACTED, ERR_FUTURE_REV.
    """
    revision, kvs, count, more = select(view, r)
    return revision, encode(kvs, count, more)


def select(view: Readable, r: RangeRequest) -> tuple[int, list[bytes], int, bool]:
    """The key-values that ``r`` asks for: (store revision, serialized key-values, count, more).

    Raises:
        EtcdError: ERR_COMPACTED, ERR_FUTURE_REV.
    """
    order, target, limit = r.sort_order, r.sort_target, r.limit
    bounded = is_bounded(r)
    fetch = 0 if order != _NONE or bounded or limit <= 0 else limit + 1
    keys_only = r.keys_only
    try:
        found = view.range(
            r.key,
            r.range_end,
            limit=fetch,
            revision=r.revision,
            count_only=r.count_only,
            keys_only=keys_only and target != _VALUE,
        )
    except CompactedError:
        raise errors.ERR_COMPACTED from None
    except FutureRevisionError:
        raise errors.ERR_FUTURE_REV from None
    kvs = found.kvs
    if bounded:
        kvs = _within_bounds(kvs, r)
    if order != _NONE or target != _KEY:
        kvs = _sorted(kvs, target, order == _DESCEND)
    more = 0 < limit < len(kvs)
    if more:
        kvs = kvs[:limit]
    if keys_only and target == _VALUE:
        kvs = [without_value(kv) for kv in kvs]
    return found.revision, kvs, found.count, more


def value_of(kv: bytes) -> bytes:
    """The value of a serialized key-value."""
    fields = parse(kv)
    return kv[fields.value_start : fields.value_end]


def encode(kvs: list[bytes], count: int, more: bool) -> bytes:
    """The bytes of a RangeResponse after its header: kvs, more, count."""
    parts: list[bytes] = []
    for kv in kvs:
        parts.append(_KVS_TAG)
        parts.append(varint(len(kv)))
        parts.append(kv)
    if more:
        parts.append(_MORE)
    if count:
        parts.append(_COUNT_TAG + varint(count))
    return b"".join(parts)


def _within_bounds(kvs: list[bytes], r: RangeRequest) -> list[bytes]:
    min_mod, min_create = r.min_mod_revision, r.min_create_revision
    max_mod, max_create = r.max_mod_revision, r.max_create_revision
    if not (min_mod or max_mod or min_create) and max_create > 0:
        # What locks and elections ask of all who wait, again and again.
        return [kv for kv in kvs if create_revision_of(kv) <= max_create]
    kept = []
    for kv in kvs:
        fields = parse(kv)
        mod, create = fields.mod_revision, fields.create_revision
        # 0 means no bound; a negative upper bound admits nothing, as in etcd.
        if (max_mod and mod > max_mod) or (min_mod and mod < min_mod):
            continue
        if (max_create and create > max_create) or (min_create and create < min_create):
            continue
        kept.append(kv)
    return kept


def _sorted(kvs: list[bytes], target: int, descending: bool) -> list[bytes]:
    """Sort; what compares equal keeps the order of its keys."""
    if target == _KEY:
        return kvs[::-1] if descending else kvs
    return sorted(kvs, key=_SORT_FIELD[target], reverse=descending)
