"""Proposals: who waits for what, for how long, and what is refused."""

import pytest

from kvorum import errors, limits
from kvorum.apply.applier import Result
from kvorum.server import requests
from kvorum.server.ids import RequestIdGenerator
from kvorum.server.propose import Proposals


class Conversation:
    def __init__(self, max_request_bytes: int = 1000) -> None:
        self.kicks = 0
        self.answers: list[tuple[str, Result]] = []
        self.proposals = Proposals(
            RequestIdGenerator(1, 0.0), self._kick, timeout_seconds=7.0, max_request_bytes=max_request_bytes
        )

    def _kick(self) -> None:
        self.kicks += 1

    def propose(self, name: str, size: int = 10) -> None:
        self.proposals.propose(
            requests.PUT, b"x" * size, lambda r: self.answers.append((name, r)), parsed=name
        )

    @property
    def errors(self) -> list[tuple[str, errors.EtcdError | None]]:
        return [(name, result.error) for name, result in self.answers]


def test_a_turns_proposals_are_one_batch_and_each_is_answered_by_its_id() -> None:
    c = Conversation()
    c.propose("a")
    c.propose("b")
    assert c.kicks == 1
    batch = c.proposals.take()
    assert c.proposals.take() == []
    for data, name in zip(reversed(batch), ("b", "a"), strict=True):
        request_id = requests.decode(data)[0]
        assert c.proposals.parsed(request_id) == name
        c.proposals.applied(request_id, Result(1, b""))
        c.proposals.applied(request_id, Result(2, b""))  # somebody else's entry under an ID that is gone
    assert [name for name, _ in c.answers] == ["b", "a"]
    assert c.proposals.pending == 0


def test_what_raft_would_not_take_goes_first_the_next_time() -> None:
    c = Conversation()
    c.propose("a")
    refused = c.proposals.take()
    c.propose("b")
    c.proposals.put_back(refused)
    assert c.proposals.take()[0] == refused[0]


def test_what_only_a_leader_may_propose_is_not_queued_and_withdrawn_if_it_does_not_lead() -> None:
    c = Conversation()
    entered = [
        c.proposals.enter(requests.PUT, b"x", lambda r: c.answers.append(("a", r))),
        c.proposals.enter(requests.PUT, b"x", lambda r: c.answers.append(("b", r))),
    ]
    assert c.proposals.take() == []
    c.proposals.withdraw(entered[:1])
    c.proposals.applied(requests.decode(entered[1])[0], Result(1, b""))
    assert c.errors == [("a", errors.ERR_NOT_LEADER), ("b", None)]
    assert c.proposals.pending == 0


def test_each_call_gets_its_whole_time_and_no_more_than_a_tick_beyond() -> None:
    c = Conversation()
    c.propose("old")
    c.proposals.expire(0.0)
    c.propose("new")
    c.proposals.expire(0.1)
    c.proposals.expire(6.9)
    assert c.answers == []
    c.proposals.expire(7.0)
    assert c.errors == [("old", errors.ERR_TIMEOUT)]
    c.proposals.expire(7.1)
    assert c.errors[1:] == [("new", errors.ERR_TIMEOUT)]
    assert c.proposals.failed_total == 2


def test_too_large_too_many_and_too_much() -> None:
    c = Conversation(max_request_bytes=100)
    with pytest.raises(errors.EtcdError, match="too large"):
        c.propose("large", 101)
    gap = limits.MAX_GAP_BETWEEN_APPLY_AND_COMMIT + 1
    with pytest.raises(errors.EtcdError, match="too many requests"):
        c.proposals.propose(requests.PUT, b"x", lambda _: None, gap)
    assert (c.proposals.pending, c.kicks) == (0, 0)
    errors.ERR_REQUEST_TOO_LARGE.forget()
    errors.ERR_REQUEST_TOO_MANY_REQUESTS.forget()


def test_a_member_that_stops_answers_everyone() -> None:
    c = Conversation()
    c.propose("a")
    c.propose("b")
    c.proposals.fail_all(errors.ERR_STOPPED)
    assert c.errors == [("a", errors.ERR_STOPPED), ("b", errors.ERR_STOPPED)]
    assert c.proposals.take() == []


def test_a_snapshot_ends_the_waiting_for_what_was_proposed_and_not_for_what_is_still_here() -> None:
    c = Conversation()
    c.propose("proposed")
    c.proposals.take()
    c.propose("queued")
    c.proposals.overtaken()
    assert c.errors == [("proposed", errors.ERR_TIMEOUT)]
    (data,) = c.proposals.take()
    c.proposals.applied(requests.decode(data)[0], Result(1, b""))
    assert c.errors[1:] == [("queued", None)]


def test_what_was_answered_as_too_late_is_not_proposed_any_more() -> None:
    c = Conversation()
    c.propose("early")
    c.proposals.expire(0.0)
    c.proposals.put_back(c.proposals.take())  # no leader
    c.propose("later")
    c.proposals.expire(7.0)
    assert c.errors == [("early", errors.ERR_TIMEOUT)]
    (data,) = c.proposals.take()
    assert c.proposals.parsed(requests.decode(data)[0]) == "later"
