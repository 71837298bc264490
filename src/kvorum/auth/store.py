"""Users, roles and what they may: the auth store.

Everything is in three tables of the backend, in etcd's encoding, so snapshots carry it and it moves with the
consistent index. ``revision`` grows with every change; a request carries the revision at which its user was
looked up, and one that is older is refused, because the permissions it was let in with may be gone.
Source of behaviour: etcd ``server/auth/store.go``, ``range_perm_cache.go``.

What a check needs of a user is worked out once and kept until anything changes. Invariants: ``enabled`` and
``revision`` are what the tables say; ``_access`` holds only users that exist, as they are at ``revision``.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TypeVar, final

from kvorum import errors
from kvorum.auth.coverage import Coverage
from kvorum.auth.identity import Identity
from kvorum.errors import EtcdError
from kvorum.limits import MAX_AUTH_NAME_BYTES
from kvorum.proto.auth_pb2 import Permission, Role, User, UserAddOptions

ROOT: Final = "root"
"""The user that has to exist, and the role that may do everything."""

ERR_NO_PASSWORD_USER: Final = EtcdError(
    errors.UNKNOWN, "auth: authentication failed, password was given for no password user"
)

_ENABLED_KEY: Final = b"authEnabled"
_REVISION_KEY: Final = b"authRevision"
_ON: Final = b"\x01"
_OFF: Final = b"\x00"

READ: Final = int(Permission.Type.READ)
WRITE: Final = int(Permission.Type.WRITE)
READWRITE: Final = int(Permission.Type.READWRITE)


class Table(Protocol):
    """A named table of the backend, read and written in the open transaction."""

    def get(self, key: bytes) -> bytes | None:
        """The value at a key, None if there is none."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value at a key of 1 to 511 bytes."""

    def delete(self, key: bytes) -> bool:
        """Remove a key; False if it was not there."""

    def iterate(self) -> Iterator[tuple[bytes, bytes]]:
        """The records in order."""


class Tables(Protocol):
    """The backend."""

    def table(self, name: bytes) -> Table:
        """A table by its name; made if it is not there."""


@final
class Access:
    """What one user may, worked out of its roles."""

    __slots__ = ("is_root", "readable", "roles", "writable")

    def __init__(self, roles: frozenset[str], permissions: Iterable[Permission]) -> None:
        granted = [(int(each.permType), (each.key, each.range_end)) for each in permissions]
        self.roles: Final = roles
        self.is_root: Final = ROOT in roles
        self.readable: Final = Coverage(keys for kind, keys in granted if kind in (READ, READWRITE))
        self.writable: Final = Coverage(keys for kind, keys in granted if kind in (WRITE, READWRITE))


R = TypeVar("R", User, Role)


