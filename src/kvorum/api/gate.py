"""The gate: what each call needs, for all APIs and ports, and whether whoever makes it has that.

``RPC_RULES`` and ``ROUTE_RULES`` name every method and every route. A method without a rule cannot be
registered, and a test walks all ports, so nothing can be added and forgotten. While permissions are not
checked this costs one look at ``users.enabled``.

There are two user bases, as in etcd. That of v3 decides here: a call shows a token, or the certificate of its
connection. What needs no key is decided before the method runs; keys are checked where they are known, by the
same ``users``, and for what goes through the log once more when it is applied (``apply/auth.py``). That of v2
is kept in its own tree and asked by the handlers of ``api/v2`` (``Access``), route by route as the rules say.

The rules are those of etcd 3.7.1: 3.5.1 answered MemberList, Status, Alarm and the calls of leases to
everybody, and let every user compact, move the leader and raise alarms (CVE-2026-33413).
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Final, final

from kvorum import errors
from kvorum.apply.auth import refuses_txn
from kvorum.apply.txn import OpenedTxn
from kvorum.auth.identity import NOBODY, Identity
from kvorum.auth.store import AuthStore
from kvorum.errors import EtcdError
from kvorum.logging import Logger
from kvorum.rpc.grpc import StreamCall, UnaryCall
from kvorum.server.auth import Auth
from kvorum.server.node import Node

_COMMON_NAME: Final = "common_name"
"""What a connection tells of its client's certificate, with ``--client-cert-auth`` (``tls/identity.py``)."""
OPEN: Final = "open"
"""Everybody may: it is how one logs in, or says nothing of the data."""
USER: Final = "user"
"""Any user may; what more it takes is looked at where the call is understood."""
KEYS: Final = "keys"
"""A user, with the permissions for the keys that the call is about."""
INNER_KEYS: Final = "inner keys"
"""The same, for services that are clients of the others: errors lose their code on the way, as in etcd."""
STREAM_KEYS: Final = "stream keys"
"""The same, but what is refused is refused in the stream, for each request of it."""
ROOT: Final = "root"
"""A user with the role root."""
V2_KEYS: Final = "v2 keys"
"""Users of v2 and guests, by their roles' paths."""
V2_ROOT: Final = "v2 root"
"""What changes something takes v2's root; listing members and asking whether users are on are free."""
PEERS: Final = "peers"
"""For other members: whoever may connect to the peer port (``--peer-client-cert-auth``)."""

_CLUSTER: Final = "/etcdserverpb.Cluster/"
_LEASE: Final = "/etcdserverpb.Lease/"
_MAINTENANCE: Final = "/etcdserverpb.Maintenance/"
_AUTH: Final = "/etcdserverpb.Auth/"
_ELECTION: Final = "/v3electionpb.Election/"

RPC_RULES: Final[dict[str, str]] = {
    "/etcdserverpb.KV/Range": KEYS,
    "/etcdserverpb.KV/RangeStream": STREAM_KEYS,
    "/etcdserverpb.KV/Put": KEYS,
    "/etcdserverpb.KV/DeleteRange": KEYS,
    "/etcdserverpb.KV/Txn": KEYS,
    "/etcdserverpb.KV/Compact": ROOT,
    "/etcdserverpb.Watch/Watch": STREAM_KEYS,
    _LEASE + "LeaseGrant": USER,
    _LEASE + "LeaseRevoke": KEYS,
    _LEASE + "LeaseKeepAlive": USER,
    _LEASE + "LeaseTimeToLive": USER,
    _LEASE + "LeaseLeases": USER,
    _CLUSTER + "MemberAdd": ROOT,
    _CLUSTER + "MemberRemove": ROOT,
    _CLUSTER + "MemberUpdate": ROOT,
    _CLUSTER + "MemberPromote": ROOT,
    _CLUSTER + "MemberList": USER,
    _MAINTENANCE + "Alarm": USER,
    _MAINTENANCE + "Status": USER,
    _MAINTENANCE + "Defragment": ROOT,
    _MAINTENANCE + "Hash": ROOT,
    _MAINTENANCE + "HashKV": ROOT,
    _MAINTENANCE + "Snapshot": ROOT,
    _MAINTENANCE + "MoveLeader": ROOT,
    _MAINTENANCE + "Downgrade": ROOT,
    _AUTH + "AuthEnable": ROOT,
    _AUTH + "AuthDisable": ROOT,
    _AUTH + "AuthStatus": ROOT,
    _AUTH + "Authenticate": OPEN,
    _AUTH + "UserAdd": ROOT,
    _AUTH + "UserGet": USER,
    _AUTH + "UserList": ROOT,
    _AUTH + "UserDelete": ROOT,
    _AUTH + "UserChangePassword": ROOT,
    _AUTH + "UserGrantRole": ROOT,
    _AUTH + "UserRevokeRole": ROOT,
    _AUTH + "RoleAdd": ROOT,
    _AUTH + "RoleGet": USER,
    _AUTH + "RoleList": ROOT,
    _AUTH + "RoleDelete": ROOT,
    _AUTH + "RoleGrantPermission": ROOT,
    _AUTH + "RoleRevokePermission": ROOT,
    "/v3lockpb.Lock/Lock": INNER_KEYS,
    "/v3lockpb.Lock/Unlock": INNER_KEYS,
    _ELECTION + "Campaign": INNER_KEYS,
    _ELECTION + "Proclaim": INNER_KEYS,
    _ELECTION + "Leader": INNER_KEYS,
    _ELECTION + "Observe": STREAM_KEYS,
    _ELECTION + "Resign": INNER_KEYS,
    "/grpc.health.v1.Health/Check": OPEN,
    "/grpc.health.v1.Health/List": OPEN,
    "/grpc.health.v1.Health/Watch": OPEN,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": OPEN,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": OPEN,
}
"""By path, "/service/method"."""

