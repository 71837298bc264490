"""What is not compared, each by name, in this one place.

Ours and etcd's answers may differ here only: in what must differ between two clusters, in what etcd leaves
to chance, and in what ``docs/differences.md`` lists as deliberate. The key of a function in that table is
quoted in its docstring.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from google.protobuf.message import Message

from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.v3election_pb2 import CampaignResponse
from kvorum.proto.v3lock_pb2 import LockResponse

CHOSEN_LEASE: Final = -1
"""Stands for any lease ID that a server chose."""


def walk(message: Message) -> Iterator[Message]:
    """Yield a message and every message in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from walk(part)


def without_ids(message: Message) -> None:
    """Blank the cluster's and the member's ID in every header: two clusters have different ones."""
    for part in walk(message):
        if isinstance(part, pb.ResponseHeader):
            part.ClearField("cluster_id")
            part.ClearField("member_id")


def without_order_among_equals(message: Message) -> None:
    """Put the key-values of every range into the order of their keys ("order of keys whose sort field is
    equal").

    That Kvorum's own order is the one asked for is shown by ``tests/apply/test_range.py``.
    """
    for part in walk(message):
        for field, value in part.ListFields():
            if field.name == "kvs":
                value.sort(key=lambda kv: kv.key)


def without_order_of_lease_keys(message: Message) -> None:
    """Sort the keys of a lease ("order of a lease's keys")."""
    if isinstance(message, pb.LeaseTimeToLiveResponse):
        message.keys.sort()


def without_order_among_equal_ttls(message: Message, ttls: Mapping[int, int]) -> None:
    """Put leases of one TTL that are listed together into the order of their IDs ("order of leases whose ends
    are less than a millisecond apart"); ``ttls`` are those granted, by ID.
    """
    if isinstance(message, pb.LeaseLeasesResponse):
        runs = groupby((lease.ID for lease in message.leases), key=lambda lease: ttls.get(lease, 0))
        ordered = [lease for _, run in runs for lease in sorted(run)]
        del message.leases[:]
        message.leases.extend(pb.LeaseStatus(ID=lease) for lease in ordered)


def without_chosen_leases(message: Message, given: Collection[int]) -> None:
    """Replace lease IDs that a server chose itself: they are made of its member's ID and the time."""
    if isinstance(message, pb.LeaseGrantResponse) and message.ID not in given:
        assert message.ID > 0, "a lease that a server chooses is positive"
        message.ID = CHOSEN_LEASE
    elif isinstance(message, pb.LeaseLeasesResponse):
        for lease in message.leases:
            if lease.ID not in given:
                lease.ID = CHOSEN_LEASE


def without_passing_time(message: Message, elapsed_seconds: float) -> None:
    """Replace a remaining time by what is left at first, if it may be what is left after at most so long."""
    if isinstance(message, pb.LeaseTimeToLiveResponse) and message.grantedTTL:
        left = message.grantedTTL - message.TTL
        # Both truncate what remains, and some time has always passed.
        if 1 <= left <= elapsed_seconds + 2:
            message.TTL = message.grantedTTL - 1


def refusal_of_body(code: str) -> tuple[str, str]:
    """A body that is no message: the code counts, the decoder's words do not ("words about a body that is
    no message").
    """
    return code, "unreadable"


def of_lost_place(answer: object, *, key_exists: bool) -> object:
    """What a Lock or Campaign answered that waited until its own key was gone, or was made anew by others.

    etcd tells a campaigner that it leads, and one who locks that it holds the lock if there is a key of that
    name again; Kvorum refuses both ("a wait whose own key was deleted").
    """
    if isinstance(answer, CampaignResponse) or answer == ("UNKNOWN", "election: not leader"):
        return "lost its place"
    if key_exists and (
        isinstance(answer, LockResponse) or answer == ("UNKNOWN", "mutex: session is expired")
    ):
        return "lost its place"
    return answer


REVISIONS: Final = frozenset(
    (
        "revision",
        "min_mod_revision",
        "max_mod_revision",
        "min_create_revision",
        "max_create_revision",
        "create_revision",
        "mod_revision",
        "start_revision",
        "rev",
    )
)


def shifted(request: Message, base: int) -> Any:
    """Return a copy of the request with every positive revision in it moved by ``base``."""
    copy = type(request)()
    copy.CopyFrom(request)
    _each_revision(copy, lambda revision: revision + base if revision > 0 else revision)
    return copy


def _each_revision(message: Message, change: Callable[[int], int]) -> None:
    for part in walk(message):
        for field, value in part.ListFields():
            if field.name in REVISIONS and field.message_type is None:
                setattr(part, field.name, change(value))
