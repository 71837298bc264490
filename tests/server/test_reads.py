"""Linearizable reads: batches, confirmation, and every way in which one is not answered."""

from kvorum import errors
from kvorum.errors import EtcdError
from kvorum.server.ids import RequestIdGenerator
from kvorum.server.reads import READ_INDEX_RETRY_SECONDS, Reads


class Conversation:
    """Reads whose kicks are counted and whose answers are collected."""

    def __init__(self) -> None:
        self.kicks = 0
        self.answers: list[tuple[str, EtcdError | None]] = []
        self.reads = Reads(RequestIdGenerator(1, 0.0), self._kick, timeout_seconds=7.0)

    def _kick(self) -> None:
        self.kicks += 1

    def ask(self, name: str) -> None:
        self.reads.wait(lambda error: self.answers.append((name, error)))

    def request(self, now: float) -> bytes:
        context = self.reads.next_request(now)
        assert context is not None
        return context


def test_reads_of_one_turn_are_one_request_and_run_in_order_once_applied() -> None:
    c = Conversation()
    c.ask("a")
    c.ask("b")
    assert c.kicks == 1
    context = c.request(0.0)
    c.reads.confirmed(context, 5)
    c.reads.run(4)
    assert c.answers == []
    c.reads.run(5)
    assert c.answers == [("a", None), ("b", None)]


def test_a_read_that_came_after_the_request_waits_for_the_next_one() -> None:
    """The index was asked for before it arrived, so it says nothing about what that read must see."""
    c = Conversation()
    c.ask("early")
    context = c.request(0.0)
    c.ask("late")
    assert c.reads.next_request(0.1) is None, "one request at a time"
    c.reads.confirmed(context, 1)
    c.reads.run(9)
    assert c.answers == [("early", None)]
    c.reads.confirmed(c.request(0.2), 9)
    c.reads.run(9)
    assert c.answers[1:] == [("late", None)]


def test_an_unanswered_request_is_repeated_and_in_the_end_times_out() -> None:
    c = Conversation()
    c.ask("a")
    context = c.request(0.0)
    assert c.reads.next_request(READ_INDEX_RETRY_SECONDS / 2) is None
    assert c.reads.next_request(READ_INDEX_RETRY_SECONDS) == context
    c.reads.expire(6.9)
    assert c.answers == []
    c.reads.expire(7.0)
    assert c.answers == [("a", errors.ERR_TIMEOUT)]
    c.reads.confirmed(context, 1)
    c.reads.run(1)
    assert len(c.answers) == 1, "an answer that comes too late is for nobody"
    assert (c.reads.slow_total, c.reads.failed_total) == (1, 1)


def test_answers_to_other_requests_confirm_nothing() -> None:
    c = Conversation()
    c.ask("a")
    c.request(0.0)
    c.reads.confirmed(b"somebody's", 1)
    c.reads.run(100)
    assert c.answers == []


def test_a_lost_leader_fails_what_was_asked_and_keeps_what_was_not() -> None:
    c = Conversation()
    c.ask("asked")
    context = c.request(0.0)
    c.ask("waiting")
    c.reads.leader_changed()
    assert c.answers == [("asked", errors.ERR_LEADER_CHANGED)]
    c.reads.confirmed(context, 1)
    c.reads.confirmed(c.request(0.1), 1)
    c.reads.run(1)
    assert c.answers[1:] == [("waiting", None)]


def test_a_member_that_stops_answers_everyone() -> None:
    c = Conversation()
    for name in ("confirmed", "asked", "waiting"):
        c.ask(name)
        if name == "confirmed":
            c.reads.confirmed(c.request(0.0), 9)
        elif name == "asked":
            c.request(0.0)
    c.reads.fail_all(errors.ERR_STOPPED)
    assert sorted(c.answers, key=lambda pair: pair[0]) == [
        (name, errors.ERR_STOPPED) for name in ("asked", "confirmed", "waiting")
    ]
