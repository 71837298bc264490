"""``/v2/auth``: users, roles, and whether they count.

Source of behaviour: etcd 3.4.23 ``v2http/client_auth.go``, ``v2auth/auth.go``.
"""

import posixpath
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeAlias, final

from kvorum.api.v2.accounts import Role, User, with_roles_json
from kvorum.api.v2.answers import NOT_AUTHORISED, Answers, MessageError, internal_error, method_not_allowed
from kvorum.api.v2.credentials import OPERATION_ERRORS, Access, Credentials
from kvorum.api.v2.form import FormError, read_form
from kvorum.api.v2.go_json import first_value
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest, HttpResponse

PREFIX: Final = "/v2/auth"
_ONE: Final = ("GET", "PUT", "DELETE")
_ALL: Final = ("GET",)
_BAD_JSON: Final = "Invalid JSON in request body."

Operation: TypeAlias = Callable[[HttpRequest, str], Awaitable[HttpResponse]]


@final
class AuthHandlers:
    """The handlers below ``/v2/auth``."""

    def __init__(self, answers: Answers, credentials: Credentials, access: Access) -> None:
        self._answers: Final = answers
        self._credentials: Final = credentials
        self._access: Final = access

    def install(self, http: HttpServer) -> None:
        """Register them; a bad method is answered by the handler, after it has looked at the path."""
        for path in ("/users", "/users/"):
            http.route("*", PREFIX + path, self.users)
        for path in ("/roles", "/roles/"):
            http.route("*", PREFIX + path, self.roles)
        http.route("*", PREFIX + "/enable", self.enable)

    async def users(self, request: HttpRequest) -> HttpResponse:
        """``/users`` and ``/users/<name>``."""
        return await self._route(request, self._list_users, self._one_user)

    async def roles(self, request: HttpRequest) -> HttpResponse:
        """``/roles`` and ``/roles/<name>``."""
        return await self._route(request, self._list_roles, self._one_role)

    async def enable(self, request: HttpRequest) -> HttpResponse:
        """``/enable``: GET asks, PUT turns users on, DELETE off."""
        return await self._guarded(request, _ONE, self._enable, "", reading_is_free=True)

    async def _route(self, request: HttpRequest, every: Operation, one: Operation) -> HttpResponse:
        pieces = posixpath.normpath(request.path[len(PREFIX) :]).split("/")
        if len(pieces) == 2:
            return await self._guarded(request, _ALL, every, "")
        if len(pieces) != 3:
            return MessageError(400, "Invalid path").response()
        return await self._guarded(request, _ONE, one, pieces[2])

    async def _guarded(
        self,
        request: HttpRequest,
        methods: tuple[str, ...],
        operation: Operation,
        name: str,
        *,
        reading_is_free: bool = False,
    ) -> HttpResponse:
        """An operation by who may administer; what it refuses becomes the answer."""
        if request.method not in methods:
            return method_not_allowed(methods)
        if not (reading_is_free and request.method == "GET") and not await self._access.is_root(request):
            return NOT_AUTHORISED.response()
        try:
            return await operation(request, name)
        except OPERATION_ERRORS as error:
            return self._answers.refusal(error)

    # --- users --------------------------------------------------------------------------------------------

    async def _list_users(self, request: HttpRequest, name: str) -> HttpResponse:
        credentials = self._credentials
        _check_form(request)
        users = map(credentials.user, credentials.user_names())
        shown = [with_roles_json(user, self._known_roles(user)) for user in users]
        return self._answers.json(f'{{"users":{"[" + ",".join(shown) + "]" if shown else "null"}}}\n')

    def _known_roles(self, user: User) -> list[Role]:
        roles = []
        for name in user.roles or ():
            try:
                roles.append(self._credentials.role(name))
            except (MessageError, ValueError):
                continue
        return roles

    async def _one_user(self, request: HttpRequest, name: str) -> HttpResponse:
        credentials = self._credentials
        if request.method == "DELETE":
            await credentials.delete_user(name)
            return self._answers.json("")
        if request.method == "GET":
            user = credentials.user(name)
            _check_form(request)
            roles = [credentials.role(role) for role in user.roles or ()]
            return self._answers.json(with_roles_json(user, roles) + "\n")
        try:
            wanted = User.from_fields(first_value(request.body))
        except ValueError:
            raise MessageError(400, _BAD_JSON) from None
        if wanted.name != name:
            raise MessageError(400, "User JSON name does not match the name in the URL")
        user, is_new = await credentials.put_user(wanted)
        return self._answers.json(replace(user, password="").to_json() + "\n", 201 if is_new else 200)

    # --- roles --------------------------------------------------------------------------------------------

    async def _list_roles(self, request: HttpRequest, name: str) -> HttpResponse:
        names = self._credentials.role_names()
        _check_form(request)
        shown = ",".join([self._credentials.role(role).to_json() for role in names])
        return self._answers.json(f'{{"roles":[{shown}]}}\n')

    async def _one_role(self, request: HttpRequest, name: str) -> HttpResponse:
        credentials = self._credentials
        if request.method == "DELETE":
            await credentials.delete_role(name)
            return self._answers.json("")
        if request.method == "GET":
            return self._answers.json(credentials.role(name).to_json() + "\n")
        try:
            wanted = Role.from_fields(first_value(request.body))
        except ValueError:
            raise MessageError(400, _BAD_JSON) from None
        if wanted.name != name:
            raise MessageError(400, "Role JSON name does not match the name in the URL")
        if not _asks(wanted):
            await credentials.create_role(wanted)
            return self._answers.json(wanted.to_json() + "\n", 201)
        if not wanted.permissions.is_empty:
            raise MessageError(400, "Role JSON contains both permissions and grant/revoke")
        return self._answers.json((await credentials.update_role(wanted)).to_json() + "\n")

    # --- on and off ---------------------------------------------------------------------------------------

    async def _enable(self, request: HttpRequest, name: str) -> HttpResponse:
        credentials = self._credentials
        if request.method == "GET":
            return self._answers.json(f'{{"enabled":{"true" if credentials.enabled else "false"}}}\n')
        await (credentials.enable() if request.method == "PUT" else credentials.disable())
        return self._answers.json("")


def _asks(role: Role) -> bool:
    """Whether a request for a role wants to change one."""
    return any(part is not None and not part.is_empty for part in (role.grant, role.revoke))


def _check_form(request: HttpRequest) -> None:
    """A broken query fails only here, after everything has been found (as in etcd)."""
    try:
        read_form(request)
    except FormError:
        raise internal_error() from None
