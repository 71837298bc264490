"""What etcd promises about watches, one test for each promise, named after it, with a writer beside.

Source: https://etcd.io/docs/v3.5/learning/api_guarantees/ ("Watch APIs"). The histories are random but for
their seeds, which the tests name.
"""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import pytest

from kvorum.proto.kv_pb2 import Event
from tests.conftest import StartMember
from tests.support import process
from tests.support.client import Client, op_delete, op_put
from tests.support.process import Member
from tests.support.streams import WatchCall

TRANSACTIONS: Final = 400
Change = tuple[int, bytes, bool]
"""Revision, key, whether it was deleted."""


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A member whose idle watches hear of it ten times a second, by the flag's older name."""
    flags = ["--experimental-watch-progress-notify-interval=100ms"]
    with Member(process.kvorum(), tmp_path_factory.mktemp("watch") / "m.etcd", flags=flags) as member:
        yield member


@pytest.fixture
def client(member: Member) -> Iterator[Client]:
    with Client(member.endpoint) as client:
        yield client


def end_of(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


def changes(events: list[Event]) -> list[Change]:
    return [(event.kv.mod_revision, event.kv.key, event.type == Event.DELETE) for event in events]


def write(endpoint: str, prefix: bytes, seed: int, count: int = TRANSACTIONS) -> list[Change]:
    """Make transactions of one to five changes; returns what they changed, in order."""
    chance = random.Random(seed)
    there: set[bytes] = set()
    made: list[Change] = []
    with Client(endpoint) as client:
        for _ in range(count):
            keys = chance.sample([prefix + b"%d" % n for n in range(12)], chance.randrange(1, 6))
            deleted = {key for key in keys if key in there and chance.random() < 0.3}
            operations = [op_delete(key) if key in deleted else op_put(key, b"v" * 100) for key in keys]
            revision = client.txn(success=operations).header.revision
            made += [(revision, key, key in deleted) for key in keys]
            there = (there | set(keys)) - deleted
    return made


class Beside:
    """Work in a thread of its own; ``made`` waits for what came of it."""

    def __init__(self, work: Callable[[], list[Change]]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._work = self._pool.submit(work)

    def made(self) -> list[Change]:
        result = self._work.result(60)
        self._pool.shutdown()
        return result


def test_ordered(member: Member, client: Client) -> None:
    """Events are ordered by revision: one is never sent that precedes, in time, one sent before."""
    with WatchCall(client) as watch:
        watch.create(b"ordered/", end_of(b"ordered/"))
        writers = [Beside(partial(write, member.endpoint, b"ordered/%d/" % seed, seed)) for seed in (1, 2, 3)]
        made = sorted(change for writer in writers for change in writer.made())
        seen = changes(watch.events(len(made)))
        revisions = [revision for revision, _, _ in seen]
        assert revisions == sorted(revisions)
        assert sorted(seen) == made


def test_unique(member: Member, client: Client) -> None:
    """An event never comes twice, wherever catching up and live traffic meet."""
    start = client.put(b"unique/first", b"").header.revision
    writer = Beside(partial(write, member.endpoint, b"unique/", seed=4))
    seen: dict[int, list[Change]] = {n: [] for n in range(20)}
    with WatchCall(client) as watch:
        for n in seen:
            watch.ask(b"unique/", end_of(b"unique/"), start_revision=start, watch_id=n + 1)
        made = [(start, b"unique/first", False), *writer.made()]
        while any(len(events) < len(made) for events in seen.values()):
            response = watch.take()
            seen[response.watch_id - 1] += changes(list(response.events))
        watch.nothing_before_progress()
    for events in seen.values():
        assert len(set(events)) == len(events)
        assert sorted(events) == sorted(made)


def test_reliable(member: Member, client: Client) -> None:
    """No event between two that are sent is left out, even for one who does not read for long."""
    with WatchCall(client) as watch:
        watch.create(b"reliable/", end_of(b"reliable/"), prev_kv=True)
        value = b"x" * 60_000
        for n in range(300):
            client.put(b"reliable/%d" % (n % 7), value)
        made = write(member.endpoint, b"reliable/w", seed=5, count=100)
        events = watch.events(300 + len(made))
        assert [event.kv.version for event in events[:300]] == [n // 7 + 1 for n in range(300)]
        assert sorted(changes(events[300:])) == sorted(made)
        assert all(event.prev_kv.value == value for event in events[7:300])


def test_atomic(member: Member, client: Client) -> None:
    """The events of one revision come in one response, from the present and from the past."""
    start = client.put(b"atomic/first", b"").header.revision
    with WatchCall(client) as live, WatchCall(client) as past:
        live.create(b"atomic/", end_of(b"atomic/"))
        made = write(member.endpoint, b"atomic/", seed=6)
        past.create(b"atomic/", end_of(b"atomic/"), start_revision=start + 1)
        for watch in (live, past):
            seen: list[Change] = []
            while len(seen) < len(made):
                events = changes(list(watch.take().events))
                revisions = {revision for revision, _, _ in events}
                assert sorted(events) == sorted(change for change in made if change[0] in revisions)
                seen += events
            assert sorted(seen) == sorted(made)


def test_resumable(start_member: StartMember) -> None:
    """A watch that broke goes on from the revision after the last event seen, over a restart as well."""
    member = start_member(process.kvorum())
    made: list[Change] = []
    seen: list[Change] = []
    start = 2
    for run in range(4):
        with Client(member.endpoint) as client:
            writer = Beside(partial(write, member.endpoint, b"r/%d/" % run, seed=10 + run, count=150))
            with WatchCall(client) as watch:
                watch.create(b"r/", end_of(b"r/"), start_revision=start)
                for _ in range(20):
                    seen += changes(list(watch.take().events))
                start = seen[-1][0] + 1
            made += writer.made()
        member.kill()
        member.start()
    with Client(member.endpoint) as client, WatchCall(client) as watch:
        watch.create(b"r/", end_of(b"r/"), start_revision=start)
        rest = [change for change in made if change[0] >= start]
        seen += changes(watch.events(len(rest)))
        watch.nothing_before_progress()
    assert [revision for revision, _, _ in seen] == [revision for revision, _, _ in made]
    assert sorted(seen) == sorted(made)


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "notified"])
def test_bookmarkable(member: Member, client: Client, asked: bool) -> None:
    """After a progress response all events up to its revision have been sent."""
    prefix = b"bookmarkable/%d/" % asked
    stop = threading.Event()
    bookmarks: list[tuple[int, int]] = []
    seen: list[Change] = []
    with WatchCall(client) as watch:
        watch.create(prefix, end_of(prefix), progress_notify=not asked)

        def ask() -> list[Change]:
            while not stop.wait(0.002):
                watch.ask_progress()
            return []

        writer = Beside(partial(write, member.endpoint, prefix, seed=7))
        asker = Beside(ask) if asked else None
        made: list[Change] = []
        while not made or bookmarks[-1][0] < made[-1][0]:
            response = watch.take()
            if response.events:
                seen += changes(list(response.events))
                continue
            assert response.watch_id == (-1 if asked else 0)
            bookmarks.append((response.header.revision, len(seen)))
            if not made and len(bookmarks) >= (20 if asked else 1):
                made = writer.made()
        stop.set()
        if asker is not None:
            asker.made()
    for revision, count in bookmarks:
        assert count == sum(1 for change in made if change[0] <= revision), "a bookmark overtook an event"
    assert sorted(seen) == sorted(made)
