"""A dumb twin of the auth store: dictionaries, and ranges looked at one by one."""

from dataclasses import dataclass, field

from kvorum import errors
from kvorum.errors import EtcdError

READ, WRITE, READWRITE = 0, 1, 2

Permission = tuple[int, bytes, bytes]
"""Kind, key, range end."""


def covered_points(granted: list[tuple[bytes, bytes]], key: bytes) -> bool:
    """Whether any of the ranges has the key."""
    for begin, end in granted:
        if not begin:
            continue
        if not end:
            if key == begin:
                return True
        elif key >= begin and (end == b"\0" or key < end):
            return True
    return False


def covers(granted: list[tuple[bytes, bytes]], key: bytes, end: bytes) -> bool:
    """Whether a request's range is covered, walking along it from one range to the next."""
    if not end:
        return covered_points(granted, key)
    if end != b"\0" and end <= key:
        return covered_points(granted, key)
    at = key
    while True:
        if not covered_points(granted, at):
            return False
        # The furthest end of a range that has ``at``.
        furthest = at
        for begin, stop in granted:
            if not begin or not covered_points([(begin, stop)], at):
                continue
            if stop == b"\0":
                return True
            furthest = max(furthest, stop or begin + b"\0")
        if end != b"\0" and furthest >= end:
            return True
        at = furthest


@dataclass
class User:
    """A user: its password's hash, None for one without, and its roles."""

    password: bytes | None
    roles: set[str] = field(default_factory=set)


@dataclass
class Model:
    """All of it."""

    users: dict[str, User] = field(default_factory=dict)
    roles: dict[str, list[Permission]] = field(default_factory=dict)
    enabled: bool = False
    revision: int = 1

    # --- changes --------------------------------------------------------------------------------------------

    def add_user(self, name: str, password: bytes | None) -> EtcdError | None:
        if not name:
            return errors.ERR_USER_EMPTY
        if name in self.users:
            return errors.ERR_USER_ALREADY_EXIST
        self.users[name] = User(password)
        self.revision += 1
        return None

    def delete_user(self, name: str) -> EtcdError | None:
        if self.enabled and name == "root":
            return errors.ERR_INVALID_AUTH_MGMT
        if name not in self.users:
            return errors.ERR_USER_NOT_FOUND
        del self.users[name]
        self.revision += 1
        return None

    def grant_role(self, name: str, role: str) -> EtcdError | None:
        if name not in self.users:
            return errors.ERR_USER_NOT_FOUND
        if role != "root" and role not in self.roles:
            return errors.ERR_ROLE_NOT_FOUND
        if role not in self.users[name].roles:
            self.users[name].roles.add(role)
            self.revision += 1
        return None

    def revoke_role(self, name: str, role: str) -> EtcdError | None:
        if self.enabled and (name, role) == ("root", "root"):
            return errors.ERR_INVALID_AUTH_MGMT
        if name not in self.users:
            return errors.ERR_USER_NOT_FOUND
        if role not in self.users[name].roles:
            return errors.ERR_ROLE_NOT_GRANTED
        self.users[name].roles.discard(role)
        self.revision += 1
        return None

    def change_password(self, name: str, password: bytes) -> EtcdError | None:
        if name not in self.users:
            return errors.ERR_USER_NOT_FOUND
        if self.users[name].password is not None:
            self.users[name].password = password
        self.revision += 1
        return None

    def add_role(self, name: str) -> EtcdError | None:
        if not name:
            return errors.ERR_ROLE_EMPTY
        if name in self.roles:
            return errors.ERR_ROLE_ALREADY_EXIST
        self.roles[name] = []
        self.revision += 1
        return None

    def delete_role(self, name: str) -> EtcdError | None:
        if self.enabled and name == "root":
            return errors.ERR_INVALID_AUTH_MGMT
        if name not in self.roles:
            return errors.ERR_ROLE_NOT_FOUND
        del self.roles[name]
        for user in self.users.values():
            user.roles.discard(name)
        self.revision += 1
        return None

    def grant_permission(self, name: str, permission: Permission) -> EtcdError | None:
        if name not in self.roles:
            return errors.ERR_ROLE_NOT_FOUND
        permissions = self.roles[name]
        _, key, end = permission
        first = next((at for at, each in enumerate(permissions) if each[1] >= key), None)
        if first is not None and permissions[first][1:] == (key, end):
            permissions[first] = permission
        else:
            permissions.append(permission)
            permissions.sort(key=lambda each: each[1])
        self.revision += 1
        return None

    def revoke_permission(self, name: str, key: bytes, end: bytes) -> EtcdError | None:
        if name not in self.roles:
            return errors.ERR_ROLE_NOT_FOUND
        kept = [each for each in self.roles[name] if each[1:] != (key, end)]
        if len(kept) == len(self.roles[name]):
            return errors.ERR_PERMISSION_NOT_GRANTED
        self.roles[name] = kept
        self.revision += 1
        return None

    def enable(self) -> EtcdError | None:
        if self.enabled:
            return None
        if "root" not in self.users:
            return errors.ERR_ROOT_USER_NOT_EXIST
        if "root" not in self.users["root"].roles:
            return errors.ERR_ROOT_ROLE_NOT_EXIST
        self.enabled = True
        return None

    def disable(self) -> None:
        if self.enabled:
            self.enabled = False
            self.revision += 1

    # --- questions ------------------------------------------------------------------------------------------

    def is_root(self, name: str) -> bool:
        return name in self.users and "root" in self.users[name].roles

    def admin(self, name: str) -> EtcdError | None:
        if not self.enabled:
            return None
        if not name:
            return errors.ERR_USER_EMPTY
        if name not in self.users:
            return errors.ERR_USER_NOT_FOUND
        return None if self.is_root(name) else errors.ERR_PERMISSION_DENIED

    def may(self, name: str, kinds: tuple[int, ...], key: bytes, end: bytes) -> bool:
        """Whether a user may read or write a range, whatever the revision."""
        if not self.enabled or self.is_root(name):
            return True
        if name not in self.users:
            return False
        granted = [
            (begin, stop)
            for role in self.users[name].roles
            for kind, begin, stop in self.roles.get(role, ())
            if kind in kinds
        ]
        return covers(granted, key, end)

    def may_read(self, name: str, key: bytes, end: bytes = b"") -> bool:
        return self.may(name, (READ, READWRITE), key, end)

    def may_write(self, name: str, key: bytes, end: bytes = b"") -> bool:
        return self.may(name, (WRITE, READWRITE), key, end)
