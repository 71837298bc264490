"""Users and roles where they are kept, below ``/2`` of the tree, and what a request's password entitles to.

They are keys like others there: each change goes through the log, every member has them, snapshots carry
them. That is etcd's layout, so a directory tree that came from etcd brings its users along. ``Access`` is
asked before each request; while users are off it costs one look into the tree. Source of behaviour: etcd
3.4.23 ``v2auth/auth.go``, ``auth_requests.go``, ``v2http/client_auth.go``.
"""

import json
import posixpath
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, final

from kvorum.api.v2.accounts import GUEST, GUEST_ROLE, ROOT, ROOT_ROLE, Role, User, refused
from kvorum.api.v2.answers import MessageError
from kvorum.api.v2.passwords import Passwords
from kvorum.errors import EtcdError
from kvorum.logging import Logger
from kvorum.rpc.http1_types import HttpRequest
from kvorum.server.v2 import V2
from kvorum.v2store.errors import KEY_NOT_FOUND, NODE_EXIST, V2Error
from kvorum.v2store.request import V2Request

PREFIX: Final = "/2"
"""Where users and roles are kept (etcd ``StorePermsPrefix``)."""

_COMMON_NAME: Final = "common_name"
"""What a connection tells of its client's certificate, with ``--client-cert-auth`` (``tls/identity.py``)."""
_ENABLED: Final = PREFIX + "/enabled"
_READ: Final = frozenset(("GET", "HEAD"))

UpToDate: TypeAlias = Callable[[], Awaitable[None]]
"""Returns once this member has applied all that was committed; raises EtcdError."""