@final
class AuthStore:
    """Users and roles, changed by ``apply`` alone, and the answers to what they may."""

    __slots__ = ("_access", "_auth", "_roles", "_users", "enabled", "revision")

    def __init__(self, tables: Tables) -> None:
        self._auth: Final = tables.table(b"auth")
        self._users: Final = tables.table(b"authUsers")
        self._roles: Final = tables.table(b"authRoles")
        self._access: Final[dict[str, Access]] = {}
        self.enabled = False
        self.revision = 0
        self.reload()
        if not self.revision:
            self._changed()

    def reload(self) -> None:
        """Read the tables, which may be others since a snapshot replaced the store."""
        self.enabled = self._auth.get(_ENABLED_KEY) == _ON
        self.revision = int.from_bytes(self._auth.get(_REVISION_KEY) or b"", "big")
        self._access.clear()

    def _changed(self) -> None:
        self.revision += 1
        self._auth.put(_REVISION_KEY, self.revision.to_bytes(8, "big"))
        self._access.clear()

    # --- on and off ---------------------------------------------------------------------------------------

    def enable(self) -> bool:
        """Check permissions from now on; False if they were already.

        Raises:
            EtcdError: ERR_ROOT_USER_NOT_EXIST, ERR_ROOT_ROLE_NOT_EXIST.
        """
        if self.enabled:
            return False
        root = self.user(ROOT)
        if root is None:
            raise errors.ERR_ROOT_USER_NOT_EXIST
        if ROOT not in root.roles:
            raise errors.ERR_ROOT_ROLE_NOT_EXIST
        self._auth.put(_ENABLED_KEY, _ON)
        self.enabled = True
        return True

    def disable(self) -> bool:
        """Check nothing any more; False if nothing was checked."""
        if not self.enabled:
            return False
        self._auth.put(_ENABLED_KEY, _OFF)
        self.enabled = False
        self._changed()
        return True

    # --- looking ------------------------------------------------------------------------------------------

    def user(self, name: str) -> User | None:
        """A user by name."""
        return _record(self._users, name, User)

    def role(self, name: str) -> Role | None:
        """A role by name."""
        return _record(self._roles, name, Role)

    def users(self) -> list[User]:
        """All users, by name."""
        return [User.FromString(value) for _, value in self._users.iterate()]

    def roles(self) -> list[Role]:
        """All roles, by name."""
        return [Role.FromString(value) for _, value in self._roles.iterate()]

    def known_user(self, name: str) -> User:
        """A user by name.

        Raises:
            EtcdError: ERR_USER_NOT_FOUND.
        """
        user = self.user(name)
        if user is None:
            raise errors.ERR_USER_NOT_FOUND
        return user

    def known_role(self, name: str) -> Role:
        """A role by name.

        Raises:
            EtcdError: ERR_ROLE_NOT_FOUND.
        """
        role = self.role(name)
        if role is None:
            raise errors.ERR_ROLE_NOT_FOUND
        return role

    # --- users --------------------------------------------------------------------------------------------

    def add_user(self, name: str, password_hash: bytes, options: UserAddOptions | None) -> None:
        """Make a user without roles; ``password_hash`` is bcrypt's, empty for a user without password.

        Raises:
            EtcdError: ERR_USER_EMPTY, ERR_USER_ALREADY_EXIST, ERR_INVALID_AUTH_MGMT for a name that is too
                long.
        """
        if not name:
            raise errors.ERR_USER_EMPTY
        _check_length(name)
        if self.user(name) is not None:
            raise errors.ERR_USER_ALREADY_EXIST
        user = User(name=name.encode(), password=password_hash)
        user.options.CopyFrom(options if options is not None else UserAddOptions())
        self._put_user(user)
        self._changed()

    def delete_user(self, name: str) -> User:
        """Remove a user; returns what it was.

        Raises:
            EtcdError: ERR_USER_NOT_FOUND, ERR_INVALID_AUTH_MGMT for root while permissions are checked.
        """
        if self.enabled and name == ROOT:
            raise errors.ERR_INVALID_AUTH_MGMT
        user = self.known_user(name)
        self._users.delete(user.name)
        self._changed()
        return user

    def change_password(self, name: str, password_hash: bytes) -> User:
        """Set a user's password, unless it is one without; returns the user.

        Raises:
            EtcdError: ERR_USER_NOT_FOUND.
        """
        user = self.known_user(name)
        user.password = b"" if user.options.no_password else password_hash
        self._put_user(user)
        self._changed()
        return user

    def grant_role(self, name: str, role: str) -> bool:
        """Give a user a role; False if it has it. The role root need not exist.

        Raises:
            EtcdError: ERR_USER_NOT_FOUND, ERR_ROLE_NOT_FOUND.
        """
        user = self.known_user(name)
        if role != ROOT:
            self.known_role(role)
        roles = list(user.roles)
        if role in roles:
            return False
        insort(roles, role)
        user.roles[:] = roles
        self._put_user(user)
        self._changed()
        return True

    def revoke_role(self, name: str, role: str) -> None:
        """Take a role from a user.

        Raises:
            EtcdError: ERR_USER_NOT_FOUND, ERR_ROLE_NOT_GRANTED, ERR_INVALID_AUTH_MGMT for root's role root
                while permissions are checked.
        """
        if self.enabled and name == role == ROOT:
            raise errors.ERR_INVALID_AUTH_MGMT
        user = self.known_user(name)
        if role not in user.roles:
            raise errors.ERR_ROLE_NOT_GRANTED
        self._without_role(user, role)
        self._changed()

    def _without_role(self, user: User, role: str) -> None:
        user.roles[:] = [each for each in user.roles if each != role]
        self._put_user(user)

    def _put_user(self, user: User) -> None:
        self._users.put(user.name, user.SerializeToString(deterministic=True))

    # --- roles --------------------------------------------------------------------------------------------

    def add_role(self, name: str) -> None:
        """Make a role without permissions.

        Raises:
            EtcdError: ERR_ROLE_EMPTY, ERR_ROLE_ALREADY_EXIST, ERR_INVALID_AUTH_MGMT for a name that is too
                long.
        """
        if not name:
            raise errors.ERR_ROLE_EMPTY
        _check_length(name)
        if self.role(name) is not None:
            raise errors.ERR_ROLE_ALREADY_EXIST
        self._put_role(Role(name=name.encode()))
        self._changed()

    def delete_role(self, name: str) -> None:
        """Remove a role, also from the users that have it.

        Raises:
            EtcdError: ERR_ROLE_NOT_FOUND, ERR_INVALID_AUTH_MGMT for root while permissions are checked.
        """
        if self.enabled and name == ROOT:
            raise errors.ERR_INVALID_AUTH_MGMT
        self._roles.delete(self.known_role(name).name)
        for user in self.users():
            if name in user.roles:
                self._without_role(user, name)
        self._changed()

    def grant_permission(self, name: str, permission: Permission) -> None:
        """Add a permission to a role, or change the kind of the one for the same keys.

        Permissions are ordered by their keys. As in etcd, only the first one of a key is changed; one of
        another range end is found by nobody and stands twice then.

        Raises:
            EtcdError: ERR_ROLE_NOT_FOUND.
        """
        role = self.known_role(name)
        permissions = list(role.keyPermission)
        at = bisect_left(permissions, permission.key, key=_key_of)
        if at < len(permissions) and _keys_of(permissions[at]) == _keys_of(permission):
            permissions[at].permType = permission.permType
        else:
            permissions.append(permission)
            permissions.sort(key=_key_of)
        updated = Role(name=role.name, keyPermission=permissions)
        self._put_role(updated)
        self._changed()

    def revoke_permission(self, name: str, key: bytes, range_end: bytes) -> None:
        """Take all permissions for these very keys from a role.

        Raises:
            EtcdError: ERR_ROLE_NOT_FOUND, ERR_PERMISSION_NOT_GRANTED.
        """
        role = self.known_role(name)
        kept = [each for each in role.keyPermission if _keys_of(each) != (key, range_end)]
        if len(kept) == len(role.keyPermission):
            raise errors.ERR_PERMISSION_NOT_GRANTED
        self._put_role(Role(name=role.name, keyPermission=kept))
        self._changed()

    def _put_role(self, role: Role) -> None:
        self._roles.put(role.name, role.SerializeToString(deterministic=True))

    # --- what is permitted --------------------------------------------------------------------------------

    def _access_of(self, name: str) -> Access | None:
        access = self._access.get(name)
        if access is None:
            user = self.user(name)
            if user is None:
                return None
            roles = filter(None, map(self.role, user.roles))
            permissions = [each for role in roles for each in role.keyPermission]
            access = self._access[name] = Access(frozenset(user.roles), permissions)
        return access

    def has_role(self, name: str, role: str) -> bool:
        """Whether the user exists and has the role."""
        access = self._access_of(name)
        return access is not None and role in access.roles

    def refuses_admin(self, who: Identity) -> EtcdError | None:
        """Why somebody may not do what only the role root may; None if they may."""
        if not self.enabled:
            return None
        if not who.username:
            return errors.ERR_USER_EMPTY
        access = self._access_of(who.username)
        if access is None:
            return errors.ERR_USER_NOT_FOUND
        return None if access.is_root else errors.ERR_PERMISSION_DENIED

    def _current_access(self, who: Identity) -> Access | EtcdError:
        if not who.revision:
            return errors.ERR_USER_EMPTY
        if who.revision < self.revision:
            return errors.ERR_AUTH_OLD_REVISION
        access = self._access_of(who.username)
        return errors.ERR_PERMISSION_DENIED if access is None else access

    def refuses_read(self, who: Identity, key: bytes, range_end: bytes = b"") -> EtcdError | None:
        """Why somebody may not read a key or a range; None if they may."""
        if not self.enabled:
            return None
        access = self._current_access(who)
        if isinstance(access, EtcdError):
            return access
        if access.is_root or _covered(access.readable, key, range_end):
            return None
        return errors.ERR_PERMISSION_DENIED

    def refuses_write(self, who: Identity, key: bytes, range_end: bytes = b"") -> EtcdError | None:
        """Why somebody may not put a key or delete a range; None if they may."""
        if not self.enabled:
            return None
        access = self._current_access(who)
        if isinstance(access, EtcdError):
            return access
        if access.is_root or _covered(access.writable, key, range_end):
            return None
        return errors.ERR_PERMISSION_DENIED

    def check_invariants(self) -> None:
        """Assert what the module docstring promises; O(n)."""
        assert self.enabled == (self._auth.get(_ENABLED_KEY) == _ON), "enabled is not what is stored"
        assert self.revision == int.from_bytes(self._auth.get(_REVISION_KEY) or b"", "big") > 0
        assert all(self.user(name) is not None for name in self._access), "a user is gone and remembered"
        for user in self.users():
            assert list(user.roles) == sorted(set(user.roles)), "roles are sorted, each once"


def _covered(coverage: Coverage, key: bytes, range_end: bytes) -> bool:
    return coverage.covers(key, range_end) if range_end else coverage.has(key)


def _key_of(permission: Permission) -> bytes:
    return permission.key


def _keys_of(permission: Permission) -> tuple[bytes, bytes]:
    return permission.key, permission.range_end


def _check_length(name: str) -> None:
    if len(name.encode()) > MAX_AUTH_NAME_BYTES:
        raise errors.ERR_INVALID_AUTH_MGMT


def _record(table: Table, name: str, kind: type[R]) -> R | None:
    key = name.encode()
    if not 0 < len(key) <= MAX_AUTH_NAME_BYTES:
        return None
    value = table.get(key)
    return None if value is None else kind.FromString(value)
