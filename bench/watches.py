"""Rows about watches: delivery to many watchers of one prefix, and the price of watchers that see nothing.

A thousand watchers sit on five streams of each of eight connections, as those of several programs would. The
value of each put begins with the time it was sent, which those messages show that are sampled; puts and
deliveries have the same clock. Every event is counted; none may be missing, none too many.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Final

from bench import checked, messages
from bench.generator import Connection
from bench.h2load import LoadError, percentiles
from bench.model import Bench, Sample
from bench.streams import Streams
from bench.wire import Loop
from kvorum.proto import rpc_pb2 as pb

PREFIX: Final = b"bench/watched/"
"""Every event's key begins with it, and nothing else on the wire has it."""
IDLE_PREFIX: Final = b"bench/idle/"
PUTS_PER_SECOND: Final = 50
PUTS_AHEAD: Final = 32
CONNECTIONS: Final = 8
STREAMS: Final = 5
SAMPLE_EVERY: Final = 61
"""One message in so many is looked into: a prime, so that no watcher is always or never the one."""

_STAMP_DIGITS: Final = 20
_NANOSECONDS: Final = 1_000_000_000
_QUIET_SECONDS: Final = 0.05


def open_watches(bench: Bench, mark: bytes, bodies: Sequence[bytes]) -> list[Streams]:
    """Create watches, dealt out evenly over the connections and streams; returns when all are confirmed."""
    fleet = [Streams(*bench.address, messages.WATCH_PATH, mark=mark) for _ in range(CONNECTIONS)]
    slots = [(wire, wire.open()) for wire in fleet for _ in range(STREAMS)]
    for number, (wire, stream) in enumerate(slots):
        share = bodies[number :: len(slots)]
        if share:
            wire.send(stream, b"".join(share))
    try:
        _confirm(fleet, len(bodies))
    except LoadError:
        for wire in fleet:
            wire.close()
        raise
    return fleet


def _confirm(fleet: Sequence[Streams], watches: int) -> None:
    """Wait until all watches are confirmed, and count from there."""
    loop = Loop(fleet)
    while sum(wire.messages for wire in fleet) < watches:
        loop.progress()
    loop.release()  # another one will drive the connections
    for wire in fleet:
        for _, _, message in wire.samples:
            response = pb.WatchResponse.FromString(message)
            if not response.created or response.canceled:
                raise LoadError(f"a watch was refused: {response}")
        wire.restart(SAMPLE_EVERY)


