"""The Auth service: changes go through the log, passwords are looked at before and off the loop.

No password gets into the log: a new one is hashed here, and Authenticate's entry says only whose password was
right. If users have changed while it was looked at, it is looked at again. Source: etcd
``server/etcdserver/api/v3rpc/auth.go``, ``server/etcdserver/v3_server.go`` (Authenticate, UserAdd,
UserChangePassword).
"""

import asyncio
from base64 import b64encode
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, final

from google.protobuf.message import Message

from kvorum import errors, limits
from kvorum.api.gate import Gate
from kvorum.api.v3.service import Methods, Service, parse
from kvorum.api.v3.waiting import WaitingCalls
from kvorum.apply.applier import Result
from kvorum.apply.auth import ASKED_HERE
from kvorum.auth.coverage import is_valid
from kvorum.auth.store import ERR_NO_PASSWORD_USER
from kvorum.logging import Logger
from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.raft_internal_pb2 import InternalAuthenticateRequest
from kvorum.rpc.connection import UnaryHandler
from kvorum.rpc.grpc import UnaryCall
from kvorum.server import requests
from kvorum.server.node import Node
from kvorum.server.passwords import Passwords

_SERVICE: Final = "/etcdserverpb.Auth/"

_PLAIN: Final[dict[str, tuple[int, type[Message]]]] = {
    "AuthEnable": (requests.AUTH_ENABLE, pb.AuthEnableRequest),
    "AuthDisable": (requests.AUTH_DISABLE, pb.AuthDisableRequest),
    "AuthStatus": (requests.AUTH_STATUS, pb.AuthStatusRequest),
    "UserGet": (requests.AUTH_USER_GET, pb.AuthUserGetRequest),
    "UserList": (requests.AUTH_USER_LIST, pb.AuthUserListRequest),
    "UserDelete": (requests.AUTH_USER_DELETE, pb.AuthUserDeleteRequest),
    "UserGrantRole": (requests.AUTH_USER_GRANT_ROLE, pb.AuthUserGrantRoleRequest),
    "UserRevokeRole": (requests.AUTH_USER_REVOKE_ROLE, pb.AuthUserRevokeRoleRequest),
    "RoleAdd": (requests.AUTH_ROLE_ADD, pb.AuthRoleAddRequest),
    "RoleGet": (requests.AUTH_ROLE_GET, pb.AuthRoleGetRequest),
    "RoleList": (requests.AUTH_ROLE_LIST, pb.AuthRoleListRequest),
    "RoleDelete": (requests.AUTH_ROLE_DELETE, pb.AuthRoleDeleteRequest),
    "RoleRevokePermission": (requests.AUTH_ROLE_REVOKE_PERMISSION, pb.AuthRoleRevokePermissionRequest),
}
"""Methods whose requests go into the log as they come: the field there, and the message."""


