"""Lock as etcd 3.5.1 answers it: the same calls to both servers, and what must not happen."""

import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from kvorum import errors
from tests.conftest import StartMember
from tests.e2e.conftest import Both
from tests.e2e.turns import SECONDS, Answer, Party, eventually, key_of
from tests.support import process
from tests.support.client import Client
from tests.support.inside import running_inside
from tests.support.process import Member, clean_environment, distro_binary

EXPIRED = ("UNKNOWN", "mutex: session is expired")


@contextmanager
def party(member: Member) -> Iterator[Party]:
    with Client(member.endpoint) as client:
        yield Party(client)


def same(both: Both, script: Callable[[Party], object]) -> object:
    """Run a script against both servers; returns what both answered."""
    results = []
    for member in both:
        with party(member) as p:
            results.append(script(p))
    assert results[0] == results[1]
    return results[1]


def test_what_is_answered_at_once(both: Both) -> None:
    def script(p: Party) -> list[object]:
        p.grant(0x101, 0x102)
        leases = p.leases()
        answers: list[object] = [
            p.lock(b"once", 0x101).answer(),
            p.lock(b"once", 0x101).answer(),
            p.lock(b"other", 0x102).answer(),
            p.lock(b"once", 0x999).answer(),
            p.lock(b"once", -1).answer(),
            p.lock(b"", 0x101).answer(),
            p.lock(b"\xff\x00/", 0x101).answer(),
            p.lock(b"no lease", 0).answer(),
            p.leases() - leases,
            p.keys(b"once"),
            p.keys(b"no lease"),
            p.lock(b"x" * 1_600_000, 0x101).answer(),
            p.unlock(b""),
            p.unlock(b"absent"),
            p.unlock(key_of(b"once", 0x101)),
            p.keys(b"once"),
            p.unlock(key_of(b"once", 0x101)),
        ]
        p.revoke(0x101)
        p.revoke(0x102)
        return answers

    answers = same(both, script)
    assert isinstance(answers, list)
    assert answers[:2] == [("locked", b"once/101", 1, 2)] * 2
    assert answers[3] == ("UNKNOWN", "etcdserver: requested lease not found")
    assert answers[8] == 1


def test_who_waits_is_next_in_the_order_of_create_revisions(both: Both) -> None:
    order = (0x205, 0x201, 0x204, 0x202, 0x203)

    def script(p: Party) -> list[Answer]:
        p.grant(*order)
        calls = []
        for place, lease in enumerate(order):
            calls.append(p.lock(b"queue", lease))
            p.await_queue(b"queue", *order[: place + 1])
        answers = []
        for place, (lease, call) in enumerate(zip(order, calls, strict=True)):
            answers.append(call.answer())
            assert not any(later.done for later in calls[place + 1 :])
            answers.append(p.unlock(key_of(b"queue", lease)))
            p.revoke(lease)
        return answers

    answers = same(both, script)
    assert isinstance(answers, list)
    assert [answer[1] for answer in answers[::2]] == [key_of(b"queue", lease) for lease in order]


def test_one_lease_may_wait_twice(both: Both) -> None:
    def script(p: Party) -> list[object]:
        p.grant(0x301, 0x302)
        answers: list[object] = [p.lock(b"twice", 0x301).answer()]
        waiting = [p.lock(b"twice", 0x302) for _ in range(2)]
        p.await_queue(b"twice", 0x301, 0x302)
        p.revoke(0x301)
        answers += [call.answer() for call in waiting]
        p.revoke(0x302)
        return answers

    same(both, script)


