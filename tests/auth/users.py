"""Users of a member in tests: made, switched on, logged in."""

import base64
import http.client
import json as jsons
import urllib.parse
from typing import Any, Final, Literal, TypeAlias, TypeVar, final

from google.protobuf.message import Message

from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.auth_pb2 import Permission, UserAddOptions
from tests.support.client import Client

R = TypeVar("R", bound=Message)
Kind: TypeAlias = Literal["READ", "WRITE", "READWRITE"]


@final
class As:
    """A client that shows something with every call."""

    def __init__(self, client: Client, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._client: Final = client
        self.metadata: Final = metadata
        self.channel: Final = client.channel

    def call(self, method: str, request: Message, response: type[R]) -> R:
        """Make a unary call. Raises grpc.RpcError."""
        return self._client.call(method, request, response, self.metadata)

    def auth(self, name: str, /, **fields: Any) -> Any:
        """A call of the Auth service by its name and its request's fields."""
        prefix = "" if name.startswith("Auth") else "Auth"
        request = getattr(pb, f"{prefix}{name}Request")(**fields)
        return self.call(f"etcdserverpb.Auth/{name}", request, getattr(pb, f"{prefix}{name}Response"))

    def put(self, key: bytes, value: bytes, **fields: Any) -> pb.PutResponse:
        """KV.Put."""
        return self.call("etcdserverpb.KV/Put", pb.PutRequest(key=key, value=value, **fields), pb.PutResponse)

    def range(self, key: bytes, range_end: bytes = b"", **fields: Any) -> pb.RangeResponse:
        """KV.Range."""
        request = pb.RangeRequest(key=key, range_end=range_end, **fields)
        return self.call("etcdserverpb.KV/Range", request, pb.RangeResponse)

    def txn(self, *success: pb.RequestOp, compare: tuple[pb.Compare, ...] = ()) -> pb.TxnResponse:
        """KV.Txn."""
        request = pb.TxnRequest(compare=compare, success=success)
        return self.call("etcdserverpb.KV/Txn", request, pb.TxnResponse)

    def grant(self, ttl: int, lease_id: int) -> pb.LeaseGrantResponse:
        """Lease.LeaseGrant."""
        request = pb.LeaseGrantRequest(TTL=ttl, ID=lease_id)
        return self.call("etcdserverpb.Lease/LeaseGrant", request, pb.LeaseGrantResponse)

    def keep_alive(self, lease_id: int) -> pb.LeaseKeepAliveResponse:
        """Lease.LeaseKeepAlive, once. Raises grpc.RpcError."""
        stub = self.channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=pb.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=pb.LeaseKeepAliveResponse.FromString,
        )
        call = stub(iter([pb.LeaseKeepAliveRequest(ID=lease_id)]), metadata=self.metadata, timeout=20)
        first: pb.LeaseKeepAliveResponse = next(call)
        call.cancel()
        return first

    def watch(self, **fields: Any) -> pb.WatchResponse:
        """The answer to creating a watch."""
        stub = self.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )
        request = pb.WatchRequest(create_request=pb.WatchCreateRequest(**fields))
        call = stub(iter([request]), metadata=self.metadata, timeout=20)
        first: pb.WatchResponse = next(call)
        call.cancel()
        return first


@final
class Users:
    """The users of a member that has none yet; a user's password is its name."""

    def __init__(self, endpoint: str) -> None:
        self._client: Final = Client(endpoint)
        self.nobody: Final = As(self._client)
        self._known: Final[dict[str, As]] = {}

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def at(self, endpoint: str) -> "Users":
        """The same users, logged in already, at another member."""
        other = Users(endpoint)
        for name, known in self._known.items():
            other._known[name] = As(other._client, known.metadata)
        return other

    def add(self, name: str, *roles: str, password: str | None = None, no_password: bool = False) -> None:
        """Make a user with roles that exist."""
        options = UserAddOptions(no_password=True) if no_password else None
        maker = self._known.get("root", self.nobody)
        maker.auth("UserAdd", name=name, password=password or name, options=options)
        for role in roles:
            maker.auth("UserGrantRole", user=name, role=role)

    def role(self, name: str, *permissions: tuple[Kind, bytes, bytes]) -> None:
        """Make a role that may READ, WRITE or READWRITE ranges."""
        maker = self._known.get("root", self.nobody)
        maker.auth("RoleAdd", name=name)
        for kind, key, range_end in permissions:
            perm = Permission(permType=kind, key=key, range_end=range_end)
            maker.auth("RoleGrantPermission", name=name, perm=perm)

    def enable(self) -> None:
        """Check permissions from now on."""
        self.nobody.auth("AuthEnable")

    def log_in(self, name: str, password: str = "") -> As:
        """A client of a user, logged in once."""
        if password or name not in self._known:
            token = self.nobody.auth("Authenticate", name=name, password=password or name).token
            self._known[name] = self.shows("token", token)
        return self._known[name]

    def token_of(self, name: str) -> str:
        """The token of a user who has logged in."""
        return self.log_in(name).metadata[0][1]

    def shows(self, name: str, value: str) -> As:
        """A client that shows a token as metadata."""
        return As(self._client, ((name, value),))


def http_call(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of an HTTP request."""
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname
    connection = http_client(parts.hostname, parts.port)
    try:
        connection.request(method, parts.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def http_client(host: str, port: int | None) -> http.client.HTTPConnection:
    """A connection."""
    return http.client.HTTPConnection(host, port, timeout=20)


def http_ask(
    method: str,
    url: str,
    *,
    json: Any = None,
    form: dict[str, str] | None = None,
    user: str = "",
) -> tuple[int, bytes]:
    """Make a request with JSON or a form, and a name and password."""
    headers: dict[str, str] = {}
    body: bytes | None = None
    if json is not None:
        body = jsons.dumps(json).encode()
        headers["Content-Type"] = "application/json"
    elif form is not None:
        body = urllib.parse.urlencode(form).encode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    return http_call(method, url, body, headers)
