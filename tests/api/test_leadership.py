"""What an observer of an election is told, against the history of the election."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum.api.v3.leadership import FOLLOWING, UNSURE, VACANT, Leadership
from kvorum.mvcc.keyvalue import encode
from kvorum.proto.kv_pb2 import KeyValue

BOUND = 200


class Election:
    """The keys of an election, the oldest of which leads, and everything the leaders ever said."""

    def __init__(self) -> None:
        self.revision = 1
        self.keys: dict[bytes, bytes] = {}
        self.said: list[tuple[int, bytes]] = []

    def put(self, key: bytes, value: bytes) -> bytes:
        self.revision += 1
        created = KeyValue.FromString(self.keys[key]).create_revision if key in self.keys else self.revision
        kv = self.keys[key] = encode(key, created, self.revision, 1, value, 0)
        if self.leader() == kv:
            self.said.append((self.revision, kv))
        return kv

    def delete(self, key: bytes) -> None:
        self.revision += 1
        led = self.leader() == self.keys.pop(key)
        leader = self.leader()
        if led and leader is not None:
            self.said.append((self.revision, leader))

    def leader(self) -> bytes | None:
        """The oldest key's value; keys are kept in the order of their creation."""
        return next(iter(self.keys.values()), None)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([b"e/1", b"e/2", b"e/3"]), st.integers(0, 150)),
        st.tuples(st.just("delete"), st.sampled_from([b"e/1", b"e/2", b"e/3"]), st.just(0)),
        st.tuples(st.just("take"), st.just(b""), st.integers(1, 3)),
    ),
    max_size=40,
)


def take(leadership: Leadership, election: Election, heard: list[tuple[int, bytes]], most: int) -> None:
    """Do what ``Election.Observe`` does when the client reads."""
    while most:
        led = leadership.take()
        if led is not None:
            heard.append(led)
            most -= 1
        elif leadership.state == UNSURE:
            leadership.asked(election.revision, election.leader())
        else:
            return


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_the_last_word_is_always_heard_and_the_order_kept(steps: list[tuple[str, bytes, int]]) -> None:
    election = Election()
    heard: list[tuple[int, bytes]] = []
    wakes: list[None] = []
    leadership = Leadership(lambda: wakes.append(None), BOUND)
    for kind, key, number in steps:
        wakes.clear()
        idle = leadership.state != UNSURE and not leadership.queued
        if kind == "put":
            leadership.told(key, election.put(key, bytes(number)))
        elif kind == "delete" and key in election.keys:
            election.delete(key)
            leadership.told(key, None)
        elif kind == "take":
            take(leadership, election, heard, number)
            continue
        woken = leadership.state == UNSURE or leadership.queued
        assert wakes or not (idle and woken), "something to do, and nobody was woken"
    take(leadership, election, heard, -1)
    leader = election.leader()
    assert leadership.state == (VACANT if leader is None else FOLLOWING)
    if leader is not None:
        assert heard[-1][1] == leader
    revisions = [revision for revision, _ in heard]
    assert revisions == sorted(revisions)
    words = [kv for _, kv in heard]
    said = iter(kv for _, kv in election.said)
    assert all(kv in said for kv in words), "something was told twice, or was never so"


def test_a_reader_who_keeps_up_hears_every_word() -> None:
    election = Election()
    heard: list[tuple[int, bytes]] = []
    leadership = Leadership(lambda: None, BOUND)
    take(leadership, election, heard, -1)
    for number in range(20):
        leadership.told(b"e/1", election.put(b"e/1", bytes(number)))
        take(leadership, election, heard, -1)
    assert heard == election.said


def test_a_value_larger_than_the_bound_is_told_all_the_same() -> None:
    leadership = Leadership(lambda: None, BOUND)
    kv = encode(b"e/1", 5, 5, 1, bytes(2 * BOUND), 0)
    leadership.asked(5, kv)
    assert leadership.take() == (5, kv)
    assert leadership.take() is None