def test_a_lease_that_is_revoked_while_its_call_waits(both: Both) -> None:
    """Its turn comes, but its key is gone: it is refused, and who waits behind it is next."""

    def script(p: Party) -> list[object]:
        p.grant(0x401, 0x402, 0x403)
        answers: list[object] = [p.lock(b"revoked", 0x401).answer()]
        dying = p.lock(b"revoked", 0x402)
        p.await_queue(b"revoked", 0x401, 0x402)
        behind = p.lock(b"revoked", 0x403)
        p.await_queue(b"revoked", 0x401, 0x402, 0x403)
        p.revoke(0x402)
        p.await_queue(b"revoked", 0x401, 0x403)
        assert not behind.done
        answers.append(p.unlock(key_of(b"revoked", 0x401)))
        answers += [dying.answer(), behind.answer()]
        p.revoke(0x401)
        p.revoke(0x403)
        return answers

    answers = same(both, script)
    assert isinstance(answers, list)
    assert answers[2] == EXPIRED
    assert answers[3][:2] == ("locked", key_of(b"revoked", 0x403))


def test_a_lease_that_expires_while_its_call_waits(both: Both) -> None:
    """As Jepsen did it (etcd issue 11456), with nobody to keep the lease alive."""
    with ExitStack() as stack:
        parties = [stack.enter_context(party(member)) for member in both]
        calls = []
        for p in parties:
            p.grant(0x501)
            p.lock(b"expiring", 0x501).answer()
            p.grant(0x502, ttl=1)
            calls.append(p.lock(b"expiring", 0x502))
            p.await_queue(b"expiring", 0x501, 0x502)
        for p, call in zip(parties, calls, strict=True):
            p.await_queue(b"expiring", 0x501)
            p.unlock(key_of(b"expiring", 0x501))
            assert call.answer() == EXPIRED
            p.revoke(0x501)


def give_up_by_cancelling(p: Party, member: Member) -> None:
    call = p.lock(b"gone", 0x602)
    p.await_queue(b"gone", 0x601, 0x602)
    call.cancel()


def give_up_by_leaving(p: Party, member: Member) -> None:
    with party(member) as other:
        call = other.lock(b"gone", 0x602)
        p.await_queue(b"gone", 0x601, 0x602)
        assert not call.done


def give_up_by_deadline(p: Party, member: Member) -> None:
    call = p.lock(b"gone", 0x602, seconds=0.5)
    p.await_queue(b"gone", 0x601, 0x602)
    call.answer()


@pytest.mark.parametrize("give_up", [give_up_by_cancelling, give_up_by_leaving, give_up_by_deadline])
def test_who_gives_up_loses_the_place(both: Both, give_up: Callable[[Party, Member], None]) -> None:
    def script(p: Party, member: Member) -> list[object]:
        p.grant(0x601, 0x602, 0x603)
        answers: list[object] = [p.lock(b"gone", 0x601).answer()]
        give_up(p, member)
        p.await_queue(b"gone", 0x601)
        behind = p.lock(b"gone", 0x603)
        p.await_queue(b"gone", 0x601, 0x603)
        answers += [p.unlock(key_of(b"gone", 0x601)), behind.answer()]
        for lease in (0x601, 0x602, 0x603):
            p.revoke(lease)
        return answers

    results = []
    for member in both:
        with party(member) as p:
            results.append(script(p, member))
    assert results[0] == results[1]


def test_a_key_that_was_made_anew_is_not_the_one_that_waited(both: Both) -> None:
    """etcd answers the first call as well, which is only harmless if it is the same client's."""
    with party(both.kvorum) as p:
        p.grant(0x701, 0x702, 0x703)
        p.lock(b"anew", 0x701).answer()
        first = p.lock(b"anew", 0x702)
        p.await_queue(b"anew", 0x701, 0x702)
        p.client.delete(key_of(b"anew", 0x702))
        other = p.lock(b"anew", 0x703)
        p.await_queue(b"anew", 0x701, 0x703)
        second = p.lock(b"anew", 0x702)
        p.await_queue(b"anew", 0x701, 0x703, 0x702)
        p.unlock(key_of(b"anew", 0x701))
        assert first.answer() == EXPIRED
        assert other.answer()[:2] == ("locked", key_of(b"anew", 0x703))
        assert not second.done
        p.unlock(key_of(b"anew", 0x703))
        assert second.answer()[:2] == ("locked", key_of(b"anew", 0x702))


