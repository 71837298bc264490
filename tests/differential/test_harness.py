"""The comparison itself: what it leaves out, what it must not, and that it finds and shrinks a difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvorum.proto import kv_pb2 as kv
from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.v3election_pb2 import CampaignResponse
from kvorum.proto.v3lock_pb2 import LockResponse
from tests.differential import normal
from tests.differential.__main__ import main
from tests.differential.members import Members
from tests.differential.programs import SURFACES, make
from tests.differential.runner import Pair, shrunk
from tests.differential.side import Side
from tests.differential.telling import first_difference, in_one_line
from tests.differential.transcript import MARKER, Item, transcribe


def response(*events: tuple[bytes, int], fragment: bool = False, header: int = 9) -> pb.WatchResponse:
    return pb.WatchResponse(
        header=pb.ResponseHeader(revision=header),
        fragment=fragment,
        events=[
            kv.Event(kv=kv.KeyValue(key=key, mod_revision=revision, value=b"%d" % at))
            for at, (key, revision) in enumerate(events)
        ],
    )


def told(*responses: pb.WatchResponse) -> list[Item]:
    items: list[Item] = []
    for transcript in transcribe(list(responses), 0).values():
        items += transcript
    return items


def kinds(items: Sequence[Item]) -> list[object]:
    return [item[0] for item in items]


def test_how_revisions_are_batched_does_not_count() -> None:
    together = pb.WatchResponse()
    together.CopyFrom(response((b"a", 2)))
    together.events.extend(response((b"b", 3)).events)
    assert told(response((b"a", 2)), response((b"b", 3))) == told(together)
    assert kinds(told(together)) == [2, 3]


def test_a_revision_may_come_in_parts_only_as_fragments() -> None:
    parts = response((b"a", 2), fragment=True), response((b"b", 2))
    assert kinds(told(*parts)) == [2]
    assert "revision split over two responses" in kinds(told(response((b"a", 2)), response((b"b", 2))))


def test_broken_promises_are_lines_of_their_own() -> None:
    assert kinds(told(response((b"a", 3)), response((b"b", 2)))) == [3, "delivered again or late", 2]
    assert kinds(told(response((b"a", 3), header=2))) == ["event newer than its header", 3]


def test_the_marker_is_no_event_of_the_program() -> None:
    assert kinds(told(response((MARKER, 2)), response((b"a", 3)))) == [3]


@pytest.mark.parametrize(
    ("left", "passes"), [(600, False), (599, True), (596, True), (595, False), (-1, False)]
)
def test_the_time_that_is_left_may_only_have_passed(left: int, passes: bool) -> None:
    message = pb.LeaseTimeToLiveResponse(TTL=left, grantedTTL=600)
    normal.without_passing_time(message, 2.5)
    assert (message.TTL == 599) is passes


def test_leases_change_places_only_within_a_ttl() -> None:
    message = pb.LeaseLeasesResponse(leases=[pb.LeaseStatus(ID=lease) for lease in (3, 1, 2)])
    normal.without_order_among_equal_ttls(message, {1: 6000, 2: 60, 3: 6000})
    assert [lease.ID for lease in message.leases] == [1, 3, 2]


def test_only_a_lost_place_excuses_an_answer() -> None:
    won, locked = CampaignResponse(), LockResponse()
    refused = ("UNKNOWN", "election: not leader")
    assert normal.of_lost_place(won, key_exists=False) == normal.of_lost_place(refused, key_exists=False)
    assert normal.of_lost_place(locked, key_exists=False) is locked
    assert normal.of_lost_place(("UNKNOWN", "other"), key_exists=True) == ("UNKNOWN", "other")


def test_a_difference_is_told_by_its_place() -> None:
    assert first_difference([1, {"a": (2, 3)}], [1, {"a": (2, 4)}]) == ("[1]['a'][1]", 3, 4)
    refused = ("UNKNOWN", "why")
    assert first_difference((1, refused), (1, (pb.PutResponse(),))) == ("[1]", refused, (pb.PutResponse(),))
    assert first_difference([1], [1, 2]) == ("[1]", "nothing", 2)
    assert in_one_line(pb.PutRequest(key=b"k", value=b"x" * 300)) == 'key: "k" value: "x<300 times>"'
    assert len(in_one_line(bytes(range(256)) * 100)) < 1000


@pytest.mark.parametrize("surface", SURFACES)
def test_a_seed_makes_one_program(surface: str) -> None:
    assert make(surface, 5, 30) == make(surface, 5, 30) != make(surface, 6, 30)


@dataclass(frozen=True)
class TellsWhoItIs:
    """A step that is answered differently."""

    def perform(self, side: Side) -> object:
        return side.name


def test_a_difference_is_found_and_shrunk(tmp_path: Path) -> None:
    members = Members(tmp_path, ("kvorum", "etcd"))
    pair = Pair(members)
    try:
        steps = make("kv", 1, 12)
        assert pair.run(steps) is None
        steps.insert(7, TellsWhoItIs())
        difference = pair.run(steps)
        assert difference is not None
        assert difference.startswith("step 7 differs")
        assert shrunk(pair, steps) == [TellsWhoItIs()]
    finally:
        pair.close()
        members.close()


def test_the_long_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--surface", "kv", "--seeds", "3-4", "--steps", "5", "--servers", "etcd", "etcd"]) == 0
    assert "kv: 2 programs of 5 steps, 0 differ []" in capsys.readouterr().out
