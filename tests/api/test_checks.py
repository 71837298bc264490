"""What a request must satisfy: the texts are etcd's, and overlap checking agrees with a dumb twin."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum import errors
from kvorum.api.v3 import checks
from kvorum.apply.txn import OpenedTxn
from kvorum.proto.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)


def put(key: bytes) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key))


def delete(key: bytes, end: bytes = b"") -> RequestOp:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, range_end=end))


def nested(success: list[RequestOp], failure: list[RequestOp] | None = None) -> RequestOp:
    return RequestOp(request_txn=TxnRequest(success=success, failure=failure or []))


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (RangeRequest(), errors.ERR_EMPTY_KEY),
        (RangeRequest(key=b"k"), None),
        (RangeRequest.FromString(b"\x0a\x01k\x28\x07"), errors.ERR_INVALID_SORT_OPTION),
        (RangeRequest.FromString(b"\x0a\x01k\x30\x09"), errors.ERR_INVALID_SORT_OPTION),
    ],
)
def test_range(request_: RangeRequest, error: errors.EtcdError | None) -> None:
    assert checks.check_range(request_) is error


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (PutRequest(), errors.ERR_EMPTY_KEY),
        (PutRequest(key=b"k", value=b"v", ignore_value=True), errors.ERR_VALUE_PROVIDED),
        (PutRequest(key=b"k", lease=3, ignore_lease=True), errors.ERR_LEASE_PROVIDED),
        (PutRequest(key=b"k", ignore_value=True, ignore_lease=True), None),
    ],
)
def test_put(request_: PutRequest, error: errors.EtcdError | None) -> None:
    assert checks.check_put(request_) is error


def test_delete_needs_a_key() -> None:
    assert checks.check_delete(DeleteRangeRequest()) is errors.ERR_EMPTY_KEY
    assert checks.check_delete(DeleteRangeRequest(key=b"k")) is None


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (TxnRequest(success=[put(b"a")] * 3), errors.ERR_TOO_MANY_OPS),
        (TxnRequest(compare=[Compare(key=b"a")] * 3), errors.ERR_TOO_MANY_OPS),
        (TxnRequest(compare=[Compare()]), errors.ERR_EMPTY_KEY),
        (TxnRequest(failure=[put(b"")]), errors.ERR_EMPTY_KEY),
        (TxnRequest(success=[RequestOp()]), errors.ERR_KEY_NOT_FOUND),
        (TxnRequest(success=[nested([put(b"a")])]), None),
        (TxnRequest(success=[nested([nested([put(b"a")])])]), errors.ERR_TOO_MANY_OPS),
        (TxnRequest(success=[put(b"a"), put(b"a")]), errors.ERR_DUPLICATE_KEY),
        (TxnRequest(success=[put(b"b"), delete(b"a", b"c")]), errors.ERR_DUPLICATE_KEY),
        (TxnRequest(success=[put(b"b"), delete(b"a", b"b")]), None),
        (TxnRequest(success=[put(b"b"), delete(b"a", b"\0")]), None),
        (TxnRequest(success=[put(b"a")], failure=[put(b"a")]), None),
    ],
)
def test_txn_with_two_operations_allowed(request_: TxnRequest, error: errors.EtcdError | None) -> None:
    # a nested transaction gets what the outer leaves of the two, so its own list may hold one
    assert checks.check_txn(OpenedTxn(request_), 2) is error


KEYS = [b"a", b"b", b"c"]
LEAVES = st.one_of(
    st.sampled_from(KEYS).map(put),
    st.sampled_from(KEYS).map(delete),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)).map(lambda pair: delete(*pair)),
)
OPS = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.lists(inner, max_size=2), st.lists(inner, max_size=2)).map(
        lambda b: nested(*b)
    ),
    max_leaves=5,
)


def paths(ops: list[RequestOp]) -> list[list[tuple[str, bytes, int]]]:
    """Every way a list of operations can run: what is written (kind, key, depth) along each."""
    ways: list[list[tuple[str, bytes, int]]] = [[]]
    for op in ops:
        kind = op.WhichOneof("request")
        if kind == "request_txn":
            inner = paths(list(op.request_txn.success)) + paths(list(op.request_txn.failure))
            inner = [[(k, key, depth + 1) for k, key, depth in way] for way in inner]
        elif kind == "request_put":
            inner = [[("put", op.request_put.key, 0)]]
        else:
            request = op.request_delete_range
            covered = [k for k in KEYS if request.key <= k < (request.range_end or request.key + b"\0")]
            inner = [[("delete", key, 0) for key in covered]]
        ways = [before + after for before, after in product(ways, inner)]
    return ways


@settings(max_examples=300)
@given(st.lists(OPS, max_size=3))
def test_what_passes_never_puts_a_key_twice_on_any_path(ops: list[RequestOp]) -> None:
    error = checks.check_txn(OpenedTxn(TxnRequest(success=ops)), 100)
    doubled = any(
        len(puts) != len(set(puts))
        for way in paths(ops)
        for puts in [[key for kind, key, _ in way if kind == "put"]]
    )
    if doubled:
        assert error is errors.ERR_DUPLICATE_KEY
    elif not any(op.WhichOneof("request") == "request_txn" for op in ops):
        # without nesting the rule is exactly: no key put twice, none put and deleted
        way = paths(ops)[0]
        puts = {key for kind, key, _ in way if kind == "put"}
        deletes = {key for kind, key, _ in way if kind == "delete"}
        assert (error is errors.ERR_DUPLICATE_KEY) == bool(puts & deletes)
