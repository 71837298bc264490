"""What the formats make of answers that are not KV's: leases, alarms, memberships.

Go's client hands some of them on as structs of its own, whose JSON is not that of the message. Source of
behaviour: etcdctl ``command/printer*.go``, etcd ``client/v3/lease.go``.
"""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import Message

from kvorum.ctl.gojson import to_plain
from kvorum.golang import quote
from kvorum.proto import rpc_pb2 as pb

WITHOUT_FIELDS: Final = (
    pb.MemberAddResponse,
    pb.MemberRemoveResponse,
    pb.MemberUpdateResponse,
    pb.MemberPromoteResponse,
    pb.MoveLeaderResponse,
)
"""Answers that ``fields`` does not know."""

HEADER_ONLY: Final = (
    pb.LeaseGrantResponse,
    pb.LeaseKeepAliveResponse,
    pb.LeaseTimeToLiveResponse,
    pb.LeaseLeasesResponse,
)
"""Answers that Go's client keeps in structs around their header."""

_ALREADY_EXPIRED: Final = -1


def simple_lines(response: Message) -> Iterator[str]:
    """The lines of ``simple``."""
    if isinstance(response, pb.LeaseGrantResponse):
        yield f"lease {lease_id(response.ID)} granted with TTL({response.TTL}s)"
    elif isinstance(response, pb.LeaseKeepAliveResponse):
        yield f"lease {lease_id(response.ID)} keepalived with TTL({response.TTL})"
    elif isinstance(response, pb.LeaseLeasesResponse):
        yield f"found {len(response.leases)} leases"
        yield from (lease_id(lease.ID) for lease in response.leases)
    elif isinstance(response, pb.AlarmResponse):
        yield from map(_alarm, response.alarms)


def lease_id(number: int) -> str:
    """A lease's ID as Go prints it."""
    return f"{number:016x}"


def time_to_live(response: pb.LeaseTimeToLiveResponse, *, keys: bool) -> str:
    """What is left of a lease, for ``simple``; ``keys``: with those that are attached."""
    name = lease_id(response.ID)
    if not response.grantedTTL and response.TTL == _ALREADY_EXPIRED:
        return f"lease {name} already expired"
    text = f"lease {name} granted with TTL({response.grantedTTL}s), remaining({response.TTL}s)"
    if keys:
        attached = " ".join(key.decode("utf-8", "surrogateescape") for key in response.keys)
        text += f", attached keys([{attached}])"
    return text


def _alarm(alarm: pb.AlarmMember) -> str:
    """As Go's protobuf prints a message in one line."""
    member = f"memberID:{alarm.memberID} " if alarm.memberID else ""
    kind = f"alarm:{pb.AlarmType.Name(alarm.alarm)} " if alarm.alarm else ""
    return member + kind


def fields(response: Message) -> Iterator[tuple[str, object]]:
    """Names and values of ``fields``, behind the header; without a name: an empty line."""
    if isinstance(response, pb.LeaseGrantResponse | pb.LeaseKeepAliveResponse | pb.LeaseTimeToLiveResponse):
        yield "ID", response.ID
        yield "TTL", response.TTL
    if isinstance(response, pb.LeaseTimeToLiveResponse):
        yield "GrantedTTL", response.grantedTTL
        yield from (("Key", quote(key)) for key in response.keys)
    elif isinstance(response, pb.LeaseLeasesResponse):
        yield from (("ID", lease.ID) for lease in response.leases)
    elif isinstance(response, pb.AlarmResponse):
        for alarm in response.alarms:
            yield "MemberID", alarm.memberID
            yield "AlarmType", pb.AlarmType.Name(alarm.alarm)
            yield "", ""


def plain(response: Message) -> dict[str, Any]:
    """An answer for ``json``."""
    if not isinstance(response, HEADER_ONLY):
        return to_plain(response)
    found = to_plain(response.header)
    if isinstance(response, pb.LeaseGrantResponse):
        return found | {"ID": response.ID, "TTL": response.TTL, "Error": response.error}
    if isinstance(response, pb.LeaseKeepAliveResponse):
        return found | {"ID": response.ID, "TTL": response.TTL}
    if isinstance(response, pb.LeaseTimeToLiveResponse):
        keys = to_plain(response).get("keys")
        return found | {
            "id": response.ID,
            "ttl": response.TTL,
            "granted-ttl": response.grantedTTL,
            "keys": keys,
        }
    return found | {"leases": [{"id": lease.ID} for lease in response.leases]}


def plain_events(response: pb.WatchResponse) -> dict[str, Any]:
    """The answer of a watch for ``json``."""
    return {
        "Header": to_plain(response.header),
        "Events": [to_plain(event) for event in response.events],
        "CompactRevision": response.compact_revision,
        "Canceled": response.canceled,
        "Created": response.created,
    }
