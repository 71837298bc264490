"""The proxies' cores against dumb models: what is cached, who is fed by what, who may be asked."""

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvorum.proto import kv_pb2, rpc_pb2
from kvorum.proxy.director import Director
from kvorum.proxy.grpc.cache import Cache, Ticket
from kvorum.proxy.grpc.namespace import Namespace
from kvorum.proxy.grpc.responses import Delivery
from kvorum.proxy.grpc.sharing import Share, Shares, Watcher

KEYS = [b"a", b"b", b"c", b"\xff" * 70, b"\xff"]
ENDS = [b"", b"\0", b"b", b"c", b"d", b"\xff" * 80]


def holds(start: bytes, end: bytes, key: bytes) -> bool:
    """Whether an interval of etcd's holds a key."""
    return key == start if not end else start <= key and (end == b"\0" or key < end)


class CacheMachine(RuleBasedStateMachine):
    """Reads and writes in any order; the model is a dict that is emptied by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache(max_entries=8, max_bytes=20_000)
        self.under_way: list[tuple[Ticket, rpc_pb2.RangeRequest]] = []
        self.fresh: dict[bytes, tuple[rpc_pb2.RangeRequest, bytes]] = {}
        self.spoiled: set[int] = set()
        self.count = 0

    @rule(key=st.sampled_from(KEYS), end=st.sampled_from(ENDS), revision=st.sampled_from([0, 0, 5]))
    def ask(self, key: bytes, end: bytes, revision: int) -> None:
        request = rpc_pb2.RangeRequest(key=key, range_end=end, revision=revision)
        name = request.SerializeToString()
        kept = self.cache.get(name)
        if kept is not None:
            assert self.fresh[name][1] == kept, "older than a write"
            return
        self.under_way.append((self.cache.begin(name, request), request))

    @precondition(lambda self: self.under_way)
    @rule(at=st.integers(0, 100), good=st.booleans())
    def answer(self, at: int, good: bool) -> None:
        ticket, request = self.under_way.pop(at % len(self.under_way))
        if not good:
            self.cache.drop(ticket)
            return
        self.count += 1
        body = str(self.count).encode()
        self.cache.keep(ticket, body)
        if id(ticket) not in self.spoiled:
            self.fresh[ticket.name] = (request, body)

    @rule(key=st.sampled_from(KEYS), end=st.sampled_from(ENDS))
    def write(self, key: bytes, end: bytes) -> None:
        self.cache.invalidate(key, end)
        touched = [one for one in KEYS if holds(key, end, one)]
        for name, (request, _) in list(self.fresh.items()):
            if not request.revision and any(holds(request.key, request.range_end, one) for one in touched):
                del self.fresh[name]
        for ticket, request in self.under_way:
            if not request.revision and any(holds(request.key, request.range_end, one) for one in touched):
                self.spoiled.add(id(ticket))

    @invariant()
    def holds_what_it_promises(self) -> None:
        self.cache.check_invariants()


CacheMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCache = CacheMachine.TestCase


def test_a_cache_is_bounded_in_number_and_bytes() -> None:
    cache = Cache(max_entries=3, max_bytes=5000)
    for at in range(5):
        request = rpc_pb2.RangeRequest(key=b"%d" % at)
        cache.keep(cache.begin(b"%d" % at, request), b"x")
    assert [cache.get(b"%d" % at) for at in range(5)] == [None, None, b"x", b"x", b"x"]
    cache.keep(cache.begin(b"big", rpc_pb2.RangeRequest(key=b"big")), b"x" * 3000)
    cache.check_invariants()
    assert cache.get(b"4") == b"x"
    assert cache.get(b"2") is None


@dataclass
class Fed:
    """What a watcher has been given, and from where it began."""

    first: int
    seen: list[int] = field(default_factory=list)


class SharesMachine(RuleBasedStateMachine):
    """One key with a history; shares deliver it at their own pace, and may be opened again anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = Shares()
        self.revision = 1
        self.fed: dict[Watcher, Fed] = {}
        self.open: set[Share] = set()

    def _add(self, watcher: Watcher, *, from_now: bool = False) -> None:
        share = self.shares.add(watcher, from_now=from_now)
        if share is not None:
            self.open.add(share)

    @rule(back=st.integers(0, 6))
    def watch(self, back: int) -> None:
        start = max(1, self.revision + 1 - back)
        watcher = Watcher(self, len(self.fed) + 1, b"k", b"", start)
        self.fed[watcher] = Fed(start)
        self._add(watcher)

    @rule(behind=st.integers(0, 2))
    def watch_from_now(self, behind: int) -> None:
        """A member that has not heard of the newest says when "now" is."""
        watcher = Watcher(self, len(self.fed) + 1, b"k", b"", max(1, self.revision + 1 - behind))
        self._add(watcher, from_now=True)
        self.fed[watcher] = Fed(watcher.next_revision)

    @rule()
    def write(self) -> None:
        self.revision += 1

    def _some(self, at: int) -> Share:
        return sorted(self.open, key=lambda share: share.id)[at % len(self.open)]

    @precondition(lambda self: self.open)
    @rule(at=st.integers(0, 100), many=st.integers(1, 3), full=st.booleans())
    def deliver(self, at: int, many: int, full: bool) -> None:
        share = self._some(at)
        last = min(self.revision, share.next_revision + many - 1)
        if last < share.next_revision:
            return
        header = rpc_pb2.ResponseHeader(revision=self.revision)
        events = [
            kv_pb2.Event(kv=kv_pb2.KeyValue(key=b"k", mod_revision=one))
            for one in range(share.next_revision, last + 1)
        ]
        delivery = Delivery(header, events)
        waiting = None
        for watcher in share.watchers:
            messages = delivery.messages(watcher)
            if full and messages and waiting is None:
                waiting = watcher  # its client does not read
                continue
            for message in messages:
                response = rpc_pb2.WatchResponse.FromString(message)
                assert response.watch_id == watcher.id
                self.fed[watcher].seen += [event.kv.mod_revision for event in response.events]
            watcher.next_revision = max(watcher.next_revision, last + 1)
        if (waiting is not None and self.shares.remove(waiting) is not None) or self.shares.advance(
            share, last + 1
        ):
            self.open.discard(share)
        if waiting is not None:
            self._add(waiting)

    @precondition(lambda self: self.open)
    @rule(at=st.integers(0, 100))
    def ends_upstream(self, at: int) -> None:
        share = self._some(at)
        self.open.discard(share)
        for watcher in self.shares.dissolve(share):
            self._add(watcher)

    @precondition(lambda self: self.fed)
    @rule(at=st.integers(0, 100))
    def leave(self, at: int) -> None:
        watcher = list(self.fed)[at % len(self.fed)]
        del self.fed[watcher]
        share = self.shares.remove(watcher)
        if share is not None:
            self.open.discard(share)

    @invariant()
    def nothing_is_lost_or_repeated(self) -> None:
        self.shares.check_invariants()
        assert set(self.shares) == self.open
        for watcher, fed in self.fed.items():
            assert fed.seen == list(range(fed.first, fed.first + len(fed.seen)))
            assert watcher.share is not None
            assert watcher.share.next_revision <= fed.first + len(fed.seen)


SharesMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestShares = SharesMachine.TestCase


def test_large_responses_are_cut_only_for_who_asks() -> None:
    events = [
        kv_pb2.Event(kv=kv_pb2.KeyValue(key=b"k", mod_revision=7, value=b"x" * 900_000)) for _ in range(5)
    ]
    delivery = Delivery(rpc_pb2.ResponseHeader(revision=7), events)
    whole, cut = Watcher(None, 0, b"k", b"", 1), Watcher(None, 3, b"k", b"", 1)
    cut.fragment = True
    assert len(delivery.messages(whole)) == 1
    pieces = [rpc_pb2.WatchResponse.FromString(message) for message in delivery.messages(cut)]
    assert [piece.fragment for piece in pieces] == [True, True, False]
    assert sum(len(piece.events) for piece in pieces) == 5
    assert {piece.watch_id for piece in pieces} == {3}


@given(st.binary(max_size=3), st.binary(max_size=3), st.sampled_from([b"", b"\0", b"\1", b"b", b"\xff\xff"]))
def test_a_namespace_holds_what_its_client_means(prefix: bytes, key: bytes, end: bytes) -> None:
    namespace = Namespace(prefix)
    start, stop = namespace.interval(key, end)
    for other in (b"", b"\0", b"a", b"b", b"\xff", b"\xff\xff\xff", key, key + b"\0"):
        assert holds(start, stop, prefix + other) == holds(key, end, other)
    if end and prefix and stop > start:
        for outside in (b"", prefix[:-1], prefix[:-1] + bytes((min(255, prefix[-1] + 1),))):
            assert outside.startswith(prefix) or not holds(start, stop, outside)


def test_a_failed_endpoint_is_left_out_for_a_while() -> None:
    director = Director(5.0, random.Random(1).shuffle)
    assert director.refresh(["http://a:1", "nonsense", "http://b:2"]) == ["nonsense"]
    first, second = director.available(10.0)
    assert director.failed(first, 10.0)
    assert not director.failed(first, 12.0)
    assert director.available(14.9) == [second]
    assert director.available(15.0) == [first, second]
    director.failed(first, 15.0)
    director.refresh(["http://a:1"])
    assert [str(one.url) for one in director.available(15.0)] == ["http://a:1"]
