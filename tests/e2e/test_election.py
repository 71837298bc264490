"""Election as etcd 3.5.1 answers it: the same calls to both servers, and where Kvorum is stricter."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, final

import grpc
import pytest

from tests.e2e.conftest import Both
from tests.e2e.test_lock import end, etcdctl, party, said, same
from tests.e2e.turns import Answer, Party, eventually, key_of
from tests.support.client import Client
from tests.support.inside import running_inside
from tests.support.process import Member

NOT_LEADER = ("UNKNOWN", "election: not leader")
MISSING = ("UNKNOWN", '"leader" field must be provided')


@final
class Observer:
    """An Observe stream, read by a thread of its own."""

    def __init__(self, observed: Iterator[Answer]) -> None:
        self.heard: Final[list[Answer]] = []
        self._observed: Final = observed
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(grpc.RpcError):  # the end of the client is the stream's
            for answer in self._observed:
                self.heard.append(answer)

    def values(self) -> list[bytes]:
        return [answer[2] for answer in self.heard]

    def await_value(self, value: bytes) -> None:
        """Wait until a value is the last one heard."""
        eventually(lambda: self.values()[-1:] == [value])


def test_what_is_answered_at_once(both: Both) -> None:
    def script(p: Party) -> list[object]:
        p.grant(0x101, 0x102, 0x103)
        leases = p.leases()
        answers: list[object] = [
            p.leader(b"e"),
            p.campaign(b"e", 0x101, b"first").answer(),
            p.campaign(b"e", 0x101, b"first").answer(),
            p.keys(b"e"),
            p.campaign(b"e", 0x101, b"second").answer(),
            p.leader(b"e"),
            p.campaign(b"e", 0x999, b"unknown").answer(),
            p.campaign(b"", 0x101, b"").answer(),
            p.campaign(b"no lease", 0, b"x").answer(),
            p.leader(b"no lease"),
            p.leases() - leases,
            p.campaign(b"large", 0x101, b"x" * 1_600_000).answer(),
            p.leader(b"no such"),
        ]
        leader = p.leader_key(b"e", 0x101, 1)
        answers += [
            p.proclaim(leader, b"third"),
            p.leader(b"e"),
            p.proclaim(p.leader_key(b"e", 0x101, 1, rev=1), b"x"),
            p.proclaim(p.leader_key(b"e", 0x101, 1, key=b""), b"x"),
            p.proclaim(p.leader_key(b"e", 0x101, 1, key=b"absent"), b"x"),
            p.proclaim(p.leader_key(b"e", 0x101, 1, lease=0x999), b"x"),
            p.proclaim(p.leader_key(b"e", 0x101, 1, name=b"other"), b"by another name"),
            p.proclaim(p.leader_key(b"e", 0x101, 1, lease=0x102), b"under another lease"),
            p.keys(b"e"),
            p.proclaim(p.leader_key(b"e", 0x101, 1, lease=0), b"under none"),
            p.keys(b"e"),
            p.leases() - leases,
            p.proclaim(None, b"x"),
            p.proclaim(p.leader_key(b"", 0, 0, key=b"", rev=0), b"x"),
            p.resign(None),
            p.resign(p.leader_key(b"e", 0x101, 1, rev=1)),
            p.resign(p.leader_key(b"e", 0x101, 1, key=b"")),
            p.resign(p.leader_key(b"e", 0x101, 1, lease=0x999)),
            p.keys(b"e"),
            p.resign(leader),
            p.resign(p.leader_key(b"e", 0x101, 1, lease=0)),
            p.leases() - leases,
        ]
        for lease in (0x101, 0x102, 0x103):
            p.revoke(lease)
        return answers

    answers = same(both, script)
    assert isinstance(answers, list)
    assert answers[0] == ("UNKNOWN", "election: no leader")
    assert answers[1] == ("elected", b"e", b"e/101", 1, 0x101, 1, 2)
    assert answers[15] == NOT_LEADER
    assert MISSING in answers


def test_candidates_lead_in_the_order_of_create_revisions(both: Both) -> None:
    order = (0x204, 0x201, 0x203, 0x202)

    def script(p: Party) -> list[Answer]:
        p.grant(*order)
        calls = []
        for place, lease in enumerate(order):
            calls.append(p.campaign(b"turns", lease, b"of %x" % lease))
            p.await_queue(b"turns", *order[: place + 1])
        answers = []
        for place, (lease, call) in enumerate(zip(order, calls, strict=True)):
            answers += [call.answer(), p.leader(b"turns")]
            assert not any(later.done for later in calls[place + 1 :])
            if place % 2:
                p.revoke(lease)
            else:
                answers.append(p.resign(p.leader_key(b"turns", lease, place + 1)))
        return answers

    answers = same(both, script)
    assert isinstance(answers, list)
    elected = [answer[2] for answer in answers if answer[0] == "elected"]
    assert elected == [key_of(b"turns", lease) for lease in order]


def test_a_candidate_may_change_its_value_while_it_waits(both: Both) -> None:
    def script(p: Party) -> list[object]:
        p.grant(0x301, 0x302)
        answers: list[object] = [p.campaign(b"value", 0x301, b"leader").answer()]
        first = p.campaign(b"value", 0x302, b"before")
        p.await_queue(b"value", 0x301, 0x302)
        second = p.campaign(b"value", 0x302, b"after")
        eventually(lambda: p.client.get(key_of(b"value", 0x302)) == b"after")
        answers.append(p.resign(p.leader_key(b"value", 0x301, 1)))
        answers += [first.answer(), second.answer(), p.leader(b"value")]
        p.revoke(0x301)
        p.revoke(0x302)
        return answers

    same(both, script)


def give_up_by_cancelling(p: Party, member: Member) -> None:
    call = p.campaign(b"gone", 0x402, b"x")
    p.await_queue(b"gone", 0x401, 0x402)
    call.cancel()


def give_up_by_leaving(p: Party, member: Member) -> None:
    with party(member) as other:
        call = other.campaign(b"gone", 0x402, b"x")
        p.await_queue(b"gone", 0x401, 0x402)
        assert not call.done


@pytest.mark.parametrize("give_up", [give_up_by_cancelling, give_up_by_leaving])
def test_who_gives_up_is_no_candidate(both: Both, give_up: Callable[[Party, Member], None]) -> None:
    results = []
    for member in both:
        with party(member) as p:
            p.grant(0x401, 0x402, 0x403)
            answers: list[object] = [p.campaign(b"gone", 0x401, b"leader").answer()]
            give_up(p, member)
            p.await_queue(b"gone", 0x401)
            behind = p.campaign(b"gone", 0x403, b"behind")
            p.await_queue(b"gone", 0x401, 0x403)
            answers += [p.resign(p.leader_key(b"gone", 0x401, 1)), behind.answer()]
            for lease in (0x401, 0x402, 0x403):
                p.revoke(lease)
            results.append(answers)
    assert results[0] == results[1]


def test_a_candidate_whose_lease_ended_does_not_lead(both: Both) -> None:
    """etcd 3.5.1 says that both lead, the one whose key is gone and the one whose turn it is."""
    outcomes = []
    for member in both:
        with party(member) as p:
            p.grant(0x501, 0x502, 0x503)
            p.campaign(b"ended", 0x501, b"leader").answer()
            dying = p.campaign(b"ended", 0x502, b"dying")
            p.await_queue(b"ended", 0x501, 0x502)
            behind = p.campaign(b"ended", 0x503, b"behind")
            p.await_queue(b"ended", 0x501, 0x502, 0x503)
            p.revoke(0x502)
            p.resign(p.leader_key(b"ended", 0x501, 1))
            outcomes.append((dying.answer(), behind.answer()))
            p.revoke(0x501)
            p.revoke(0x503)
    theirs, ours = outcomes
    assert theirs[0][0] == "elected"
    assert ours[0] == NOT_LEADER
    assert theirs[1] == ours[1]
    assert ours[1][:3] == ("elected", b"ended", key_of(b"ended", 0x503))


def test_who_observes_hears_every_leader_and_every_word(both: Both) -> None:
    def script(p: Party) -> list[Answer]:
        p.grant(0x601, 0x602, 0x603)
        early = Observer(p.observe(b"o"))
        p.campaign(b"o", 0x601, b"1").answer()
        early.await_value(b"1")
        leader = p.leader_key(b"o", 0x601, 1)
        for value in (b"2", b"3", b"4"):
            p.proclaim(leader, value)
        early.await_value(b"4")
        late = Observer(p.observe(b"o"))
        late.await_value(b"4")
        waiting = p.campaign(b"o", 0x602, b"next")
        p.await_queue(b"o", 0x601, 0x602)
        p.resign(leader)
        waiting.answer()
        for observer in (early, late):
            observer.await_value(b"next")
        p.revoke(0x602)
        eventually(lambda: p.queue(b"o") == [])
        p.client.put(b"o/", b"by hand")
        p.client.put(b"o/deeper/1", b"not the leader")
        for observer in (early, late):
            observer.await_value(b"by hand")
        p.client.delete(b"o/")
        for observer in (early, late):
            observer.await_value(b"not the leader")
        p.client.put(b"o", b"outside")
        p.client.put(b"o0", b"outside")
        p.client.put(b"o/deeper/1", b"the end")
        for observer in (early, late):
            observer.await_value(b"the end")
        p.client.delete(b"o", b"o1")
        for lease in (0x601, 0x603):
            p.revoke(lease)
        heard = [*early.heard, *late.heard]
        for _, _, _, _, mod_revision, _, _, revision, _ in heard[:4]:
            assert revision == mod_revision
        return [answer[:-2] for answer in heard]  # a header tells when the server looked again

    heard = same(both, script)
    assert isinstance(heard, list)
    assert [answer[2] for answer in heard][:5] == [b"1", b"2", b"3", b"4", b"next"]


def test_who_observes_and_does_not_read_hears_the_last_word(both: Both) -> None:
    """Some 24 MB are said while nobody listens: more than windows and queues take."""
    with party(both.kvorum) as p:
        p.grant(0x701)
        p.campaign(b"slow", 0x701, b"0|").answer()
        leader = p.leader_key(b"slow", 0x701, 1)
        observed = p.observe(b"slow")
        heard = [next(observed)[2].split(b"|")[0]]
        for number in range(1, 25):
            p.proclaim(leader, b"%d|" % number + bytes(1_000_000))
        p.proclaim(leader, b"the end|")
        while heard[-1] != b"the end":
            heard.append(next(observed)[2].split(b"|")[0])
        numbers = [int(value) for value in heard[:-1]]
        assert numbers == sorted(set(numbers))
        assert len(numbers) < 25, "nothing was held back, so nothing was tried"
        p.revoke(0x701)


def test_nothing_is_kept_of_who_is_gone(tmp_path: Path) -> None:
    with running_inside(tmp_path / "kvorum.etcd") as inside, Client(inside.endpoint) as client:
        p = Party(client)

        def kept() -> int:
            return inside.call(lambda: inside.node.observers.size)

        p.grant(0x801, 0x802, 0x803)
        p.campaign(b"left", 0x801, b"x").answer()
        with Client(inside.endpoint) as going:
            other = Party(going)
            streams = [other.observe(b"left") for _ in range(20)]
            assert {next(stream)[2] for stream in streams} == {b"x"}
            calls = [other.campaign(b"left", 0x802, b"y"), other.lock(b"left", 0x803)]
            eventually(lambda: kept() == len(streams) + len(calls))
        eventually(lambda: kept() == 0)
        p.await_queue(b"left", 0x801)
        assert not any(call.done and call.answer()[0] == "elected" for call in calls)


# --- etcdctl ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("elect",), ("elect", "name"), ("elect", "-l", "name", "value")])
def test_etcdctl_elect_badly_asked(both: Both, words: Sequence[str]) -> None:
    theirs, ours = (end(etcdctl(member, *words)) for member in both)
    assert theirs == ours
    assert ours[0] != 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_etcdctl_elect(both: Both, number: signal.Signals) -> None:
    """One leads and one waits while a third listens; a signal ends the first, and the second leads."""
    told = []
    for member in both:
        with party(member) as p, ExitStack() as stack:
            listener = stack.enter_context(etcdctl(member, "elect", "-l", "ctl"))
            first = stack.enter_context(etcdctl(member, "elect", "ctl", "value one"))
            lines = said(first, 2)
            assert said(listener, 2) == lines
            second = stack.enter_context(etcdctl(member, "elect", "ctl", "value two"))
            eventually(lambda p=p: len(p.queue(b"ctl")) == 2)  # type: ignore[misc]
            queue = [key.decode() for key in p.queue(b"ctl")]
            assert lines == [queue[0], "value one"]
            assert end(first, number) == (0, [], "")
            assert said(second, 2) == [queue[1], "value two"]
            assert said(listener, 2) == [queue[1], "value two"]
            told.append([end(listener, number), end(second, number)])
            assert p.queue(b"ctl") == []
    assert told[0] == told[1]
