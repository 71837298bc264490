"""A loop whose time is a number: it jumps, it keeps order, it tells of errors and of waiting for nothing."""

import asyncio
import time

import pytest

from kvorum.sim.loop import DeadlockError, SimulatedLoop


def test_time_passes_at_once_and_in_order() -> None:
    loop = SimulatedLoop(lambda error: None)
    seen: list[tuple[float, str]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((loop.time(), name))

    async def everybody() -> None:
        await asyncio.gather(sleeper("late", 3600.0), sleeper("soon", 1.0), sleeper("too", 1.0))

    began = time.monotonic()
    loop.run_until_complete(everybody())
    loop.close()
    assert seen == [(1.0, "soon"), (1.0, "too"), (3600.0, "late")]
    assert time.monotonic() - began < 60


def test_who_waits_for_nothing_is_told() -> None:
    loop = SimulatedLoop(lambda error: None)
    waiting = loop.create_future()
    with pytest.raises(DeadlockError):
        loop.run_until_complete(waiting)
    waiting.cancel()
    loop.close()


def test_an_error_of_a_callback_is_handed_over() -> None:
    errors: list[BaseException] = []
    loop = SimulatedLoop(errors.append)

    def fail() -> None:
        raise ValueError("of a callback")

    loop.call_later(1.0, fail)
    loop.run_until_complete(asyncio.sleep(2.0))
    loop.close()
    assert [str(error) for error in errors] == ["of a callback"]