def test_nobody_holds_a_lock_that_another_holds(both: Both) -> None:
    """Contenders that lock, look whether they are alone, and unlock or let their lease go, in any order."""
    inside: list[int] = []
    failures: list[str] = []

    def contend(number: int) -> None:
        choose = random.Random(number)
        with party(both.kvorum) as p:
            for turn in range(12):
                lease = 0x8000 + number * 0x100 + turn
                p.grant(lease)
                answer = p.lock(b"contended", lease).answer()
                inside.append(number)
                if inside != [number]:
                    failures.append(f"{inside} are inside together")
                if answer[0] != "locked":
                    failures.append(f"{number} was answered {answer}")
                inside.remove(number)
                if choose.random() < 0.5:
                    p.unlock(key_of(b"contended", lease))
                p.revoke(lease)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not failures


def test_each_waits_for_the_one_before(tmp_path: Path) -> None:
    """So an unlock wakes one, however many wait."""
    leases = range(0x101, 0x119)
    with running_inside(tmp_path / "kvorum.etcd") as inside, Client(inside.endpoint) as client:
        p = Party(client)
        p.grant(*leases)
        calls = []
        for place, lease in enumerate(leases):
            calls.append(p.lock(b"chain", lease))
            p.await_queue(b"chain", *leases[: place + 1])
        keys = [key_of(b"chain", lease) for lease in leases]

        def waiting() -> list[int]:
            return inside.call(lambda: [inside.node.observers.count(key) for key in keys])

        eventually(lambda: waiting() == [1] * (len(keys) - 1) + [0])
        assert calls[0].answer()[0] == "locked"
        p.unlock(keys[0])
        assert calls[1].answer()[0] == "locked"
        assert waiting() == [0] + [1] * (len(keys) - 2) + [0]


def test_a_queue_outlives_a_member_that_is_killed(start_member: StartMember) -> None:
    """The keys are the queue: who asks again with the same lease has kept the place."""
    results = []
    for program in (process.etcd(), process.kvorum()):
        member = start_member(program)
        with party(member) as p:
            p.grant(0x101, 0x102, 0x103)
            answers = [p.lock(b"kept", 0x101).answer()]
            cut_off = []
            for lease in (0x102, 0x103):
                cut_off.append(p.lock(b"kept", lease))
                p.await_queue(b"kept", *range(0x101, lease + 1))
            member.kill()
            assert [call.answer()[0] for call in cut_off] == ["UNAVAILABLE"] * 2
            member.start()
            waiting = [p.lock(b"kept", lease) for lease in (0x103, 0x102)]
            answers.append(p.unlock(key_of(b"kept", 0x101)))
            answers.append(waiting[1].answer())
            assert not waiting[0].done
            answers.append(p.unlock(key_of(b"kept", 0x102)))
            answers.append(waiting[0].answer())
            results.append([answer[:-1] for answer in answers])  # terms depend on how often it campaigned
    assert results[0] == results[1]
    assert [answer[1] for answer in results[1] if answer[0] == "locked"] == [
        key_of(b"kept", lease) for lease in (0x101, 0x102, 0x103)
    ]


def test_a_member_that_is_full_or_takes_few_operations(start_member: StartMember) -> None:
    results = []
    for program in (process.etcd(), process.kvorum()):
        flags = ("--quota-backend-bytes=300000", "--max-txn-ops=1")
        with party(start_member(program, flags=flags)) as p:
            p.grant(0x101, 0x102)
            answers: list[object] = [
                p.lock(b"few", 0x101).answer(),
                p.campaign(b"few", 0x101, b"x").answer(),
            ]
            with pytest.raises(grpc.RpcError, match="database space exceeded"):
                p.client.put(b"large", bytes(400_000))
            leader = p.leader_key(b"few", 0x101, 1)
            answers += [
                p.lock(b"full", 0x101).answer(),
                p.lock(b"full", 0).answer(),
                p.campaign(b"full", 0x101, b"x").answer(),
                p.campaign(b"few", 0x101, b"x").answer(),
                p.proclaim(leader, b"y"),
                p.leader(b"few"),
                p.resign(leader),
                p.unlock(b"few"),
            ]
            results.append(answers)
    assert results[0] == results[1]
    refusals = [answer for answer in results[1] if isinstance(answer, tuple) and answer[0] == "UNKNOWN"]
    assert refusals[0] == ("UNKNOWN", errors.ERR_TOO_MANY_OPS.message)
    assert ("UNKNOWN", errors.ERR_NO_SPACE.message) in refusals


