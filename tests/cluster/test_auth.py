"""Users in a cluster: known to every member, whoever was asked; taken over with a snapshot."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import grpc
import pytest

from kvorum import errors
from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.rpc_pb2 import StatusRequest
from tests.auth.users import Users
from tests.cluster.conftest import Form
from tests.support import process
from tests.support.client import op_put, refused_with
from tests.support.cluster import Cluster
from tests.support.process import Member
from tests.support.waiting import wait_until

CHEAP = "--bcrypt-cost=4"


class Everywhere:
    """The users of a cluster, at each of its members."""

    def __init__(self, cluster: Cluster, stack: ExitStack) -> None:
        self.cluster = cluster
        self._stack = stack
        first = Users(cluster.members[0].endpoint)
        stack.callback(first.close)
        first.role("a", ("READWRITE", b"a", b"b"))
        first.add("root", "root")
        first.add("alice", "a")
        first.enable()
        self.first = first
        for member in cluster.members[1:]:
            wait_until(partial(self._knows, member), "permissions at every member")

    def _knows(self, member: Member) -> bool:
        """Whether a member has applied that permissions are checked (until then it looks at no token)."""
        other = Users(member.endpoint)
        try:
            other.nobody.range(b"k", serializable=True)
        except grpc.RpcError:
            return True
        finally:
            other.close()
        return False

    def at(self, number: int) -> Users:
        """With the tokens that were got at the first member."""
        users = self.first.at(self.cluster.members[number].endpoint)
        self._stack.callback(users.close)
        return users


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_a_token_is_good_at_every_member_at_once(form: Form, stack: ExitStack) -> None:
    users = Everywhere(form(3, [CHEAP]), stack)
    others = [users.at(1), users.at(2)]
    for turn in range(5):
        token = users.first.nobody.auth("Authenticate", name="alice", password="alice").token
        for other in others:
            alice = other.shows("token", token)
            key = f"a/{turn}".encode()
            alice.put(key, b"v")
            assert alice.range(key, serializable=True).kvs
            assert not alice.watch(key=b"a", range_end=b"b").canceled
            with refused_with(errors.ERR_PERMISSION_DENIED):
                alice.range(b"b", serializable=True)
    # What one member is told holds at all of them.
    root = users.first.log_in("root")
    users.first.log_in("alice")
    root.auth("RoleRevokePermission", role="a", key=b"a", range_end=b"b")
    late = users.at(2).log_in("alice")

    def denied() -> bool:
        with refused_with(errors.ERR_PERMISSION_DENIED):
            late.put(b"a/late", b"v")
        return True

    assert denied()
    root.auth("UserDelete", name="alice")
    with refused_with(errors.ERR_INVALID_AUTH_TOKEN):
        users.at(0).log_in("alice").range(b"a")


def test_leases_expire_whoever_leads_and_may(form: Form, stack: ExitStack) -> None:
    cluster = form(3, [CHEAP])
    users = Everywhere(cluster, stack)
    alice = users.first.log_in("alice")
    alice.grant(1, 5)
    alice.put(b"a/brief", b"v", lease=5)
    root = users.first.log_in("root")
    wait_until(lambda: not root.range(b"a/brief").kvs, "the end of the lease")


def test_who_comes_later_takes_users_over_with_a_snapshot(form: Form, stack: ExitStack) -> None:
    cluster = form(3, [CHEAP, "--snapshot-count=20", "--experimental-snapshot-catchup-entries=5"])
    behind = 1 if cluster.leader() is not cluster.members[1] else 2
    users = Everywhere(cluster, stack)
    cluster.members[behind].kill()
    alice = users.first.log_in("alice")
    for number in range(80):
        alice.put(b"a/%d" % number, b"v")
    root = users.first.log_in("root")
    root.auth("UserChangePassword", name="alice", password="new")
    root.auth("RoleAdd", name="late")
    users.first.log_in("alice", "new")
    cluster.members[behind].start()
    cluster.members[behind].wait_log("applied snapshot")
    late = users.at(behind)
    with refused_with(errors.ERR_USER_EMPTY):
        late.nobody.range(b"a", serializable=True)
    with refused_with(errors.ERR_AUTH_FAILED):
        late.nobody.auth("Authenticate", name="alice", password="alice")
    fresh = late.log_in("alice", "new")
    assert fresh.range(b"a/79", serializable=True).kvs
    with refused_with(errors.ERR_PERMISSION_DENIED):
        fresh.range(b"b", serializable=True)


def test_members_of_both_kinds_hold_to_the_same_users(form: Form, stack: ExitStack) -> None:
    """A cluster of two of Kvorum and one of etcd: tokens, permissions and refusals are common."""
    cluster = form([process.kvorum(), process.etcd(), process.kvorum()], [CHEAP])
    users = Everywhere(cluster, stack)
    members = [users.first, users.at(1), users.at(2)]
    for number, given in enumerate(members):
        token = given.nobody.auth("Authenticate", name="alice", password="alice").token
        for other in members:
            alice = other.shows("token", token)
            alice.put(b"a/%d" % number, b"v")
            alice.txn(op_put(b"a/t", b"v"))
            with refused_with(errors.ERR_PERMISSION_DENIED):
                alice.put(b"b", b"v")
    root = members[1].log_in("root", "root")
    root.auth("UserAdd", name="bob", password="bob")
    root.auth("UserGrantRole", user="bob", role="a")
    for other in members:
        token = other.nobody.auth("Authenticate", name="bob", password="bob").token
        other.shows("token", token).put(b"a/bob", b"v")
    revisions = {_auth_revision(users.at(number).log_in("root", "root")) for number in range(3)}
    assert len(revisions) == 1
    assert root.call("etcdserverpb.Maintenance/Status", StatusRequest(), pb.StatusResponse).leader


def _auth_revision(root: Any) -> int:
    return int(root.auth("AuthStatus").authRevision)
