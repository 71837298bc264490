"""Users and roles of the v2 API as values: their JSON, what may be granted and revoked, and who may do what.

None stands for Go's nil slice, which is ``null`` in JSON and not the same as an empty one when etcd asks
whether an update changed anything. Source of behaviour: etcd 3.4.23 ``v2auth/auth.go``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, final

from kvorum.api.v2.answers import MessageError
from kvorum.api.v2.go_json import field_of, strings_of, text_of
from kvorum.golang import json_string

ROOT: Final = "root"
"""The user that administers, and the role that may do everything."""
GUEST: Final = "guest"
"""The role of those who show no password."""

Names: TypeAlias = tuple[str, ...] | None


def refused(status: int, text: str) -> MessageError:
    """An error of the accounts, as etcd words all of them."""
    return MessageError(status, f"auth: {text}")


@final
@dataclass(frozen=True)
class Permissions:
    """Patterns of keys: a key itself, or with ``*`` at its end all that begin so."""

    read: Names = None
    write: Names = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is permitted."""
        return not self.read and not self.write

    def grant(self, more: "Permissions") -> "Permissions":
        """With more. Raises MessageError for what is there already."""
        return Permissions(
            _with(self.read, more.read, "read permission"), _with(self.write, more.write, "write permission")
        )

    def revoke(self, less: "Permissions") -> "Permissions":
        """Without some; what is not there is passed over."""
        return Permissions(_without(self.read, less.read), _without(self.write, less.write))

    def allow(self, key: str, *, write: bool, recursive: bool) -> bool:
        """Whether a key, or all below it, may be read or written."""
        return any(
            _matches(pattern, key, recursive) for pattern in (self.write if write else self.read) or ()
        )

    def to_json(self) -> str:
        """etcd's JSON."""
        return f'{{"kv":{{"read":{_json_names(self.read)},"write":{_json_names(self.write)}}}}}'

    @staticmethod
    def from_fields(value: object) -> "Permissions | None":
        """From parsed JSON; None for null. Raises ValueError if it is something else."""
        fields = field_of(value, "kv", Mapping)
        if value is None:
            return None
        return Permissions(strings_of(fields, "read"), strings_of(fields, "write"))


_ALL: Final = Permissions(("/*",), ("/*",))


@final
@dataclass(frozen=True)
class Role:
    """A role; ``grant`` and ``revoke`` are what a request asks to change."""

    name: str
    permissions: Permissions = Permissions()
    grant: Permissions | None = None
    revoke: Permissions | None = None

    def merged(self, change: "Role") -> "Role":
        """With what a request grants and without what it revokes. Raises MessageError."""
        permissions = self.permissions
        if change.grant is not None:
            permissions = permissions.grant(change.grant)
        if change.revoke is not None:
            permissions = permissions.revoke(change.revoke)
        return Role(self.name, permissions)

    def allows(self, key: str, *, write: bool, recursive: bool) -> bool:
        """Whether the role permits it; root permits everything."""
        return self.name == ROOT or self.permissions.allow(key, write=write, recursive=recursive)

    def to_json(self) -> str:
        """etcd's JSON."""
        grant = "" if self.grant is None else f',"grant":{self.grant.to_json()}'
        revoke = "" if self.revoke is None else f',"revoke":{self.revoke.to_json()}'
        return (
            f'{{"role":{json_string(self.name)},"permissions":{self.permissions.to_json()}{grant}{revoke}}}'
        )

    @staticmethod
    def from_fields(value: object) -> "Role":
        """From parsed JSON. Raises ValueError if it is no role."""
        return Role(
            text_of(value, "role"),
            Permissions.from_fields(field_of(value, "permissions", Mapping)) or Permissions(),
            Permissions.from_fields(field_of(value, "grant", Mapping)),
            Permissions.from_fields(field_of(value, "revoke", Mapping)),
        )


ROOT_ROLE: Final = Role(ROOT, _ALL)
GUEST_ROLE: Final = Role(GUEST, _ALL)
"""What the guest role is unless somebody made one before users were turned on."""


@final
@dataclass(frozen=True)
class User:
    """A user; ``password`` is a bcrypt hash once stored. ``grant`` and ``revoke`` are asked-for changes."""

    name: str
    password: str = ""
    roles: Names = None
    grant: Names = None
    revoke: Names = None

    def as_stored(self) -> "User":
        """The user as it is used: root has its role whatever is stored."""
        if self.name != ROOT or ROOT in (self.roles or ()):
            return self
        return replace(self, roles=(*(self.roles or ()), ROOT))

    def merged(self, change: "User", password_hash: str) -> "User":
        """With the roles that a request grants and without those it revokes; a hash that is not empty is new.

        Raises:
            MessageError: a role is there already, or is not there.
        """
        roles = set(self.roles or ())
        for name in change.grant or ():
            if name in roles:
                raise refused(409, f"Granting duplicate role {name} for user {change.name}")
            roles.add(name)
        for name in change.revoke or ():
            if name not in roles:
                raise refused(409, f"Revoking ungranted role {name} for user {change.name}")
            roles.discard(name)
        return User(self.name, password_hash or self.password, _in_order(roles))

    def to_json(self) -> str:
        """etcd's JSON."""
        password = f'"password":{json_string(self.password)},' if self.password else ""
        grant = f',"grant":{_json_names(self.grant)}' if self.grant else ""
        revoke = f',"revoke":{_json_names(self.revoke)}' if self.revoke else ""
        return (
            f'{{"user":{json_string(self.name)},{password}"roles":{_json_names(self.roles)}{grant}{revoke}}}'
        )

    @staticmethod
    def from_fields(value: object) -> "User":
        """From parsed JSON. Raises ValueError if it is no user."""
        return User(
            text_of(value, "user"),
            text_of(value, "password"),
            strings_of(value, "roles"),
            strings_of(value, "grant"),
            strings_of(value, "revoke"),
        )


def with_roles_json(user: User, roles: Sequence[Role]) -> str:
    """A user with its roles in full, as lists show it."""
    shown = f',"roles":[{",".join(role.to_json() for role in roles)}]' if roles else ""
    return f'{{"user":{json_string(user.name)}{shown}}}'


def _json_names(names: Names) -> str:
    return "null" if names is None else f"[{','.join(map(json_string, names))}]"


def _in_order(names: set[str]) -> tuple[str, ...]:
    """Sorted by their bytes, as Go sorts strings."""
    return tuple(sorted(names, key=lambda name: name.encode("utf-8", "surrogatepass")))


def _with(names: Names, more: Names, what: str) -> Names:
    known = set(names or ())
    for name in more or ():
        if name in known:
            raise refused(409, f"Granting duplicate {what} {name}")
        known.add(name)
    return _in_order(known)


def _without(names: Names, less: Names) -> Names:
    return _in_order(set(names or ()).difference(less or ()))


def _matches(pattern: str, key: str, recursive: bool) -> bool:
    if pattern.endswith("*"):
        return key.startswith(pattern[:-1])
    return not recursive and key == pattern
