"""Everything that can be called has a rule and is held to it: who shows nothing gets nothing, and who may
nothing gets no more than the rule says.
"""

from collections.abc import Iterator
from typing import Any, Final, cast

import grpc
import pytest
from google.protobuf.message import Message

from kvorum import errors
from kvorum.api.gate import (
    INNER_KEYS,
    KEYS,
    OPEN,
    ROOT,
    ROUTE_RULES,
    RPC_RULES,
    STREAM_KEYS,
    USER,
    V2_KEYS,
    V2_ROOT,
    rule_of_route,
)
from kvorum.proto import rpc_pb2 as pb
from kvorum.proto import v3election_pb2 as election
from kvorum.proto import v3lock_pb2 as lock
from tests.auth.users import Users, http_ask
from tests.support.inside import Inside, running_inside

LEASE: Final = 77

REQUESTS: Final[dict[str, Message]] = {
    "/etcdserverpb.KV/Range": pb.RangeRequest(key=b"k"),
    "/etcdserverpb.KV/RangeStream": pb.RangeRequest(key=b"k"),
    "/etcdserverpb.KV/Put": pb.PutRequest(key=b"k"),
    "/etcdserverpb.KV/DeleteRange": pb.DeleteRangeRequest(key=b"k"),
    "/etcdserverpb.KV/Txn": pb.TxnRequest(compare=[pb.Compare(key=b"k")]),
    "/etcdserverpb.KV/Compact": pb.CompactionRequest(revision=1),
    "/etcdserverpb.Watch/Watch": pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k")),
    "/etcdserverpb.Lease/LeaseRevoke": pb.LeaseRevokeRequest(ID=LEASE),
    "/etcdserverpb.Lease/LeaseTimeToLive": pb.LeaseTimeToLiveRequest(ID=LEASE),
    "/v3lockpb.Lock/Lock": lock.LockRequest(name=b"k", lease=LEASE),
    "/v3lockpb.Lock/Unlock": lock.UnlockRequest(key=b"k"),
    "/v3electionpb.Election/Campaign": election.CampaignRequest(name=b"k", lease=LEASE),
    "/v3electionpb.Election/Proclaim": election.ProclaimRequest(
        leader=election.LeaderKey(name=b"k", key=b"k/1", lease=LEASE, rev=1)
    ),
    "/v3electionpb.Election/Resign": election.ResignRequest(
        leader=election.LeaderKey(name=b"k", key=b"k/1", lease=LEASE, rev=1)
    ),
    "/v3electionpb.Election/Leader": election.LeaderRequest(name=b"k"),
    "/v3electionpb.Election/Observe": election.LeaderRequest(name=b"k"),
}
"""What to ask of the methods that need anything asked."""

