"""Two servers, and the users who have logged in to both."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast, final

import grpc
from google.protobuf.message import Message

from kvorum import errors
from kvorum.errors import EtcdError
from kvorum.proto import rpc_pb2 as pb
from tests.differential.responses import RESPONSES
from tests.support import process
from tests.support.client import Client
from tests.support.process import Member

ANSWERS: Final[dict[str, type[Message]]] = {
    **RESPONSES,
    "etcdserverpb.Cluster/MemberList": pb.MemberListResponse,
    "etcdserverpb.Maintenance/Status": pb.StatusResponse,
    "etcdserverpb.Maintenance/Hash": pb.HashResponse,
    "etcdserverpb.Maintenance/Alarm": pb.AlarmResponse,
    "etcdserverpb.Auth/AuthEnable": pb.AuthEnableResponse,
    "etcdserverpb.Auth/AuthDisable": pb.AuthDisableResponse,
    "etcdserverpb.Auth/AuthStatus": pb.AuthStatusResponse,
    "etcdserverpb.Auth/Authenticate": pb.AuthenticateResponse,
    "etcdserverpb.Auth/UserAdd": pb.AuthUserAddResponse,
    "etcdserverpb.Auth/UserGet": pb.AuthUserGetResponse,
    "etcdserverpb.Auth/UserList": pb.AuthUserListResponse,
    "etcdserverpb.Auth/UserDelete": pb.AuthUserDeleteResponse,
    "etcdserverpb.Auth/UserChangePassword": pb.AuthUserChangePasswordResponse,
    "etcdserverpb.Auth/UserGrantRole": pb.AuthUserGrantRoleResponse,
    "etcdserverpb.Auth/UserRevokeRole": pb.AuthUserRevokeRoleResponse,
    "etcdserverpb.Auth/RoleAdd": pb.AuthRoleAddResponse,
    "etcdserverpb.Auth/RoleGet": pb.AuthRoleGetResponse,
    "etcdserverpb.Auth/RoleList": pb.AuthRoleListResponse,
    "etcdserverpb.Auth/RoleDelete": pb.AuthRoleDeleteResponse,
    "etcdserverpb.Auth/RoleGrantPermission": pb.AuthRoleGrantPermissionResponse,
    "etcdserverpb.Auth/RoleRevokePermission": pb.AuthRoleRevokePermissionResponse,
}

WATCH: Final = "etcdserverpb.Watch/Watch"
KEEP_ALIVE: Final = "etcdserverpb.Lease/LeaseKeepAlive"
STREAMS: Final[dict[str, tuple[type[Message], type[Message]]]] = {
    WATCH: (pb.WatchRequest, pb.WatchResponse),
    KEEP_ALIVE: (pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse),
}

INVALID: Final = "invalid"
"""The actor whose token is none."""
NOBODY: Final = ""
"""The actor without one."""

_TEXTS: Final = {
    "auth: user name is empty": errors.ERR_USER_EMPTY,
    "auth: user not found": errors.ERR_USER_NOT_FOUND,
    "auth: permission denied": errors.ERR_PERMISSION_DENIED,
    "auth: invalid auth token": errors.ERR_INVALID_AUTH_TOKEN,
    "auth: revision in header is old": errors.ERR_AUTH_OLD_REVISION,
}
"""What the Maintenance service of etcd 3.5.1 forgets to turn into errors of gRPC."""

Told = tuple[str, str]
"""A refusal: code and text."""


def told(error: EtcdError) -> Told:
    """A refusal as a client sees it."""
    return errors.CODE_NAMES[error.code], error.message


@dataclass(frozen=True)
class Step:
    """A call by an actor."""

    actor: str
    method: str
    request: Message

    def __str__(self) -> str:
        shown = " ".join(str(self.request).split())
        return f"{self.actor or 'nobody'}: {self.method.rpartition('/')[2]}({shown})"


@final
class Server:
    """One of the two, and its users' tokens."""

    def __init__(self, name: str, member: Member) -> None:
        self.name: Final = name
        self.client: Final = Client(member.endpoint)
        self.tokens: Final[dict[str, str]] = {}

    def metadata(self, actor: str) -> list[tuple[str, str]]:
        """What an actor shows."""
        if actor == INVALID:
            return [("token", "nonsense.1")]
        token = self.tokens.get(actor)
        return [("token", token)] if token else []

    def call(self, step: Step) -> object:
        """Make a call; returns what is compared."""
        try:
            if step.method in STREAMS:
                return _comparable(self._first(step))
            answer = self.client.call(
                step.method, step.request, ANSWERS[step.method], self.metadata(step.actor)
            )
        except grpc.RpcError as refusal:
            call = cast("grpc.Call", refusal)
            known = _TEXTS.get(call.details() or "")
            return told(known) if known is not None else _names(call.code().name, call.details() or "")
        return _comparable(answer)

    def _first(self, step: Step) -> Message:
        """The first answer of a stream that is then left."""
        kind, answer = STREAMS[step.method]
        stub = self.client.channel.stream_stream(
            f"/{step.method}",
            request_serializer=kind.SerializeToString,
            response_deserializer=answer.FromString,
        )
        call = stub(
            iter([step.request]), metadata=self.metadata(step.actor), timeout=self.client.timeout_seconds
        )
        try:
            return cast("Message", next(call))
        finally:
            call.cancel()

    def log_in(self, user: str, password: str) -> object:
        """Authenticate; returns the refusal, or that there was none."""
        request = pb.AuthenticateRequest(name=user, password=password)
        try:
            answer = self.client.call("etcdserverpb.Auth/Authenticate", request, pb.AuthenticateResponse)
        except grpc.RpcError as refusal:
            call = cast("grpc.Call", refusal)
            return call.code().name, call.details()
        self.tokens[user] = answer.token
        return "token"

    # --- between programs -----------------------------------------------------------------------------------

    def clean(self) -> None:
        """No users, no roles, no keys, no leases."""
        self._as_root("AuthDisable", pb.AuthDisableRequest())
        self.tokens.clear()  # 3.5.1 refuses those that have been good even now
        for user in self._as_root("UserList", pb.AuthUserListRequest()).users:
            self._as_root("UserDelete", pb.AuthUserDeleteRequest(name=user))
        for role in self._as_root("RoleList", pb.AuthRoleListRequest()).roles:
            self._as_root("RoleDelete", pb.AuthRoleDeleteRequest(role=role))
        leases = self.client.call(
            "etcdserverpb.Lease/LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse
        )
        for lease in sorted(leases.leases, key=lambda each: each.ID):
            self.client.call(
                "etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease.ID), pb.LeaseRevokeResponse
            )
        self.client.delete(b"\0", b"\0")

    def _as_root(self, name: str, request: Message) -> Any:
        method = f"etcdserverpb.Auth/{name}"
        try:
            return self.client.call(method, request, ANSWERS[method], self.metadata("root"))
        except grpc.RpcError:
            assert self.log_in("root", "root") == "token"
            return self.client.call(method, request, ANSWERS[method], self.metadata("root"))


