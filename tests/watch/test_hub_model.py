"""Puts, creates, cancels, stalls and compactions in whatever order: each watcher gets its events, once."""

import random
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvorum.proto.rpc_pb2 import WatchCreateRequest
from tests.watch.world import Operations, World

KEYS = [b"a", b"aa", b"ab", b"b", b"ba", b"c", b"\xff", b"\xff\xff"]
ENDS = [b"", b"", b"\0", b"b", b"ac", b"ab\x00", b"c", b"\xff\xff\xff"]
FILTERS = [[], [], [], [WatchCreateRequest.NOPUT], [WatchCreateRequest.NODELETE], [0, 1]]
IDS = [0, 0, 0, 1, 2, 7]
QUEUES = [150, 600, 5000]
STEPS = [1, 3, 20]

OPERATIONS = st.dictionaries(
    st.sampled_from(KEYS), st.binary(min_size=1, max_size=40) | st.none(), min_size=1, max_size=6
).map(lambda operations: list(operations.items()))
PLACE = st.integers(0, 7)


class HubMachine(RuleBasedStateMachine):
    """Hypothesis looks for the interleaving, and shrinks it."""

    @initialize(queue_bytes=st.sampled_from(QUEUES), steps=st.sampled_from(STEPS))
    def begin(self, queue_bytes: int, steps: int) -> None:
        self.world = World(queue_bytes, steps)

    @rule(operations=OPERATIONS)
    def transact(self, operations: Operations) -> None:
        self.world.transact(operations)

    @rule(
        place=PLACE,
        past=st.none() | st.integers(-3, 12),
        watch_id=st.sampled_from(IDS),
        options=st.fixed_dictionaries(
            {
                "key": st.sampled_from([*KEYS, b""]),
                "range_end": st.sampled_from(ENDS),
                "fragment": st.booleans(),
                "filters": st.sampled_from(FILTERS),
                "prev_kv": st.booleans(),
                "progress_notify": st.booleans(),
            }
        ),
    )
    def create(self, place: int, past: int | None, watch_id: int, options: dict[str, Any]) -> None:
        self.world.create(place, past, watch_id, options)

    @rule(place=PLACE, which=PLACE)
    def cancel(self, place: int, which: int) -> None:
        self.world.cancel(place, which)

    @rule(place=PLACE)
    def request_progress(self, place: int) -> None:
        self.world.request_progress(place)

    @rule()
    def open(self) -> None:
        self.world.open()

    @rule(place=PLACE)
    def close(self, place: int) -> None:
        self.world.close(place)

    @rule(place=PLACE, count=st.integers(1, 6))
    def read(self, place: int, count: int) -> None:
        self.world.read(place, count)

    @rule()
    def catch_up(self) -> None:
        self.world.catch_up()

    @rule(back=st.integers(0, 6))
    def compact(self, back: int) -> None:
        self.world.compact(back)

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def tick(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule(transactions=st.lists(OPERATIONS, max_size=3), compacted=st.booleans())
    def restore(self, transactions: list[Operations], compacted: bool) -> None:
        self.world.restore(transactions, compacted)

    @invariant()
    def holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


TestHub = HubMachine.TestCase
TestHub.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class Chance:
    """The same steps from a seed, in the proportions of a busy day, for longer than Hypothesis would."""

    WEIGHTS: Final = {
        "transact": 40, "create": 12, "cancel": 3, "request_progress": 4, "open": 2, "close": 1,
        "read": 12, "catch_up": 14, "compact": 3, "tick": 3, "restore": 1,
    }  # fmt: skip

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def operations(self) -> Operations:
        draw = self.random
        keys = draw.sample(KEYS, draw.choice([1, 1, 1, 2, 3, 6]))
        return [(key, None if draw.random() < 0.3 else draw.randbytes(draw.randint(1, 40))) for key in keys]

    def past(self) -> int | None:
        return self.random.choice([None, -3, -2, -1, 0, 1, 3, 10, 40])

    def options(self) -> dict[str, Any]:
        draw = self.random
        return {
            "key": draw.choice([*KEYS, b""]),
            "range_end": draw.choice(ENDS),
            "fragment": draw.random() < 0.3,
            "filters": draw.choice(FILTERS),
            "prev_kv": draw.random() < 0.4,
            "progress_notify": draw.random() < 0.4,
        }

    def step(self, world: World) -> None:
        draw = self.random
        name = draw.choices(list(self.WEIGHTS), list(self.WEIGHTS.values()))[0]
        place = draw.randrange(8)
        arguments: dict[str, tuple[Any, ...]] = {
            "transact": (self.operations(),),
            "create": (place, self.past(), draw.choice(IDS), self.options()),
            "cancel": (place, draw.randrange(8)),
            "request_progress": (place,),
            "close": (place,),
            "read": (place, draw.randint(1, 30)),
            "compact": (draw.choice([0, 1, 2, 10, 30]),),
            "tick": (draw.choice([1.0, 4.0, 11.0]),),
            "restore": ([self.operations() for _ in range(draw.randrange(4))], draw.random() < 0.5),
        }
        getattr(world, name)(*arguments.get(name, ()))


@pytest.mark.parametrize("seed", range(48))
def test_long_programs(seed: int) -> None:
    chance = Chance(seed)
    world = World(chance.random.choice(QUEUES), chance.random.choice(STEPS))
    for _ in range(500):
        chance.step(world)
        world.check()
    world.finish()