STREAMS: Final = frozenset(
    {
        "/etcdserverpb.KV/RangeStream", "/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive",
        "/etcdserverpb.Maintenance/Snapshot", "/v3electionpb.Election/Observe",
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with running_inside(tmp_path_factory.mktemp("gate") / "d", ("--bcrypt-cost=4",)) as running:
        yield running


@pytest.fixture(scope="module")
def users(inside: Inside) -> Iterator[Users]:
    """Root, a user who may nothing, and a lease that holds a key of root's."""
    users = Users(inside.endpoint)
    users.add("root", "root")
    users.add("nothing")
    users.enable()
    root = users.log_in("root")
    root.grant(3600, LEASE)
    root.put(b"k", b"v", lease=LEASE)
    yield users
    users.close()


def test_every_method_has_a_rule(inside: Inside) -> None:
    assert set(inside.member._ports.grpc.methods.paths) <= set(RPC_RULES)


def test_every_route_of_every_port_has_a_rule(inside: Inside) -> None:
    ports = inside.member._ports
    for server in (ports.http, ports.metrics_http, ports.peer_http):
        assert [path for path in server.router.paths if rule_of_route(path) is None] == []


def test_a_method_without_a_rule_cannot_be_added(inside: Inside) -> None:
    from kvorum.api.gate import Gate
    from kvorum.api.v3.admission import Admission
    from kvorum.rpc.grpc import GrpcServer

    node = inside.node
    admission = Admission(GrpcServer(), node, node.cluster, Gate(node, inside.member.log))
    with pytest.raises(KeyError):
        admission.unary("/etcdserverpb.KV/Forgotten", lambda _call, _body: None)
    with pytest.raises(KeyError):
        admission.stream("/etcdserverpb.KV/Forgotten", cast("Any", None))


@pytest.mark.parametrize(
    ("path", "rule"),
    [("/livez/serializable_read", OPEN), ("/v2/keys/a/b", V2_KEYS), ("/nothing", None), ("/", OPEN)],
)
def test_rules_of_routes_are_for_what_is_below(path: str, rule: str | None) -> None:
    assert rule_of_route(path) == rule


Outcome = tuple[str, str]


def outcome(client: Any, path: str) -> Outcome:
    """Code and text, or ("OK", ...) with what came."""
    body = REQUESTS[path].SerializeToString() if path in REQUESTS else b""
    metadata = client.metadata
    try:
        if path in STREAMS:
            call = client.channel.stream_stream(path)(iter([body]), metadata=metadata, timeout=10)
            first: bytes | None = next(call, None)
            call.cancel()
            if path == "/etcdserverpb.Watch/Watch":
                return "OK", pb.WatchResponse.FromString(first or b"").cancel_reason
            return "OK", "nothing" if first is None else "something"
        client.channel.unary_unary(path)(body, metadata=metadata, timeout=10)
    except grpc.RpcError as refusal:
        call = cast("grpc.Call", refusal)
        return call.code().name, call.details() or ""
    return "OK", ""


def served(rule: str | None = None) -> list[str]:
    unserved = ("/etcdserverpb.Maintenance/Defragment",)
    return [
        path
        for path, its in RPC_RULES.items()
        if its != OPEN and (rule is None or its == rule) and path not in unserved
    ]


@pytest.mark.parametrize("path", served())
def test_nobody_gets_anything(users: Users, path: str) -> None:
    told = outcome(users.nobody, path)
    text = errors.ERR_USER_EMPTY.message
    if path == "/etcdserverpb.Watch/Watch":
        assert told == ("OK", f"rpc error: code = InvalidArgument desc = {text}")
    elif path == "/v3electionpb.Election/Observe":
        assert told == ("OK", "nothing")
    elif RPC_RULES[path] == INNER_KEYS:
        assert told == ("UNKNOWN", text)
    else:
        assert told == ("INVALID_ARGUMENT", text)


@pytest.mark.parametrize("path", served())
def test_a_bad_token_gets_nothing(users: Users, path: str) -> None:
    told = outcome(users.shows("token", "abcdefghijklmnop.1"), path)
    text = errors.ERR_INVALID_AUTH_TOKEN.message
    if path == "/etcdserverpb.Watch/Watch":
        assert told == ("OK", f"rpc error: code = Unauthenticated desc = {text}")
    elif path == "/v3electionpb.Election/Observe":
        assert told == ("OK", "nothing")
    else:
        assert told[1] == text


@pytest.mark.parametrize("path", [*served(ROOT), *served(KEYS), *served(INNER_KEYS), *served(STREAM_KEYS)])
def test_who_may_nothing_gets_nothing(users: Users, path: str) -> None:
    told = outcome(users.log_in("nothing"), path)
    text = errors.ERR_PERMISSION_DENIED.message
    if path == "/etcdserverpb.Watch/Watch":
        assert told == ("OK", f"rpc error: code = PermissionDenied desc = {text}")
    elif path == "/v3electionpb.Election/Observe":
        assert told == ("OK", "nothing")
    else:
        assert told == ("UNKNOWN" if RPC_RULES[path] == INNER_KEYS else "PERMISSION_DENIED", text)


@pytest.mark.parametrize("path", served(USER))
def test_any_user_gets_past_the_rule(users: Users, path: str) -> None:
    told = outcome(users.log_in("nothing"), path)
    if path.endswith(("/UserGet", "/RoleGet", "/LeaseLeases")):  # of others: looked at where it is understood
        assert told[1] == errors.ERR_PERMISSION_DENIED.message
    elif path.endswith("/LeaseKeepAlive"):
        assert told == ("OK", "something")
    else:
        assert told[0] == "OK"


def test_a_token_is_taken_from_either_field(users: Users) -> None:
    token = users.token_of("root")
    for name, value in (("token", token), ("authorization", token), ("authorization", f"Bearer {token}")):
        assert outcome(users.shows(name, value), "/etcdserverpb.KV/Range") == ("OK", "")


# --- v2 ---------------------------------------------------------------------------------------------------


def test_routes_of_v2_are_held_to_their_rules(inside: Inside) -> None:
    """With users of v2 on, and no password shown."""
    url = f"http://{inside.endpoint}"
    root = {"user": "root", "password": "r"}
    assert http_ask("PUT", f"{url}/v2/auth/users/root", json=root)[0] == 201
    assert http_ask("PUT", f"{url}/v2/auth/enable")[0] == 200
    no_guests = {"role": "guest", "revoke": {"kv": {"read": ["/*"], "write": ["/*"]}}}
    assert http_ask("PUT", f"{url}/v2/auth/roles/guest", json=no_guests, user="root:r")[0] == 200
    try:
        for path, rule in ROUTE_RULES.items():
            if rule == V2_KEYS:
                assert http_ask("GET", url + path)[0] == 401
                assert http_ask("PUT", f"{url}{path.rstrip('/')}/k", form={"value": "v"})[0] == 401
            elif rule == V2_ROOT:
                assert http_ask("DELETE" if path == "/v2/auth/enable" else "POST", url + path)[0] in (
                    401,
                    405,
                ), path
        assert http_ask("PUT", f"{url}/v2/auth/users/x", json={"user": "x", "password": "x"})[0] == 401
        assert http_ask("DELETE", f"{url}/v2/members/1")[0] == 401
    finally:
        assert http_ask("DELETE", f"{url}/v2/auth/enable", user="root:r")[0] == 200