@final
class Credentials:
    """Users and roles, read here and changed through the log.

    Errors besides those named: V2Error and EtcdError, from the store and the cluster.
    """

    def __init__(self, v2: V2, up_to_date: UpToDate, passwords: Passwords, log: Logger) -> None:
        self._v2: Final = v2
        self._up_to_date: Final = up_to_date
        self._log: Final = log
        self._has_directories = False
        self.passwords: Final = passwords

    @property
    def enabled(self) -> bool:
        """Whether users are on."""
        return self._v2.peek(_ENABLED) == "true"

    # --- reading ------------------------------------------------------------------------------------------

    def user(self, name: str) -> User:
        """A user. Raises MessageError: there is none."""
        value = self._read("users", name)
        if value is None:
            raise refused(404, f"User {name} does not exist.")
        return User.from_fields(value).as_stored()

    def role(self, name: str) -> Role:
        """A role. Raises MessageError: there is none."""
        if name == ROOT:
            return ROOT_ROLE
        value = self._read("roles", name)
        if value is None:
            raise refused(404, f"Role {name} does not exist.")
        return Role.from_fields(value)

    def user_names(self) -> list[str]:
        """All users, sorted."""
        return sorted(self._names("users"))

    def role_names(self) -> list[str]:
        """All roles, root among them, sorted."""
        return sorted([ROOT, *self._names("roles")])

    def _read(self, kind: str, name: str) -> Any:
        text = self._v2.peek(_path(kind, name))
        return None if text is None else json.loads(text)

    def _names(self, kind: str) -> list[str]:
        try:
            event = self._v2.get(_path(kind))
        except V2Error as error:
            if error.code == KEY_NOT_FOUND:
                return []
            raise
        return [node.key.rpartition("/")[2] for node in event.node.nodes or ()]

    # --- changing users -----------------------------------------------------------------------------------

    async def put_user(self, user: User) -> tuple[User, bool]:
        """Create or change a user, whichever a request for it means; returns it and whether it is new.

        Raises:
            MessageError: it cannot be.
        """
        if user.grant or user.revoke:
            if user.roles:
                raise MessageError(400, "User JSON contains both roles and grant/revoke")
            return await self._update_user(user), False
        if user.roles:
            return await self._create_user(user), False  # answered with 200, as etcd does
        await self._up_to_date()
        try:
            self.user(user.name)
        except MessageError:
            return await self._create_user(user), True
        return await self._update_user(user), False

    async def _create_user(self, user: User) -> User:
        user = user.as_stored()
        if not user.password:
            raise refused(400, f"Cannot create user {user.name} with an empty password")
        hashed = await self.passwords.hashed(user.password, user.name)
        user = User(user.name, hashed, user.roles, user.grant, user.revoke)
        try:
            await self._put(_path("users", user.name), user.to_json(), exists=False)
        except V2Error as error:
            if error.code == NODE_EXIST:
                raise refused(409, f"User {user.name} already exists.") from None
            raise
        self._log.info("created a user", user_name=user.name)
        return user

    async def _update_user(self, change: User) -> User:
        await self._up_to_date()
        old = self.user(change.name)
        hashed = await self.passwords.hashed(change.password, change.name) if change.password else ""
        new = old.merged(change, hashed)
        if new == old:
            raise refused(400, "User not updated. Use grant/revoke/password to update the user.")
        await self._put(_path("users", change.name), new.to_json(), exists=True)
        self._log.info("updated a user", user_name=change.name)
        return new

    async def delete_user(self, name: str) -> None:
        """Remove a user. Raises MessageError."""
        if name == ROOT and self.enabled:
            raise refused(403, "Cannot delete root user while auth is enabled.")
        try:
            await self._delete(_path("users", name))
        except V2Error as error:
            if error.code == KEY_NOT_FOUND:
                raise refused(404, f"User {name} does not exist") from None
            raise
        self._log.info("deleted a user", user_name=name)

    # --- changing roles -----------------------------------------------------------------------------------

    async def create_role(self, role: Role) -> None:
        """Create a role. Raises MessageError."""
        self._refuse_root(role.name)
        try:
            await self._put(_path("roles", role.name), role.to_json(), exists=False)
        except V2Error as error:
            if error.code == NODE_EXIST:
                raise refused(409, f"Role {role.name} already exists.") from None
            raise
        self._log.info("created a new role", role_name=role.name)

    async def update_role(self, change: Role) -> Role:
        """Grant and revoke. Raises MessageError."""
        self._refuse_root(change.name)
        await self._up_to_date()
        old = self.role(change.name)
        new = old.merged(change)
        if new == old:
            raise refused(400, "Role not updated. Use grant/revoke to update the role.")
        await self._put(_path("roles", change.name), new.to_json(), exists=True)
        self._log.info("updated a new role", role_name=change.name)
        return new

    async def delete_role(self, name: str) -> None:
        """Remove a role. Raises MessageError."""
        self._refuse_root(name)
        try:
            await self._delete(_path("roles", name))
        except V2Error as error:
            if error.code == KEY_NOT_FOUND:
                raise refused(404, f"Role {name} doesn't exist.") from None
            raise
        self._log.info("deleted a new role", role_name=name)

    def _refuse_root(self, name: str) -> None:
        if name == ROOT:
            raise refused(403, f"Cannot modify role {name}: is root role.")

    # --- on and off ---------------------------------------------------------------------------------------

    async def enable(self) -> None:
        """Turn users on. Raises MessageError."""
        if self.enabled:
            raise refused(409, "already enabled")
        await self._up_to_date()
        if self._v2.peek(_path("users", ROOT)) is None:
            raise refused(409, "No root user available, please create one")
        if self._v2.peek(_path("roles", GUEST)) is None:
            self._log.info("no guest role access found; creating default", role_name=GUEST)
            await self.create_role(GUEST_ROLE)
        await self._put(_ENABLED, "true", exists=True)
        self._log.info("enabled auth")

    async def disable(self) -> None:
        """Turn users off. Raises MessageError."""
        if not self.enabled:
            raise refused(409, "already disabled")
        await self._put(_ENABLED, "false", exists=True)
        self._log.info("disabled auth")

    # --- through the log ----------------------------------------------------------------------------------

    async def _put(self, path: str, value: str, *, exists: bool) -> None:
        await self._make_directories()
        request = V2Request("PUT", path, value)
        request.prev_exist = exists
        await self._v2.do(request)

    async def _delete(self, path: str) -> None:
        await self._make_directories()
        await self._v2.do(V2Request("DELETE", path))

    async def _make_directories(self) -> None:
        """Make what users and roles are kept in, once."""
        if self._has_directories:
            return
        for path in (PREFIX, _path("users"), _path("roles")):
            directory = V2Request("PUT", path)
            directory.dir = True
            await self._make(directory)
        await self._make(V2Request("PUT", _ENABLED, "false"))
        self._has_directories = True

    async def _make(self, request: V2Request) -> None:
        request.prev_exist = False
        try:
            await self._v2.do(request)
        except V2Error as error:
            if error.code != NODE_EXIST:
                raise