class Delivery:
    """Watchers of the prefix, a connection for puts, and the loop that drives them."""

    def __init__(self, bench: Bench) -> None:
        self.bench: Final = bench
        self.watchers: Final = bench.sizes.watchers
        create = messages.watch_prefix(PREFIX)
        self.fleet: Final = open_watches(bench, PREFIX, [create] * self.watchers)
        self.putter: Final = Connection(*bench.address, messages.PUT_PATH, in_flight=PUTS_AHEAD)
        self.loop: Final = Loop([*self.fleet, self.putter])
        self.before: Final = bench.revision()
        self.puts = 0

    @property
    def delivered(self) -> int:
        """Events counted so far."""
        return sum(wire.marks for wire in self.fleet)

    def put(self) -> None:
        """Put the next key, with the time in its value."""
        stamp = b"%0*d" % (_STAMP_DIGITS, int(time.perf_counter() * _NANOSECONDS))
        key = PREFIX + b"%06d" % self.puts
        value = stamp + messages.VALUE[_STAMP_DIGITS:]
        self.putter.start(messages.framed(pb.PutRequest(key=key, value=value)))
        self.puts += 1

    def paced(self, puts: int) -> float:
        """Put at the fixed rate until all is delivered; returns the seconds it took."""
        started = time.perf_counter()
        while self.delivered < puts * self.watchers or self.putter.open:
            due = started + self.puts / PUTS_PER_SECOND
            left = due - time.perf_counter()
            if self.puts == puts:
                self.loop.progress()
            elif left > 0:
                self.loop.turn(left)
            else:
                self.put()
        return time.perf_counter() - started

    def saturated(self, puts: int) -> float:
        """Put as fast as deliveries allow; returns the seconds it took."""
        started = time.perf_counter()
        while (delivered := self.delivered) < puts * self.watchers or self.putter.open:
            while self.puts < min(puts, delivered // self.watchers + PUTS_AHEAD):
                self.put()
            self.loop.progress()
        return time.perf_counter() - started

    def check(self) -> None:
        """Raise LoadError unless each put made one revision and one event for each watcher."""
        while self.loop.turn(_QUIET_SECONDS):
            pass
        checked.check_revision(self.bench, self.before, self.puts)
        if self.delivered != self.puts * self.watchers:
            raise LoadError(f"{self.puts} puts for {self.watchers} watchers: {self.delivered} events came")

    def delays_ms(self) -> list[float]:
        """Look into the samples; returns their delays. Raises LoadError for one that is not as it must be."""
        delays = []
        key_at: dict[int, bytes] = {}
        for wire in self.fleet:
            for now, _, message in wire.samples:
                response = pb.WatchResponse.FromString(message)
                _check_response(response, self.before, self.before + self.puts)
                for event in response.events:
                    if key_at.setdefault(event.kv.mod_revision, event.kv.key) != event.kv.key:
                        raise LoadError(f"watchers disagree: {key_at[event.kv.mod_revision]!r} and {event}")
                    sent = int(event.kv.value[:_STAMP_DIGITS]) / _NANOSECONDS
                    delays.append((now - sent) * 1000)
        if len({*key_at.values()}) != len(key_at):
            raise LoadError("a put was seen at two revisions")
        return delays


def _check_response(response: pb.WatchResponse, before: int, last: int) -> None:
    """Raise LoadError unless these are new keys in the order of revisions after ``before``, to ``last``."""
    revisions = [before, *(event.kv.mod_revision for event in response.events)]
    in_order = all(one < two for one, two in pairwise(revisions)) and revisions[-1] <= last
    new = all(
        event.kv.key.startswith(PREFIX)
        and event.kv.value[_STAMP_DIGITS:] == messages.VALUE[_STAMP_DIGITS:]
        and event.kv.version == 1
        for event in response.events
    )
    if not (response.events and in_order and new and revisions[-1] <= response.header.revision):
        raise LoadError(f"a response that cannot be: {response}")


@contextmanager
def _delivery(bench: Bench) -> Iterator[Delivery]:
    """Give a delivery on a prefix without keys; what was put is deleted again."""
    delivery = Delivery(bench)
    with delivery.loop:
        yield delivery
    bench.client.delete(PREFIX, messages.after(PREFIX))


def paced(bench: Bench) -> Sample:
    """Return the delay from put to delivery at a rate that both servers keep up with."""
    with _delivery(bench) as delivery:
        busy = time.process_time()
        seconds = delivery.paced(bench.sizes.paced_puts)
        share = (time.process_time() - busy) / seconds
        delivery.check()
        p50, p99 = percentiles(delivery.delays_ms())
    return Sample(p50, p50, p99, generator_share=share)


def saturated(bench: Bench) -> Sample:
    """Return the events delivered in a second, with as many puts as are delivered and a few ahead."""
    with _delivery(bench) as delivery:
        busy = time.process_time()
        seconds = delivery.saturated(bench.sizes.watched_puts)
        share = (time.process_time() - busy) / seconds
        delivery.check()
        p50, p99 = percentiles(delivery.delays_ms())
    return Sample(delivery.delivered / seconds, p50, p99, generator_share=share)


# --- idle watchers ------------------------------------------------------------------------------------------


def idle_rss(bench: Bench) -> Sample:
    """Return by how much the member grows with its idle watchers."""
    return _idle(bench)[0]


def idle_puts(bench: Bench) -> Sample:
    """Return the rate of puts to a key that nobody watches, beside idle watchers."""
    return _idle(bench)[1]


def _idle(bench: Bench) -> tuple[Sample, Sample]:
    """Measure both rows at once, the first time one of them is asked for."""
    kept = bench.kept
    if "idle-rss" not in kept:
        before = bench.member.rss_bytes()
        keys = [IDLE_PREFIX + b"%0*d" % (messages.DIGITS, number) for number in range(bench.sizes.idle)]
        fleet = open_watches(bench, IDLE_PREFIX, [messages.watch(key) for key in keys])
        with Loop(fleet) as loop:
            kept["idle-rss"] = Sample((bench.member.rss_bytes() - before) / 2**20)
            report = checked.write(bench, checked.many(bench), messages.PUT_PATH, messages.put(0))
            kept["idle-puts"] = checked.rate(report)
            _check_idle(bench, loop, fleet, keys)
    return kept["idle-rss"], kept["idle-puts"]


def _check_idle(bench: Bench, loop: Loop, fleet: Sequence[Streams], keys: Sequence[bytes]) -> None:
    """Raise LoadError unless the watchers saw nothing so far, and live."""
    seen = keys[:: len(keys) // 50 or 1]
    for expected in (0, len(seen)):
        if expected:
            for key in seen:
                bench.client.put(key, messages.VALUE)
        while sum(wire.marks for wire in fleet) < expected:
            loop.progress()
        while loop.turn(_QUIET_SECONDS):
            pass
        if (marks := sum(wire.marks for wire in fleet)) != expected:
            raise LoadError(f"{expected} events were expected, {marks} came")
