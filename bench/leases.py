"""Rows about leases: renewals, and puts beside many leases that expire together."""

import time
from collections.abc import Sequence
from itertools import repeat
from typing import Final

from bench import generator, messages, watches
from bench.generator import Connection
from bench.h2load import LoadError, percentiles
from bench.model import Bench, Sample
from bench.streams import Streams
from bench.wire import Loop
from kvorum.proto import rpc_pb2 as pb

PREFIX: Final = b"bench/leased/"
CONNECTIONS: Final = 16
IN_FLIGHT: Final = 64
"""Renewals on each connection's one stream."""
PUTS_PER_SECOND: Final = 500

_FIRST_RENEWED: Final = 1_000_001
_FIRST_EXPIRING: Final = 2_000_001
_LONG_TTL_SECONDS: Final = 3600
_SHORT_TTL_SECONDS: Final = 4
_GONE_SECONDS: Final = 60.0


def _grant(bench: Bench, leases: Sequence[int], ttl_seconds: int) -> None:
    bodies = (messages.grant(lease, ttl_seconds) for lease in leases)
    generator.run(bench.member.endpoint, messages.GRANT_PATH, bodies, connections=8, in_flight=64)
    missing = {*leases} - {*bench.client.leases()}
    if missing:
        raise LoadError(f"{len(missing)} of {len(leases)} leases were not granted")


class Renewals:
    """A stream that renews its leases over and over, with a fixed number of renewals under way.

    Answers come in the order of requests, so an answer's number tells its lease and when it was asked for.
    """

    def __init__(self, bench: Bench, leases: Sequence[int], total: int) -> None:
        self.wire: Final = Streams(*bench.address, messages.KEEPALIVE_PATH)
        self.wire.restart(watches.SAMPLE_EVERY)
        self.stream: Final = self.wire.open()
        self.leases: Final = leases
        self.bodies: Final = [messages.keepalive(lease) for lease in leases]
        self.total: Final = total
        self.asked: Final[list[float]] = []

    @property
    def done(self) -> bool:
        """Whether all renewals were answered."""
        return self.wire.messages >= self.total

    def refill(self) -> None:
        """Ask until enough are under way."""
        asked = len(self.asked)
        more = min(IN_FLIGHT - asked + self.wire.messages, self.total - asked)
        if more > 0:
            bodies = [self.bodies[number % len(self.bodies)] for number in range(asked, asked + more)]
            self.asked.extend(repeat(time.perf_counter(), more))
            self.wire.send(self.stream, b"".join(bodies))

    def latencies_ms(self) -> list[float]:
        """Look into the samples. Raises LoadError unless each renewed the lease it should have."""
        if self.wire.messages != self.total:
            raise LoadError(f"{self.total} renewals were asked for, {self.wire.messages} were answered")
        latencies = []
        for now, number, message in self.wire.samples:
            response = pb.LeaseKeepAliveResponse.FromString(message)
            expected = self.leases[number % len(self.leases)], _LONG_TTL_SECONDS
            if expected != (response.ID, response.TTL):
                raise LoadError(f"{expected} was to be renewed: {response}")
            latencies.append((now - self.asked[number]) * 1000)
        return latencies


def renewed(bench: Bench) -> Sample:
    """Return the renewals answered in a second."""
    leases = range(_FIRST_RENEWED, _FIRST_RENEWED + bench.sizes.leases)
    _grant(bench, leases, _LONG_TTL_SECONDS)
    total = bench.sizes.keepalives // CONNECTIONS
    streams = [Renewals(bench, leases[number::CONNECTIONS], total) for number in range(CONNECTIONS)]
    with Loop([stream.wire for stream in streams]) as loop:
        busy, started = time.process_time(), time.perf_counter()
        while not all(stream.done for stream in streams):
            for stream in streams:
                stream.refill()
            loop.progress()
        seconds = time.perf_counter() - started
        share = (time.process_time() - busy) / seconds
    p50, p99 = percentiles([latency for stream in streams for latency in stream.latencies_ms()])
    return Sample(total * CONNECTIONS / seconds, p50, p99, generator_share=share)


def expiring(bench: Bench) -> Sample:
    """Return the p99 of puts at a fixed rate, from when the leases are due until the last has expired.

    Each lease takes a key with it, and a watcher counts those.
    """
    leases = range(_FIRST_EXPIRING, _FIRST_EXPIRING + bench.sizes.expiring)
    due = time.perf_counter() + _SHORT_TTL_SECONDS
    _grant(bench, leases, _SHORT_TTL_SECONDS)
    bodies = (messages.leased_put(PREFIX + b"%d" % lease, lease) for lease in leases)
    generator.run(bench.member.endpoint, messages.PUT_PATH, bodies, connections=8, in_flight=64)
    fleet = watches.open_watches(bench, PREFIX, [messages.watch_prefix(PREFIX)])
    putter = Connection(*bench.address, messages.PUT_PATH, in_flight=1, timed=True)
    with Loop([*fleet, putter]) as loop:
        _wait(loop, due)
        if any(wire.marks for wire in fleet):
            raise LoadError("a lease expired before it was due")
        busy = time.process_time()
        _put_until_gone(loop, fleet, putter, due, len(leases))
        share = (time.process_time() - busy) / (time.perf_counter() - due)
    left = bench.client.range(PREFIX, messages.after(PREFIX), count_only=True).count
    if left or {*leases} & {*bench.client.leases()}:
        raise LoadError(f"leases have expired, {left} of their keys are still there")
    latencies = [seconds * 1000 for seconds in putter.latencies]
    p50, p99 = percentiles(latencies)
    return Sample(p99, p50, p99, worst_ms=max(latencies), generator_share=share)


def _wait(loop: Loop, due: float) -> None:
    left = due - time.perf_counter()
    if left <= 0:
        raise LoadError(f"granting took more than the {_SHORT_TTL_SECONDS} s that the leases have")
    while left > 0:
        loop.turn(left)
        left = due - time.perf_counter()


def _put_until_gone(
    loop: Loop, fleet: Sequence[Streams], putter: Connection, due: float, leases: int
) -> None:
    body, puts = messages.put(0), 0
    while sum(wire.marks for wire in fleet) < leases or putter.open:
        now = time.perf_counter()
        if now - due > _GONE_SECONDS:
            raise LoadError(f"leases that were due {_GONE_SECONDS:g} s ago have not expired")
        if now >= due + puts / PUTS_PER_SECOND:
            putter.start(body)
            puts += 1
        else:
            loop.turn(due + puts / PUTS_PER_SECOND - now)
