"""Turns are taken fairly and within bounds; passwords are hashed as Go does, in threads, and remembered."""

import asyncio
from collections import Counter
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum import limits
from kvorum.auth.fair_queue import FairQueue
from kvorum.errors import ERR_REQUEST_TOO_MANY_REQUESTS, EtcdError
from kvorum.server.passwords import Passwords, hash_now, matches_now

# --- the queue --------------------------------------------------------------------------------------------

ITEMS: Final = st.lists(
    st.one_of(st.none(), st.tuples(st.sampled_from("uvw"), st.integers(0, 3))), max_size=60
)


@given(ITEMS)
def test_what_is_put_is_taken_once_and_in_turns(items: list[tuple[str, int] | None]) -> None:
    queue: FairQueue[tuple[str, int, int]] = FairQueue(20, 7)
    waiting: list[tuple[str, int, int]] = []
    for number, item in enumerate(items):
        if item is None:
            taken = queue.take()
            assert (taken is None) == (not waiting)
            if taken is not None:
                # Of one user and connection the oldest goes first.
                assert taken == next(each for each in waiting if each[:2] == taken[:2])
                waiting.remove(taken)
        else:
            user, connection = item
            held = sum(each[1] == connection for each in waiting)
            new = (user, connection, number)
            out = queue.put(user, connection, new)
            if len(waiting) < 20 and held < 7:
                assert out is None
            elif held >= 7:
                assert out == new
            waiting.append(new)
            if out is not None:
                # Whoever made room had most, and has no less than who got it.
                counts = Counter(each[0] for each in waiting)
                assert out == new or counts[out[0]] == max(counts.values())
                waiting.remove(out)
        queue.check_invariants()
        assert len(queue) == len(waiting)


def test_a_flood_for_one_user_keeps_another_waiting_for_one_turn() -> None:
    queue: FairQueue[str] = FairQueue(1000, 1000)
    for connection in range(100):
        queue.put("alice", connection, "flood")
    queue.put("bob", 100, "bob")
    assert "bob" in [queue.take() for _ in range(2)]


def test_a_full_queue_has_room_for_who_has_less() -> None:
    queue: FairQueue[str] = FairQueue(10, 10)
    for connection in range(10):
        assert queue.put("alice", connection, f"alice {connection}") is None
    assert queue.put("alice", 1, "more") == "more"
    assert queue.put("bob", 11, "bob") == "alice 0"
    assert queue.put("bob", 11, "bob again") == "alice 1"
    assert queue.take() == "alice 2"
    assert queue.take() == "bob"


def test_connections_of_one_user_take_turns() -> None:
    queue: FairQueue[int] = FairQueue(1000, 1000)
    for connection in (1, 1, 1, 1, 2, 3, 3):
        queue.put("alice", connection, connection)
    assert Counter(queue.take() for _ in range(3)) == {1: 1, 2: 1, 3: 1}


# --- passwords --------------------------------------------------------------------------------------------

GO_HASH: Final = b"$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"
"""``allmine`` by golang.org/x/crypto/bcrypt (its own test vector)."""


def test_hashes_are_gos() -> None:
    assert matches_now(b"allmine", GO_HASH)
    assert not matches_now(b"allmin", GO_HASH)
    assert not matches_now(b"allmine", b"no hash")
    assert not matches_now(b"", b"")
    assert hash_now(b"x", 4).startswith(b"$2a$04$")


@pytest.mark.parametrize("password", [b"", b"a\0b", b"x" * 72, "ü".encode() * 50])
def test_every_password_has_a_hash(password: bytes) -> None:
    hashed = hash_now(password, 4)
    assert matches_now(password, hashed)
    assert not matches_now(b"a", hashed)


def test_go_leaves_out_what_is_behind_72_bytes() -> None:
    assert matches_now(b"x" * 72 + b"other", hash_now(b"x" * 100, 4))


def test_right_ones_are_remembered_and_wrong_ones_looked_at_again() -> None:
    async def scenario() -> None:
        passwords = Passwords(4)
        hashed = await passwords.hashed(b"secret", "u", 1)
        assert await passwords.match(b"secret", hashed, "u", 1)
        assert not await passwords.match(b"wrong", hashed, "u", 1)
        passwords.close()
        assert await passwords.match(b"secret", hashed, "u", 1), "remembered, so no thread is needed"
        with pytest.raises(EtcdError):
            await passwords.match(b"wrong", hashed, "u", 1)

    asyncio.run(scenario())


def test_a_flood_is_refused_beyond_a_bound_and_others_are_served() -> None:
    async def scenario() -> None:
        passwords = Passwords(4)
        hashed = hash_now(b"right", 6)

        async def attempt(connection: Any, password: bytes) -> object:
            try:
                return await passwords.match(password, hashed, "u", connection)
            except EtcdError as refused:
                return refused

        bound = limits.MAX_PASSWORDS_WAITING_PER_CONNECTION
        flood = [asyncio.ensure_future(attempt("flood", b"wrong")) for _ in range(3 * bound)]
        await asyncio.sleep(0)  # they begin first
        assert await attempt("other", b"right") is True
        assert sum(one.done() and one.result() is False for one in flood) <= 4, "the other one had to wait"
        answers = Counter(await asyncio.gather(*flood))
        assert answers[ERR_REQUEST_TOO_MANY_REQUESTS] == 3 * bound - (bound + limits.PASSWORD_THREADS)
        assert answers[False] == bound + limits.PASSWORD_THREADS
        passwords.close()

    asyncio.run(scenario())


def test_who_has_gone_costs_nothing() -> None:
    async def scenario() -> None:
        passwords = Passwords(4)
        hashed = hash_now(b"right", 6)
        first = asyncio.ensure_future(passwords.match(b"a", hashed, "u", 1))
        gone = [asyncio.ensure_future(passwords.match(b"b", hashed, "u", 1)) for _ in range(20)]
        await asyncio.sleep(0)
        for one in gone:
            one.cancel()
        assert await first is False
        assert await passwords.match(b"right", hashed, "u", 1)
        passwords.close()

    asyncio.run(scenario())
