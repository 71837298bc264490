"""Leases over gRPC: their limits, renewals, expiry, what a restart keeps, and what many of them cost."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kvorum import errors
from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.kv_pb2 import Event
from tests.conftest import StartMember
from tests.support import process
from tests.support.client import Client, op_put, refused_with
from tests.support.etcdctl import Etcdctl
from tests.support.inside import running_inside
from tests.support.process import Member
from tests.support.streams import KeepAliveCall, WatchCall, metric

MINIMUM_TTL: Final = 2
"""With the default heartbeat and election timeout."""


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with Member(process.kvorum(), tmp_path_factory.mktemp("lease") / "m.etcd") as member:
        yield member


@pytest.fixture
def client(member: Member) -> Iterator[Client]:
    with Client(member.endpoint) as client:
        yield client


# --- requests ---------------------------------------------------------------------------------------------


def test_grant(client: Client) -> None:
    revision = client.put(b"before", b"").header.revision
    granted = client.grant(100, lease_id=0x1234)
    assert (granted.ID, granted.TTL, granted.error) == (0x1234, 100, "")
    assert granted.header.revision == revision
    assert client.grant(1).TTL == MINIMUM_TTL
    assert client.grant(-5).TTL == MINIMUM_TTL
    chosen = client.grant(100)
    assert chosen.ID > 0
    with refused_with(errors.ERR_LEASE_EXIST):
        client.grant(100, lease_id=chosen.ID)
    assert client.grant(9_000_000_000).TTL == 9_000_000_000
    with refused_with(errors.ERR_LEASE_TTL_TOO_LARGE):
        client.grant(9_000_000_001)
    assert client.grant(60, lease_id=-7).ID == -7


def test_some_of_the_ttl_has_always_passed(client: Client) -> None:
    for lease in range(1, 51):
        client.grant(600, lease_id=lease)
        assert client.time_to_live(lease).TTL == 599


def test_keys_go_with_their_lease(client: Client) -> None:
    lease = client.grant(100).ID
    other = client.grant(100).ID
    for key in (b"keys/c", b"keys/a", b"keys/b"):
        client.put(key, b"", lease=lease)
    client.put(b"keys/a", b"", lease=other)
    client.txn(success=[op_put(b"keys/d", b"", lease=lease)])
    left = client.time_to_live(lease, keys=True)
    assert (left.ID, left.grantedTTL, list(left.keys)) == (lease, 100, [b"keys/b", b"keys/c", b"keys/d"])
    assert left.TTL in (99, 100)
    assert not client.time_to_live(lease).keys
    with WatchCall(client) as watch:
        watch.create(b"keys/", b"keys0")
        revoked = client.revoke(lease)
        (response,) = [watch.take()]
        assert [(event.type, event.kv.key) for event in response.events] == [
            (Event.DELETE, b"keys/b"),
            (Event.DELETE, b"keys/c"),
            (Event.DELETE, b"keys/d"),
        ]
        assert response.header.revision == revoked.header.revision
    assert client.get(b"keys/a") == b""
    client.put(b"keys/a", b"kept")
    client.revoke(other)
    assert client.get(b"keys/a") == b"kept"


def test_what_is_not_there(client: Client) -> None:
    with refused_with(errors.ERR_LEASE_NOT_FOUND):
        client.revoke(404)
    with refused_with(errors.ERR_LEASE_NOT_FOUND):
        client.put(b"a", b"", lease=404)
    with refused_with(errors.ERR_LEASE_NOT_FOUND):
        client.txn(success=[op_put(b"a", b"", lease=404)])
    missing = client.time_to_live(404, keys=True)
    revision = client.range(b"a").header.revision
    assert missing == pb.LeaseTimeToLiveResponse(header=missing.header, ID=404, TTL=-1)
    assert missing.header.revision == revision
    with KeepAliveCall(client) as stream:
        (answer,) = stream.renew(404)
        assert answer == pb.LeaseKeepAliveResponse(header=answer.header, ID=404)
        assert answer.header.revision == revision


def test_leases_are_listed_by_expiry(start_member: StartMember) -> None:
    with Client(start_member(process.kvorum()).endpoint) as client:
        assert client.leases() == []
        for ttl, lease_id in ((300, 1), (100, -2), (200, 1 << 62)):
            client.grant(ttl, lease_id)
        assert client.leases() == [-2, 1 << 62, 1]


def test_no_space_for_a_lease(start_member: StartMember) -> None:
    with Client(start_member(process.kvorum(), flags=["--quota-backend-bytes=1"]).endpoint) as client:
        with refused_with(errors.ERR_NO_SPACE):
            client.grant(100)
        assert client.leases() == []


# --- renewing and expiring --------------------------------------------------------------------------------


def test_a_renewed_lease_lives_and_an_expired_one_takes_its_keys(client: Client) -> None:
    kept, left = client.grant(MINIMUM_TTL).ID, client.grant(MINIMUM_TTL).ID
    client.put(b"expiry/kept", b"", lease=kept)
    client.put(b"expiry/left", b"", lease=left)
    with KeepAliveCall(client) as stream, WatchCall(client) as watch:
        watch.create(b"expiry/", b"expiry0", prev_kv=True)
        begun = time.monotonic()
        while client.get(b"expiry/left") is not None:
            assert [answer.TTL for answer in stream.renew(kept)] == [MINIMUM_TTL]
        assert time.monotonic() - begun > MINIMUM_TTL - 0.5, "too early"
        event = watch.events(1)[0]
        assert (event.type, event.kv.key, event.prev_kv.lease) == (Event.DELETE, b"expiry/left", left)
        assert [answer.TTL for answer in stream.renew(kept, left)] == [MINIMUM_TTL, 0]
        assert client.get(b"expiry/kept") == b""
        client.revoke(kept)


def test_keepalives_are_answered_in_order_however_many_come_at_once(client: Client) -> None:
    ids = [client.grant(1000 + n).ID for n in range(20)]
    with KeepAliveCall(client) as stream:
        answers = stream.renew(*(ids[n % 20] for n in range(3000)))
        assert [answer.TTL for answer in answers] == [1000 + n % 20 for n in range(3000)]
        assert [answer.ID for answer in answers] == [ids[n % 20] for n in range(3000)]
        stream.half_close()
        with pytest.raises(StopIteration):
            stream.take()
    for lease_id in ids:
        client.revoke(lease_id)


# --- over restarts ----------------------------------------------------------------------------------------


def test_a_restart_keeps_leases_and_their_keys(member: Member) -> None:
    with Client(member.endpoint) as client:
        lease = client.grant(1000).ID
        client.put(b"restart/a", b"", lease=lease)
        member.kill()
        member.start()
        assert lease in client.leases()
        left = client.time_to_live(lease, keys=True)
        assert (left.grantedTTL, list(left.keys)) == (1000, [b"restart/a"])
        client.revoke(lease)
        assert client.get(b"restart/a") is None


def test_a_restart_keeps_what_is_left_of_a_lease(tmp_path: Path) -> None:
    """By a checkpoint, made every five minutes; a renewal after it takes it back, in the log as well."""
    with running_inside(tmp_path / "m.etcd") as inside, Client(inside.endpoint) as client:
        forgotten, renewed = client.grant(1000).ID, client.grant(1000).ID
        client.put(b"a", b"", lease=forgotten)
        inside.skip(400)
        assert client.time_to_live(forgotten).TTL in (598, 599, 600)
        with KeepAliveCall(client) as stream:
            assert [answer.TTL for answer in stream.renew(renewed, renewed)] == [1000, 1000]
    with running_inside(tmp_path / "m.etcd") as inside, Client(inside.endpoint) as client:
        left = client.time_to_live(forgotten, keys=True)
        assert 590 <= left.TTL <= 605, "what was left, and an election"
        assert (left.grantedTTL, list(left.keys)) == (1000, [b"a"])
        assert client.time_to_live(renewed).TTL >= 995
        inside.skip(700)
        assert client.get(b"a") is None
        assert client.leases() == [renewed]


# --- many -------------------------------------------------------------------------------------------------


def test_ten_thousand_leases_that_expire_together_do_not_stall_puts(start_member: StartMember) -> None:
    """Puts go on between their revocations, which come no faster than a thousand in a second."""
    count = 10_000
    member = start_member(process.kvorum())
    with Client(member.endpoint) as client:
        grant = client.channel.unary_unary(
            "/etcdserverpb.Lease/LeaseGrant",
            request_serializer=pb.LeaseGrantRequest.SerializeToString,
            response_deserializer=pb.LeaseGrantResponse.FromString,
        )
        granted = [grant.future(pb.LeaseGrantRequest(TTL=6, ID=n + 1), timeout=60) for n in range(count)]
        assert all(call.result().TTL == 6 for call in granted)
        puts_between: list[int] = []
        left = count
        while left:
            for _ in range(20):
                client.put(b"beside", b"")
            now = len(client.leases())
            if now != left:
                puts_between.append(left - now)
                left = now
        # Had they all gone at once, this would be one number; each is what went while twenty puts were done.
        assert max(puts_between) < count / 5
        assert metric(member.url, "etcd_debugging_server_lease_expired_total") == count


# --- etcdctl ----------------------------------------------------------------------------------------------


def test_etcdctl(member: Member) -> None:
    tool = Etcdctl(member.endpoint)
    granted = tool.run("lease", "grant", "500").stdout.split()
    lease = granted[1]
    assert granted == ["lease", lease, "granted", "with", "TTL(500s)"]
    tool.run("put", "ctl", "1", f"--lease={lease}")
    left = tool.run("lease", "timetolive", lease, "--keys").stdout
    assert left.startswith(f"lease {lease} granted with TTL(500s), remaining(")
    assert left.endswith("attached keys([ctl])\n")
    assert lease in tool.run("lease", "list").stdout.splitlines()
    assert (
        tool.run("lease", "keep-alive", "--once", lease).stdout == f"lease {lease} keepalived with TTL(500)\n"
    )
    assert tool.run("lease", "revoke", lease).stdout == f"lease {lease} revoked\n"
    assert tool.run("get", "ctl").stdout == ""
    assert tool.run("lease", "timetolive", lease).stdout == f"lease {lease} already expired\n"
    gone = tool.run("lease", "keep-alive", lease, check=False)
    assert gone.stdout == f"lease {lease} expired or revoked.\n"
    refused = tool.run("lease", "revoke", lease, check=False)
    assert refused.status != 0
    assert "etcdserver: requested lease not found" in refused.stderr