@final
class AuthService(Service):
    """All methods of etcd's Auth service."""

    def __init__(self, node: Node, gate: Gate, passwords: Passwords, log: Logger) -> None:
        super().__init__(node, gate)
        self._passwords: Final = passwords
        self._log: Final = log
        self.waiting: Final = WaitingCalls(max_total=limits.MAX_AUTH_CALLS)

    def register(self, server: Methods) -> None:
        """Put the service's methods into the server's table."""
        for name, (number, kind) in _PLAIN.items():
            server.unary(_SERVICE + name, self._plain(number, kind))
        server.unary(_SERVICE + "RoleGrantPermission", self.grant_permission)
        server.unary(_SERVICE + "UserAdd", self.user_add)
        server.unary(_SERVICE + "UserChangePassword", self.user_change_password)
        server.unary(_SERVICE + "Authenticate", self.authenticate)

    def _plain(self, number: int, kind: type[Message]) -> UnaryHandler:
        def propose(call: UnaryCall, body: bytes) -> None:
            parse(kind, body)
            self.propose(call, number, body)

        return propose

    def grant_permission(self, call: UnaryCall, body: bytes) -> None:
        """Add a permission to a role; one that covers no key is refused, as by etcd 3.6.

        Refused here and not when it is applied, since members of etcd 3.5 apply it.
        """
        request = parse(pb.AuthRoleGrantPermissionRequest, body)
        if request.HasField("perm") and not is_valid(request.perm.key, request.perm.range_end):
            raise errors.ERR_INVALID_AUTH_MGMT
        self.propose(call, requests.AUTH_ROLE_GRANT_PERMISSION, body)

    # --- passwords ----------------------------------------------------------------------------------------

    def user_add(self, call: UnaryCall, body: bytes) -> None:
        """Make a user."""
        request = parse(pb.AuthUserAddRequest, body)
        password, request.password = request.password, ""
        if request.options.no_password or not request.name:
            self.propose(call, requests.AUTH_USER_ADD, request.SerializeToString())
            return
        self._start(call, self._hash(call, requests.AUTH_USER_ADD, request, password))

    def user_change_password(self, call: UnaryCall, body: bytes) -> None:
        """Give a user another password."""
        request = parse(pb.AuthUserChangePasswordRequest, body)
        password, request.password = request.password, ""
        if not password:
            self.propose(call, requests.AUTH_USER_CHANGE_PASSWORD, body)
            return
        self._start(call, self._hash(call, requests.AUTH_USER_CHANGE_PASSWORD, request, password))

    async def _hash(
        self,
        call: UnaryCall,
        number: int,
        request: pb.AuthUserAddRequest | pb.AuthUserChangePasswordRequest,
        password: str,
    ) -> bytes:
        hashed = await self._passwords.hashed(password.encode(), request.name, call.connection)
        request.hashedPassword = b64encode(hashed).decode()
        return await self._applied(number, request.SerializeToString(), self.gate.entry(call))

    def authenticate(self, call: UnaryCall, body: bytes) -> None:
        """Answer with a token, if the password is right."""
        request = parse(pb.AuthenticateRequest, body)
        self._start(call, self._authenticate(call, request.name, request.password))

    async def _authenticate(self, call: UnaryCall, name: str, password: str) -> bytes:
        await self.node.linearizable_read()
        while True:
            hashed = self._password_of(name)
            revision = self.users.revision
            if not await self._passwords.match(password.encode(), hashed, name, call.connection):
                self._log.info("invalid password", user_name=name)
                raise errors.ERR_AUTH_FAILED
            entry = InternalAuthenticateRequest(name=name, simple_token=self.node.auth.new_prefix())
            answer = await self._applied(requests.AUTHENTICATE, entry.SerializeToString(), b"", ASKED_HERE)
            if revision == self.users.revision:
                return answer
            self._log.info("revision when password checked became stale; retrying")

    def _password_of(self, name: str) -> bytes:
        """The hash of a user's password.

        Raises:
            EtcdError: ERR_AUTH_NOT_ENABLED, ERR_AUTH_FAILED, ERR_NO_PASSWORD_USER.
        """
        if not self.users.enabled:
            raise errors.ERR_AUTH_NOT_ENABLED
        user = self.users.user(name)
        if user is None:
            self._log.warn("invalid authentication was requested", user=name)
            raise errors.ERR_AUTH_FAILED
        if user.options.no_password:
            raise ERR_NO_PASSWORD_USER
        return user.password

    # --- waiting ------------------------------------------------------------------------------------------

    def _start(self, call: UnaryCall, answer: Coroutine[Any, Any, bytes]) -> None:
        self.waiting.start(call, answer, result_of=asyncio.Task.result)

    async def _applied(self, number: int, body: bytes, who: bytes, parsed: object = None) -> bytes:
        """Put a request into the log; returns the answer.

        Raises:
            EtcdError: what applying it gave, or as ``Node.propose``.
        """
        applied: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.node.propose(number, body, partial(_settle, applied), parsed, who)
        result = await applied
        if result.error is not None:
            raise result.error
        return self.header.encode(result.revision or self.node.revision, self.node.term) + result.body


def _settle(applied: "asyncio.Future[Result]", result: Result) -> None:
    if not applied.done():
        applied.set_result(result)