def _names(code: str, text: str) -> Told:
    """A code as Go names it."""
    return "".join(part.capitalize() for part in code.split("_")), text


def _comparable(answer: Message) -> object:
    """An answer without what may differ."""
    shown: Any = answer
    if isinstance(answer, pb.StatusResponse | pb.MemberListResponse | pb.HashResponse):
        return type(answer).__name__
    revision = shown.header.revision
    shown.ClearField("header")
    if isinstance(answer, pb.LeaseTimeToLiveResponse):
        answer.ClearField("TTL")
        answer.keys[:] = sorted(answer.keys)
    elif isinstance(answer, pb.LeaseLeasesResponse):
        return sorted(each.ID for each in answer.leases)
    elif isinstance(answer, pb.LeaseKeepAliveResponse):
        answer.ClearField("TTL")
    elif isinstance(answer, pb.AuthenticateResponse):
        answer.ClearField("token")
    elif isinstance(answer, pb.AuthStatusResponse):
        answer.ClearField("authRevision")
    elif isinstance(answer, pb.WatchResponse):
        return answer.created, answer.canceled, answer.cancel_reason
    elif isinstance(answer, pb.TxnResponse):
        _without_headers(answer)
    return revision, answer


def _without_headers(answer: pb.TxnResponse) -> None:
    for part in answer.responses:
        kind = part.WhichOneof("response")
        if kind is not None:
            inner = getattr(part, kind)
            inner.ClearField("header")
            if isinstance(inner, pb.TxnResponse):
                _without_headers(inner)


@final
class World:
    """Both servers, started afresh; ``close`` ends them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._members: Final = [
            Member(program(), folder / f"{name}.etcd", flags=("--bcrypt-cost=4",))
            for name, program in _PROGRAMS.items()
        ]
        for member in self._members:
            member.start(wait=False)
        for member in self._members:
            member.wait_ready()
        self.etcd, self.kvorum = (
            Server(name, member) for name, member in zip(_PROGRAMS, self._members, strict=True)
        )

    def __iter__(self) -> Any:
        return iter((self.etcd, self.kvorum))

    def close(self) -> None:
        """End both."""
        for server in self:
            server.client.close()
        for member in self._members:
            member.close()


_PROGRAMS: Final[dict[str, Callable[[], process.Program]]] = {
    "etcd": process.etcd,
    "kvorum": process.kvorum,
}
