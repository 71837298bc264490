"""Limit, bounds and order of ranges, held against a dumb twin over random key-values."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvorum.apply import range as ranges
from kvorum.mvcc.store import Store
from kvorum.proto.kv_pb2 import KeyValue
from kvorum.proto.rpc_pb2 import RangeRequest, RangeResponse

KEYS = [b"a", b"b", b"c", b"d", b"e"]
FIELDS = {
    "KEY": lambda kv: kv.key,
    "VERSION": lambda kv: kv.version,
    "CREATE": lambda kv: kv.create_revision,
    "MOD": lambda kv: kv.mod_revision,
    "VALUE": lambda kv: kv.value,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Five keys with different versions, ages and values; some of them equal."""
    store = Store.open(str(tmp_path_factory.mktemp("range") / "db"), clock=lambda: 0.0)
    for puts in ("abc", "de", "a", "ab", "e", "d"):
        with store.write() as txn:
            for letter in puts:
                txn.put(letter.encode(), b"%d" % (ord(letter) * 7 % 3))
    yield store
    store.close()


def expected(store: Store, request: RangeRequest) -> RangeResponse:
    """What the request asks for, the slow way."""
    kvs = [KeyValue.FromString(kv) for kv in store.read().range(b"\0", b"\0").kvs]
    count = len(kvs)
    bounds = (
        ("mod_revision", request.min_mod_revision, request.max_mod_revision),
        ("create_revision", request.min_create_revision, request.max_create_revision),
    )
    for name, low, high in bounds:
        kvs = [kv for kv in kvs if (not low or getattr(kv, name) >= low)]
        kvs = [kv for kv in kvs if (not high or getattr(kv, name) <= high)]
    order = RangeRequest.SortOrder.Name(request.sort_order)
    target = RangeRequest.SortTarget.Name(request.sort_target)
    limit = request.limit if request.limit > 0 else count
    if order == "NONE" and target != "KEY" and request.limit > 0 and not ranges.is_bounded(request):
        kvs = kvs[: limit + 1]  # etcd cuts first where no order is named, and then sorts what is left
    kvs.sort(key=FIELDS[target], reverse=order == "DESCEND")
    if request.keys_only:
        for kv in kvs:
            kv.ClearField("value")
    return RangeResponse(kvs=kvs[:limit], more=len(kvs) > limit, count=count)


REVISIONS = st.integers(min_value=0, max_value=9)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(
        RangeRequest,
        key=st.just(b"\0"),
        range_end=st.just(b"\0"),
        limit=st.integers(min_value=-1, max_value=6),
        sort_order=st.sampled_from(RangeRequest.SortOrder.keys()),
        sort_target=st.sampled_from(RangeRequest.SortTarget.keys()),
        keys_only=st.booleans(),
        min_mod_revision=REVISIONS,
        max_mod_revision=REVISIONS,
        min_create_revision=REVISIONS,
        max_create_revision=REVISIONS,
    )
)
def test_a_range_is_what_the_slow_way_finds(store: Store, request_: RangeRequest) -> None:
    revision, body = ranges.execute(store.read(), request_)
    assert revision == store.revision
    assert RangeResponse.FromString(body) == expected(store, request_)


def test_a_count_has_no_key_values_whatever_else_is_asked(store: Store) -> None:
    request = RangeRequest(key=b"\0", range_end=b"\0", count_only=True, limit=1, min_mod_revision=5)
    assert RangeResponse.FromString(ranges.execute(store.read(), request)[1]) == RangeResponse(
        count=len(KEYS)
    )