ROUTE_RULES: Final[dict[str, str]] = {
    "/v2/keys": V2_KEYS,
    "/v2/keys/": V2_KEYS,
    "/v2/auth/users": V2_ROOT,
    "/v2/auth/users/": V2_ROOT,
    "/v2/auth/roles": V2_ROOT,
    "/v2/auth/roles/": V2_ROOT,
    "/v2/auth/enable": V2_ROOT,
    "/v2/members": V2_ROOT,
    "/v2/members/": V2_ROOT,
    "/v2/machines": OPEN,
    "/v2/stats/store": OPEN,
    "/v2/stats/self": OPEN,
    "/v2/stats/leader": OPEN,
    "/new": OPEN,
    "/": OPEN,  # with /new the discovery service, where it is switched on: a token is all that it asks
    "/version": OPEN,
    "/metrics": OPEN,
    "/health": OPEN,
    "/livez": OPEN,
    "/readyz": OPEN,
    "/livez/": OPEN,
    "/readyz/": OPEN,
    "/members": PEERS,
    "/members/": PEERS,
    "/leases": PEERS,
    "/leases/": PEERS,
    "/downgrade/enabled": PEERS,
    "/raft": PEERS,
    "/raft/": PEERS,
}
"""By path; one that ends with a slash is for all paths below that have no rule of their own."""

_WATCH_REASONS: Final = frozenset(
    {errors.ERR_INVALID_AUTH_TOKEN, errors.ERR_AUTH_OLD_REVISION, errors.ERR_USER_EMPTY}
)


def rule_of_route(path: str) -> str | None:
    """The rule of an HTTP route, None if it has none."""
    rule = ROUTE_RULES.get(path)
    if rule is not None:
        return rule
    above = path.rstrip("/")
    while above := above.rpartition("/")[0]:
        rule = ROUTE_RULES.get(above + "/")
        if rule is not None:
            return rule
    return None


