"""The auth side of apply: who may what is asked again when an entry is applied, and users change here alone.

Between asking for something and its entry being applied permissions may be taken away, so the entry carries
who asked and the revision of users and roles at that time, and every member decides alike. Source: etcd
``server/etcdserver/apply_auth.go`` as of 3.7.1, whose fixes are named where they are made; ``apply.go``.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Any, Final, Protocol, final

from kvorum import errors
from kvorum.apply import txn
from kvorum.apply.txn import OpenedTxn, Operation
from kvorum.auth import identity
from kvorum.auth.identity import Identity
from kvorum.auth.store import ERR_NO_PASSWORD_USER, ROOT, AuthStore
from kvorum.auth.tokens import TokenProvider
from kvorum.errors import EtcdError
from kvorum.logging import Logger
from kvorum.proto.auth_pb2 import Permission, UserAddOptions
from kvorum.proto.raft_internal_pb2 import InternalAuthenticateRequest
from kvorum.proto.rpc_pb2 import (
    AuthenticateResponse,
    AuthRoleAddRequest,
    AuthRoleDeleteRequest,
    AuthRoleGetRequest,
    AuthRoleGetResponse,
    AuthRoleGrantPermissionRequest,
    AuthRoleListResponse,
    AuthRoleRevokePermissionRequest,
    AuthStatusResponse,
    AuthUserAddRequest,
    AuthUserChangePasswordRequest,
    AuthUserDeleteRequest,
    AuthUserGetRequest,
    AuthUserGetResponse,
    AuthUserGrantRoleRequest,
    AuthUserListResponse,
    AuthUserRevokeRoleRequest,
    DeleteRangeRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)

# Field numbers of etcdserverpb.InternalRaftRequest.
_RANGE: Final = 3
_PUT: Final = 4
_DELETE_RANGE: Final = 5
_TXN: Final = 6
_LEASE_REVOKE: Final = 9
AUTH_ENABLE: Final = 1000
AUTH_DISABLE: Final = 1011
AUTHENTICATE: Final = 1012
AUTH_STATUS: Final = 1013
AUTH_USER_ADD: Final = 1100
AUTH_USER_DELETE: Final = 1101
AUTH_USER_GET: Final = 1102
AUTH_USER_CHANGE_PASSWORD: Final = 1103
AUTH_USER_GRANT_ROLE: Final = 1104
AUTH_USER_REVOKE_ROLE: Final = 1105
AUTH_USER_LIST: Final = 1106
AUTH_ROLE_LIST: Final = 1107
AUTH_ROLE_ADD: Final = 1200
AUTH_ROLE_DELETE: Final = 1201
AUTH_ROLE_GET: Final = 1202
AUTH_ROLE_GRANT_PERMISSION: Final = 1203
AUTH_ROLE_REVOKE_PERMISSION: Final = 1204

_NEED_ADMIN: Final = frozenset(
    {
        AUTH_ENABLE, AUTH_DISABLE, AUTH_STATUS, AUTH_USER_ADD, AUTH_USER_DELETE, AUTH_USER_CHANGE_PASSWORD,
        AUTH_USER_GRANT_ROLE, AUTH_USER_REVOKE_ROLE, AUTH_USER_LIST, AUTH_ROLE_LIST, AUTH_ROLE_ADD,
        AUTH_ROLE_DELETE, AUTH_ROLE_GRANT_PERMISSION, AUTH_ROLE_REVOKE_PERMISSION,
    }
)  # fmt: skip
"""What only the role root may (etcd ``needAdminPermission``; AuthStatus as in 3.5)."""


class Keyed(Protocol):
    """The keys that leases hold (``lease.Lessor``)."""

    def __contains__(self, lease_id: int, /) -> bool:
        """Whether the lease exists."""

    def keys(self, lease_id: int, /) -> list[bytes]:
        """The keys of a lease."""


@final
class AskedHere:
    """Goes along with an Authenticate as what was parsed of it: who proposes it wants the token."""


ASKED_HERE: Final = AskedHere()


@final
class AuthApplier:
    """Applies the requests of the Auth service, and refuses others to who may not.

    ``revision`` and ``index`` say where the store and the log stand; ``hash_password`` is bcrypt, for entries
    of members before 3.5, which carry passwords.
    """

    def __init__(
        self,
        store: AuthStore,
        tokens: TokenProvider,
        leases: Keyed,
        *,
        revision: Callable[[], int],
        index: Callable[[], int],
        hash_password: Callable[[bytes], bytes],
        log: Logger,
    ) -> None:
        self.store: Final = store
        self._tokens: Final = tokens
        self._leases: Final = leases
        self._revision: Final = revision
        self._index: Final = index
        self._hash_password: Final = hash_password
        self._log: Final = log
        self._refusals: Final[dict[int, Callable[[Identity, bytes, Any], EtcdError | None]]] = {
            _RANGE: self._range,
            _PUT: self._put,
            _DELETE_RANGE: self._delete_range,
            _TXN: self._txn,
            _LEASE_REVOKE: self._lease_revoke,
            AUTH_USER_GET: self._user_get_refused,
            AUTH_ROLE_GET: self._role_get_refused,
        }
        self.operations: Final[dict[int, Callable[[bytes, object], tuple[int, bytes]]]] = {
            AUTH_ENABLE: self._enable,
            AUTH_DISABLE: self._disable,
            AUTHENTICATE: self._authenticate,
            AUTH_STATUS: self._status,
            AUTH_USER_ADD: self._user_add,
            AUTH_USER_DELETE: self._user_delete,
            AUTH_USER_GET: self._user_get,
            AUTH_USER_CHANGE_PASSWORD: self._user_change_password,
            AUTH_USER_GRANT_ROLE: self._user_grant_role,
            AUTH_USER_REVOKE_ROLE: self._user_revoke_role,
            AUTH_USER_LIST: self._user_list,
            AUTH_ROLE_LIST: self._role_list,
            AUTH_ROLE_ADD: self._role_add,
            AUTH_ROLE_DELETE: self._role_delete,
            AUTH_ROLE_GET: self._role_get,
            AUTH_ROLE_GRANT_PERMISSION: self._role_grant_permission,
            AUTH_ROLE_REVOKE_PERMISSION: self._role_revoke_permission,
        }
        """By field number: what applying gives, a revision for the header and the response after it."""

    # --- may they -----------------------------------------------------------------------------------------

    def refusal(self, number: int, body: bytes, parsed: object, who: bytes) -> EtcdError | None:
        """Why the entry of one who may not is not applied; None if it is.

        Asked while permissions are checked. ``who`` is an encoded ``Identity``.
        """
        asking = identity.decode(who)
        if number in _NEED_ADMIN:
            return self.store.refuses_admin(asking)
        refuses = self._refusals.get(number)
        return None if refuses is None else refuses(asking, body, parsed)

    def _range(self, who: Identity, body: bytes, _parsed: object) -> EtcdError | None:
        request = RangeRequest.FromString(body)
        return self.store.refuses_read(who, request.key, request.range_end)

    def _put(self, who: Identity, body: bytes, parsed: object) -> EtcdError | None:
        request = parsed if isinstance(parsed, PutRequest) else PutRequest.FromString(body)
        return refuses_put(self.store, self._leases, who, request)

    def _delete_range(self, who: Identity, body: bytes, _parsed: object) -> EtcdError | None:
        request = DeleteRangeRequest.FromString(body)
        refused = self.store.refuses_write(who, request.key, request.range_end)
        if refused is None and request.prev_kv:
            return self.store.refuses_read(who, request.key, request.range_end)
        return refused

    def _txn(self, who: Identity, body: bytes, parsed: object) -> EtcdError | None:
        opened = parsed if isinstance(parsed, OpenedTxn) else OpenedTxn(TxnRequest.FromString(body))
        return refuses_txn(self.store, self._leases, who, opened)

    def _lease_revoke(self, who: Identity, body: bytes, _parsed: object) -> EtcdError | None:
        return refuses_lease(self.store, self._leases, who, LeaseRevokeRequest.FromString(body).ID)

    def _user_get_refused(self, who: Identity, body: bytes, _parsed: object) -> EtcdError | None:
        """Users may look at themselves."""
        refused = self.store.refuses_admin(who)
        if refused is not None and AuthUserGetRequest.FromString(body).name == who.username:
            return None
        return refused

    def _role_get_refused(self, who: Identity, body: bytes, _parsed: object) -> EtcdError | None:
        """Users may look at the roles they have."""
        refused = self.store.refuses_admin(who)
        if refused is not None and self.store.has_role(
            who.username, AuthRoleGetRequest.FromString(body).role
        ):
            return None
        return refused

    # --- on and off ---------------------------------------------------------------------------------------

    def _enable(self, _body: bytes, _parsed: object) -> tuple[int, bytes]:
        if self.store.enable():
            self._log.info("enabled authentication")
        else:
            self._log.info("authentication is already enabled; ignored auth enable request")
        return self._revision(), b""

    def _disable(self, _body: bytes, _parsed: object) -> tuple[int, bytes]:
        if self.store.disable():
            self._tokens.forget_all()
            self._log.info("disabled authentication")
        return self._revision(), b""

    def _status(self, _body: bytes, _parsed: object) -> tuple[int, bytes]:
        store = self.store
        response = AuthStatusResponse(enabled=store.enabled, authRevision=store.revision)
        return self._revision(), response.SerializeToString()

    def _authenticate(self, body: bytes, parsed: object) -> tuple[int, bytes]:
        """Give out a token. The password was found right before the entry was made, and is not in it."""
        request = InternalAuthenticateRequest.FromString(body)
        if not self.store.enabled:
            raise errors.ERR_AUTH_NOT_ENABLED
        user = self.store.user(request.name)
        if user is None or user.options.no_password:
            raise errors.ERR_AUTH_FAILED
        token = self._tokens.assign(
            request.name,
            self.store.revision,
            request.simple_token,
            self._index(),
            asked_here=parsed is ASKED_HERE,
        )
        self._log.debug("authenticated a user", user_name=request.name)
        return self._revision(), AuthenticateResponse(token=token).SerializeToString()

    # --- users --------------------------------------------------------------------------------------------

    def _password(self, password: str, hashed: str) -> bytes:
        """The hash to keep; the password itself comes only from members before 3.5.

        Raises:
            EtcdError: ERR_NO_PASSWORD_USER: what should be a hash in base64 is none.
        """
        if password and not hashed:
            return self._hash_password(password.encode())
        try:
            return b64decode(hashed.replace("\r", "").replace("\n", ""), validate=True)
        except (Base64Error, ValueError):
            raise ERR_NO_PASSWORD_USER from None

    def _user_add(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = AuthUserAddRequest.FromString(body)
        store = self.store
        options: UserAddOptions | None = request.options if request.HasField("options") else None
        if not request.name:
            raise errors.ERR_USER_EMPTY
        if store.user(request.name) is not None:
            raise errors.ERR_USER_ALREADY_EXIST
        has_password = options is None or not options.no_password
        hashed = self._password(request.password, request.hashedPassword) if has_password else b""
        store.add_user(request.name, hashed, options)
        self._log.info("added a user", user_name=request.name)
        return self._revision(), b""

    def _user_delete(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = AuthUserDeleteRequest.FromString(body)
        if self.store.enabled and request.name == ROOT:
            self._log.error("cannot delete 'root' user", user_name=request.name)
        user = self.store.delete_user(request.name)
        self._tokens.forget_user(request.name)
        self._log.info("deleted a user", user_name=request.name, user_roles=list(user.roles))
        return self._revision(), b""

    def _user_change_password(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = AuthUserChangePasswordRequest.FromString(body)
        user = self.store.known_user(request.name)
        no_password = user.options.no_password
        hashed = b"" if no_password else self._password(request.password, request.hashedPassword)
        self.store.change_password(request.name, hashed)
        self._tokens.forget_user(request.name)
        self._log.info("changed a password of a user", user_name=request.name, user_roles=list(user.roles))
        return self._revision(), b""

    def _user_get(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        user = self.store.known_user(AuthUserGetRequest.FromString(body).name)
        return self._revision(), AuthUserGetResponse(roles=user.roles).SerializeToString()

    def _user_list(self, _body: bytes, _parsed: object) -> tuple[int, bytes]:
        names = [user.name.decode() for user in self.store.users()]
        return self._revision(), AuthUserListResponse(users=names).SerializeToString()

    def _user_grant_role(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = AuthUserGrantRoleRequest.FromString(body)
        if self.store.grant_role(request.user, request.role):
            self._log.info("granted a role to a user", user_name=request.user, added_role_name=request.role)
        else:
            self._log.warn(
                "ignored grant role request to a user",
                user_name=request.user,
                duplicate_role_name=request.role,
            )
        return self._revision(), b""

    def _user_revoke_role(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = AuthUserRevokeRoleRequest.FromString(body)
        if self.store.enabled and request.name == request.role == ROOT:
            self._log.error(
                "'root' user cannot revoke 'root' role", user_name=request.name, role_name=request.role
            )
        self.store.revoke_role(request.name, request.role)
        self._log.info("revoked a role from a user", user_name=request.name, revoked_role_name=request.role)
        return self._revision(), b""

    # --- roles --------------------------------------------------------------------------------------------

    def _role_add(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = AuthRoleAddRequest.FromString(body)
        self.store.add_role(request.name)
        self._log.info("created a role", role_name=request.name)
        return self._revision(), b""

    def _role_delete(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = AuthRoleDeleteRequest.FromString(body)
        if self.store.enabled and request.role == ROOT:
            self._log.error("cannot delete 'root' role", role_name=request.role)
        self.store.delete_role(request.role)
        self._log.info("deleted a role", role_name=request.role)
        return self._revision(), b""

    def _role_get(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        role = self.store.known_role(AuthRoleGetRequest.FromString(body).role)
        return self._revision(), AuthRoleGetResponse(perm=role.keyPermission).SerializeToString()

    def _role_list(self, _body: bytes, _parsed: object) -> tuple[int, bytes]:
        names = [role.name.decode() for role in self.store.roles()]
        return self._revision(), AuthRoleListResponse(roles=names).SerializeToString()

    def _role_grant_permission(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = AuthRoleGrantPermissionRequest.FromString(body)
        if not request.HasField("perm"):
            raise errors.ERR_PERMISSION_NOT_GIVEN
        self.store.grant_permission(request.name, request.perm)
        kind = request.perm.permType
        known = Permission.Type.Name(kind) if kind in Permission.Type.values() else ""
        self._log.info(
            "granted/updated a permission to a user", user_name=request.name, permission_name=known
        )
        return self._revision(), b""

    def _role_revoke_permission(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = AuthRoleRevokePermissionRequest.FromString(body)
        self.store.revoke_permission(request.role, request.key, request.range_end)
        self._log.info("revoked a permission on range", role_name=request.role)
        return self._revision(), b""


# --- what several places ask ------------------------------------------------------------------------------


def refuses_put(store: AuthStore, leases: Keyed, who: Identity, request: PutRequest) -> EtcdError | None:
    """Why somebody may not put a key: it, the keys that its lease holds, or reading what was there."""
    refused = store.refuses_write(who, request.key)
    if refused is None and request.lease:
        refused = refuses_lease(store, leases, who, request.lease)
    if refused is None and request.prev_kv:
        refused = store.refuses_read(who, request.key)
    return refused


def refuses_lease(store: AuthStore, leases: Keyed, who: Identity, lease_id: int) -> EtcdError | None:
    """Why somebody may not do to a lease what could delete its keys; None for one that does not exist."""
    if lease_id not in leases or store.refuses_admin(who) is None:
        return None
    for key in leases.keys(lease_id):
        refused = store.refuses_write(who, key)
        if refused is not None:
            return refused
    return None


def refuses_txn(store: AuthStore, leases: Keyed, who: Identity, opened: OpenedTxn) -> EtcdError | None:
    """Why somebody may not run a transaction: any compare or operation of either branch, nested ones
    included (CVE-2026-33343), puts by all that a put is asked (CVE-2026-44283).
    """
    for compare in opened.compares:
        refused = store.refuses_read(who, compare.key, compare.range_end)
        if refused is not None:
            return refused
    for operation in (*opened.success, *opened.failure):
        refused = _refuses_operation(store, leases, who, operation)
        if refused is not None:
            return refused
    return None


def _refuses_operation(
    store: AuthStore, leases: Keyed, who: Identity, operation: Operation
) -> EtcdError | None:
    kind, part = operation
    if kind == txn.PUT:
        return refuses_put(store, leases, who, part)
    if kind == txn.RANGE:
        return store.refuses_read(who, part.key, part.range_end)
    if kind == txn.TXN:
        return refuses_txn(store, leases, who, part)
    if kind == txn.DELETE_RANGE:
        refused = store.refuses_read(who, part.key, part.range_end) if part.prev_kv else None
        return refused or store.refuses_write(who, part.key, part.range_end)
    return None