def _path(kind: str, name: str = "") -> str:
    """Where a user or a role is kept (Go's ``path.Join``, which names with dots and slashes go through)."""
    return "/" + posixpath.normpath(f"{PREFIX}/{kind}/{name}").lstrip("/")


@final
class Access:
    """Who asks, and may they? Users with the password in the request, everybody else as guests."""

    def __init__(self, credentials: Credentials, log: Logger) -> None:
        self._credentials: Final = credentials
        self._log: Final = log

    @property
    def enabled(self) -> bool:
        """Whether users are on; while they are not, everybody may do everything."""
        return self._credentials.enabled

    async def is_root(self, request: HttpRequest) -> bool:
        """Whether the request may administer."""
        if not self.enabled:
            return True
        user = await self._user(request)
        if user is None:
            return False
        if ROOT in (user.roles or ()):
            return True
        self._log.warn(
            "a user does not have root role for resource",
            root_user=user.name,
            root_role_name=ROOT,
            resource_path=request.path,
        )
        return False

    async def may_use_key(self, request: HttpRequest, key: str, *, recursive: bool) -> bool:
        """Whether the request may read or write a key, or all below it."""
        write = request.method not in _READ
        user = await self._user(request)
        if user is None:
            role = None if request.header("authorization") else self._known_role(GUEST)
            return role is not None and role.allows(key, write=write, recursive=False)
        for name in user.roles or ():
            role = self._known_role(name)
            if role is not None and role.allows(key, write=write, recursive=recursive):
                return True
        self._log.warn("invalid access for user on key", user_name=user.name, key=key)
        return False

    def _known_role(self, name: str) -> Role | None:
        try:
            return self._credentials.role(name)
        except (MessageError, ValueError):
            return None

    async def _user(self, request: HttpRequest) -> User | None:
        """The user whose password the request shows, or, if it shows none, whom its certificate names."""
        header = request.header("authorization")
        if not header:
            return self._certified(request.extra_info(_COMMON_NAME))
        shown = basic_auth(header)
        if shown is None:
            self._log.warn("malformed basic auth encoding")
            return None
        name, password = shown
        try:
            user = self._credentials.user(name)
        except (MessageError, ValueError):
            return None
        passwords = self._credentials.passwords
        try:
            if await passwords.match(password, user.password, name, request.peer):
                return user
        except EtcdError as refused:
            self._log.warn("cannot check a password", user_name=name, error=refused.forget())
            return None
        self._log.warn("incorrect password", user_name=name)
        return None

    def _certified(self, name: str | None) -> User | None:
        try:
            return self._credentials.user(name) if name else None
        except (MessageError, ValueError):
            return None


def basic_auth(header: str) -> tuple[str, str] | None:
    """Name and password of an Authorization header (Go's ``Request.BasicAuth``); None if it shows none."""
    if header[:6].lower() != "basic ":
        return None
    try:
        decoded = b64decode(
            header[6:].encode("latin-1").replace(b"\r", b"").replace(b"\n", b""), validate=True
        )
    except ValueError:
        return None
    name, colon, password = decoded.decode("utf-8", "surrogateescape").partition(":")
    return (name, password) if colon else None


OPERATION_ERRORS: Final = (MessageError, V2Error, EtcdError)
"""What an operation on users and roles can come to besides its result."""