def test_a_member_that_stops_answers_who_waits(start_member: StartMember) -> None:
    member = start_member(process.kvorum())
    with party(member) as p:
        p.grant(0x101, 0x102)
        p.lock(b"stopping", 0x101).answer()
        waiting = p.lock(b"stopping", 0x102)
        p.await_queue(b"stopping", 0x101, 0x102)
        member.signal(signal.SIGTERM)
        assert waiting.answer() == ("UNAVAILABLE", "etcdserver: server stopped")
        assert member.wait_exit() == -signal.SIGTERM


# --- etcdctl ----------------------------------------------------------------------------------------------


def etcdctl(member: Member, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [distro_binary("etcdctl"), f"--endpoints={member.endpoint}", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )


def said(running: "subprocess.Popen[str]", count: int) -> list[str]:
    """The next lines that a process writes."""
    assert running.stdout is not None
    return [running.stdout.readline().rstrip("\n") for _ in range(count)]


def end(running: "subprocess.Popen[str]", number: signal.Signals | None = None) -> tuple[int, list[str], str]:
    """Signal a process if asked to, and wait for it: its status, lines of stdout and stderr."""
    if number is not None:
        running.send_signal(number)
    out, err = running.communicate(timeout=SECONDS)
    return running.returncode, out.splitlines(), err


@pytest.mark.parametrize(
    "words",
    [
        ("lock", "exec", "sh", "-c", "echo inside; exit 3"),
        (
            "lock",
            "exec",
            "--ttl=30",
            "--",
            "sh",
            "-c",
            'test "$ETCD_LOCK_REV" && echo "${ETCD_LOCK_KEY%%/*}"',
        ),
        ("lock", "exec", "no-such-command"),
        ("lock",),
    ],
)
def test_etcdctl_lock_with_a_command(both: Both, words: Sequence[str]) -> None:
    def told(member: Member) -> tuple[int, list[str], str]:
        return end(etcdctl(member, *words))

    theirs, ours = (told(member) for member in both)
    assert theirs == ours
    with party(both.kvorum) as p:
        assert p.queue(b"exec") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_etcdctl_lock_waits_and_releases(both: Both, number: signal.Signals) -> None:
    """The first holds, the second waits until a signal ends the first; a third gives up waiting."""
    for member in both:
        with party(member) as p, ExitStack() as stack:
            first = stack.enter_context(etcdctl(member, "lock", "ctl"))
            held, value = said(first, 2)
            assert value == ""
            assert p.queue(b"ctl") == [held.encode()]
            second = stack.enter_context(etcdctl(member, "lock", "ctl"))
            eventually(lambda p=p: len(p.queue(b"ctl")) == 2)  # type: ignore[misc]
            third = stack.enter_context(etcdctl(member, "lock", "ctl"))
            eventually(lambda p=p: len(p.queue(b"ctl")) == 3)  # type: ignore[misc]
            queue = p.queue(b"ctl")
            assert queue[0] == held.encode()
            status, _, told = end(third, number)
            assert status == 1
            assert "context canceled" in told
            eventually(lambda p=p, queue=queue: p.queue(b"ctl") == queue[:2])  # type: ignore[misc]
            assert end(first, number) == (0, [], "")
            assert said(second, 2) == [queue[1].decode(), ""]
            assert end(second, number) == (0, [], "")
            assert p.queue(b"ctl") == []