class NotYetKnownError(Exception):
    """The call's token is of a log entry that this member has not applied yet."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index: Final = index


@final
class Gate:
    """Who makes a call, and whether they may.

    What raises an EtcdError refuses: ERR_USER_EMPTY, ERR_INVALID_AUTH_TOKEN, ERR_AUTH_OLD_REVISION,
    ERR_USER_NOT_FOUND, ERR_PERMISSION_DENIED. Nothing is refused while ``users`` are not enabled, but asking
    takes time: look at ``users.enabled`` first.
    """

    __slots__ = ("_auth", "_by_certificate", "_log", "_node", "_quiet_until", "users")

    def __init__(self, node: Node, log: Logger, *, by_certificate: bool = False) -> None:
        """``by_certificate``: a client's certificate names its user (``--client-cert-auth``)."""
        self.users: Final[AuthStore] = node.auth.store
        self._auth: Final[Auth] = node.auth
        self._node: Final = node
        self._log: Final = log
        self._by_certificate: Final = by_certificate
        self._quiet_until = 0.0

    # --- who ----------------------------------------------------------------------------------------------

    def when_applied(self, index: int, work: Callable[[], None]) -> bool:
        """Do ``work`` when a call's token may be known (``Auth.when_applied``); False: it is not done."""
        return self._auth.when_applied(index, work)

    def who(self, call: UnaryCall | StreamCall, *, final: bool = True) -> Identity:
        """Who makes a call; NOBODY if it does not say. Not ``final``: its token may be of an entry to come.

        Raises:
            NotYetKnownError: it is, and the call has to wait.
        """
        if not self.users.enabled:
            return NOBODY
        shown = _token_of(call.request.fields)
        if shown is None:
            return self._certified(call) if self._by_certificate else NOBODY
        token = shown.removeprefix("Bearer ")
        tokens = self._auth.tokens
        found = tokens.identify(token, self.users.revision)
        if found is not None:
            return found
        index = tokens.index_of(token)
        if not final and index > self._node.applied_index:
            raise NotYetKnownError(index)
        self._say_invalid(token, call)
        raise errors.ERR_INVALID_AUTH_TOKEN

    def _certified(self, call: UnaryCall | StreamCall) -> Identity:
        """The user that the connection's certificate names. A gateway's names the gateway, and so nobody."""
        if any(name == "grpcgateway-accept" for name, _ in call.request.fields):
            return NOBODY
        name = call.connection.extra_info(_COMMON_NAME)
        return NOBODY if name is None else Identity(name, self.users.revision)

    def _say_invalid(self, token: str, call: UnaryCall | StreamCall) -> None:
        """Log it, once in a second, without the token: what it hashes to tells as much."""
        now = self._node.timers.time()
        if now >= self._quiet_until:
            self._quiet_until = now + 1
            fingerprint = sha256(token.encode("latin-1", "replace")).hexdigest()[:12]
            self._log.warn("invalid auth token", {"token-fingerprint": fingerprint, "remote-addr": call.peer})

    def entry(self, call: UnaryCall | StreamCall) -> bytes:
        """Who makes a call, as its log entry says it; nobody gets into the log while users are enabled."""
        if not self.users.enabled:
            return b""
        who = self.who(call)
        if not who.revision:
            raise errors.ERR_USER_EMPTY
        return who.encode()

    # --- what they may --------------------------------------------------------------------------------------

    def check(self, rule: str, call: UnaryCall | StreamCall, *, final: bool = False) -> None:
        """Refuse a call that its rule refuses whatever it is about.

        Raises:
            EtcdError: it does.
            NotYetKnownError: that cannot be said yet.
        """
        if rule == OPEN:
            return
        who = self.who(call, final=final)
        if rule == ROOT:
            _raise(self.users.refuses_admin(who))
        elif not who.revision:
            raise errors.ERR_USER_EMPTY

    def check_root(self, call: UnaryCall | StreamCall) -> None:
        """Refuse what only root may."""
        _raise(self.users.refuses_admin(self.who(call)))

    def check_range(self, call: UnaryCall | StreamCall, key: bytes, range_end: bytes) -> None:
        """Refuse a read of the store as it stands in this turn of the loop."""
        who = self.who(call)
        _raise(self.users.refuses_read(who, key, range_end))
        self.check_current(who)

    def check_txn(self, call: UnaryCall, opened: OpenedTxn) -> None:
        """Refuse a transaction that only reads, as the store stands in this turn of the loop."""
        who = self.who(call)
        _raise(refuses_txn(self.users, self._node.lessor, who, opened))
        self.check_current(who)

    def check_current(self, who: Identity) -> None:
        """Refuse who was looked up at another revision of users and roles than this member's."""
        if who.revision and who.revision != self.users.revision and self.users.enabled:
            raise errors.ERR_AUTH_OLD_REVISION

    def refuses_watch(self, call: StreamCall, key: bytes, range_end: bytes) -> str | None:
        """Why a watch is not created, as its answer says it; None if it is.

        The range is checked as the client asked for it. What etcd made of an open end before it checked
        looked like a single key (GHSA-xg4h-6gfc-h4m8).
        """
        try:
            refused = self.users.refuses_read(self.who(call), key or b"\0", range_end)
        except EtcdError as invalid:
            refused = invalid.forget()
        if refused is None:
            return None
        told = refused if refused in _WATCH_REASONS else errors.ERR_PERMISSION_DENIED
        return f"rpc error: code = {errors.CODE_NAMES[told.code]} desc = {told.message}"

    def check_renewal(self, call: StreamCall, lease_ids: list[int]) -> None:
        """Refuse to renew leases of keys that the caller may not write."""
        who = self.who(call)
        if self.users.refuses_admin(who) is None:
            return
        lessor = self._node.lessor
        for lease_id in lease_ids:
            for key in lessor.keys(lease_id):
                _raise(self.users.refuses_write(who, key))
        self.check_current(who)

    def check_lease_keys(self, call: UnaryCall, lease_ids: list[int]) -> None:
        """Refuse to tell of leases of keys that the caller may not read."""
        who = self.who(call)
        if self.users.refuses_admin(who) is None:
            return
        lessor = self._node.lessor
        for lease_id in lease_ids:
            for key in lessor.keys(lease_id):
                _raise(self.users.refuses_read(who, key))
        self.check_current(who)


def _raise(refused: EtcdError | None) -> None:
    if refused is not None:
        raise refused


def _token_of(fields: list[tuple[str, str]]) -> str | None:
    """The token in a call's metadata (etcd ``rpctypes.TokenFieldNameGRPC``, ``TokenFieldNameSwagger``)."""
    authorization = None
    for name, value in fields:
        if name == "token":
            return value
        if name == "authorization" and authorization is None:
            authorization = value
    return authorization
