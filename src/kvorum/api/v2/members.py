"""``/v2/members`` and ``/v2/machines``: who is in the cluster, and changes of that.

Source of behaviour: etcd 3.4.23 ``v2http/client.go`` (membersHandler, machinesHandler), ``httptypes``.
"""

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, final

from kvorum.api.v2.answers import NOT_AUTHORISED, Answers, MessageError, method_not_allowed
from kvorum.api.v2.credentials import Access
from kvorum.api.v2.go_json import error_text, kind_of
from kvorum.errors import ERR_MEMBER_EXIST, ERR_MEMBER_NOT_FOUND, ERR_PEER_URL_EXIST, EtcdError
from kvorum.golang import MAX_UINT64, json_string
from kvorum.logging import hex_id
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import TEXT_PLAIN, HttpRequest, HttpResponse
from kvorum.server.changes import ERR_ID_REMOVED, MemberInfo
from kvorum.urls import parse_urls

PREFIX: Final = "/v2/members"
_METHODS: Final = ("GET", "POST", "DELETE", "PUT")
_HEX: Final = frozenset("0123456789abcdefABCDEF")


class Cluster(Protocol):
    """Who is in the cluster (``server/membership.py``)."""

    def listed(self) -> list[MemberInfo]:
        """The members in the order of their IDs."""

    def member(self, member_id: int) -> MemberInfo | None:
        """A member; None if there is none of that ID."""


class Changes(Protocol):
    """Membership changes (``server/reconfigure.py``); each raises EtcdError."""

    async def add_member(self, urls: Sequence[str], is_learner: bool) -> tuple[MemberInfo, list[MemberInfo]]:
        """Add a member; returns it and all."""

    async def remove_member(self, member_id: int) -> list[MemberInfo]:
        """Remove a member."""

    async def update_member(self, member_id: int, urls: Sequence[str]) -> list[MemberInfo]:
        """Give a member other peer URLs."""


@final
class MembersHandler:
    """Lists members and changes who they are. ``leader`` gives the leader's ID, 0 if there is none."""

    def __init__(
        self, answers: Answers, access: Access, cluster: Cluster, changes: Changes, leader: Callable[[], int]
    ) -> None:
        self._answers: Final = answers
        self._access: Final = access
        self._cluster: Final = cluster
        self._changes: Final = changes
        self._leader: Final = leader

    def install(self, http: HttpServer) -> None:
        """Register the paths."""
        for path in (PREFIX, PREFIX + "/"):
            http.route(_METHODS, path, self)
        http.route(("GET", "HEAD"), "/v2/machines", self.machines)

    def __call__(self, request: HttpRequest) -> Coroutine[Any, Any, HttpResponse] | HttpResponse:
        """Answer a request below ``/v2/members``."""
        if request.method != "GET":
            return self._change(request)
        try:
            return self._look(request.path[len(PREFIX) :].removeprefix("/"))
        except MessageError as error:
            return self._answers.refusal(error)

    def machines(self, request: HttpRequest) -> HttpResponse:
        """The client URLs of all members."""
        urls = sorted(url for member in self._cluster.listed() for url in member.client_urls)
        return HttpResponse(200, ", ".join(urls).encode(), (TEXT_PLAIN,) if urls else ())

    # --- looking ------------------------------------------------------------------------------------------

    def _look(self, rest: str) -> HttpResponse:
        if not rest:
            members = ",".join(map(_json_of, self._cluster.listed()))
            return self._answers.json(f'{{"members":[{members}]}}\n')
        if rest == "leader":
            member = self._cluster.member(self._leader())
            if member is None:
                raise MessageError(503, "During election")
            return self._answers.json(_json_of(member) + "\n")
        raise MessageError(404, "Not found")

    # --- changing -----------------------------------------------------------------------------------------

    async def _change(self, request: HttpRequest) -> HttpResponse:
        if not await self._access.is_root(request):
            return NOT_AUTHORISED.response()
        rest = request.path[len(PREFIX) :].removeprefix("/")
        try:
            if request.method == "POST":
                return await self._add(request)
            if not rest:
                return method_not_allowed((), self._answers.cluster)
            return await self._change_one(request, rest)
        except (MessageError, EtcdError) as error:
            return self._answers.refusal(error)

    async def _add(self, request: HttpRequest) -> HttpResponse:
        urls = _urls_of(request)
        try:
            member, _ = await self._changes.add_member(urls, is_learner=False)
        except EtcdError as error:
            if error.message == ERR_MEMBER_EXIST.message:
                raise MessageError(409, "membership: ID exists") from None
            raise _url_conflict(error) from None
        return self._answers.json(_json_of(member) + "\n", 201)

    async def _change_one(self, request: HttpRequest, rest: str) -> HttpResponse:
        member_id = int(rest, 16) if len(rest.lstrip("0")) <= 16 and _HEX.issuperset(rest) else MAX_UINT64 + 1
        if member_id > MAX_UINT64:
            raise MessageError(404, f"No such member: {rest}")
        if not member_id:  # nobody's ID, and in the log the sign of a change that changes nothing
            raise MessageError(404, "No such member: 0")
        urls = _urls_of(request) if request.method == "PUT" else []
        try:
            if request.method == "PUT":
                await self._changes.update_member(member_id, urls)
            else:
                await self._changes.remove_member(member_id)
        except EtcdError as error:
            if error is ERR_ID_REMOVED and request.method == "DELETE":
                raise MessageError(410, f"Member permanently removed: {hex_id(member_id)}") from None
            if error is ERR_MEMBER_NOT_FOUND:
                raise MessageError(404, f"No such member: {hex_id(member_id)}") from None
            raise _url_conflict(error) from None
        return HttpResponse(204, b"", (self._answers.cluster,))


def _url_conflict(error: EtcdError) -> MessageError | EtcdError:
    """What etcd says where a peer URL is taken; other errors are as they are."""
    if error.message == ERR_PEER_URL_EXIST.message:
        return MessageError(409, "membership: peerURL exists")
    return error.forget()


def _json_of(member: MemberInfo) -> str:
    peers = ",".join(map(json_string, member.peer_urls))
    clients = ",".join(map(json_string, member.client_urls))
    return (
        f'{{"id":"{hex_id(member.id)}","name":{json_string(member.name)},'
        f'"peerURLs":[{peers}],"clientURLs":[{clients}]}}'
    )


def _urls_of(request: HttpRequest) -> list[str]:
    """The peer URLs that a request names; raises MessageError in etcd's and Go's words."""
    kind, semicolon, _ = (request.header("content-type") or "").partition(";")
    if semicolon:
        kind = kind.lower().strip()
    if kind != "application/json":
        raise MessageError(415, f"Bad Content-Type {kind}, accept application/json")
    try:
        return [str(url) for url in parse_urls(_peer_urls(request.body))]
    except ValueError as error:
        raise MessageError(400, str(error)) from None


def _peer_urls(body: bytes) -> list[str]:
    fault = error_text(body)
    if fault:
        raise ValueError(fault)
    value = json.loads(body.decode("utf-8", "replace"))
    if value is not None and not isinstance(value, dict):
        struct = 'struct { PeerURLs []string "json:\\"peerURLs\\"" }'
        raise ValueError(f"json: cannot unmarshal {kind_of(value)} into Go value of type {struct}")
    found = [item for name, item in (value or {}).items() if name.lower() == "peerurls" and item is not None]
    urls = found[-1] if found else []
    where = "into Go struct field .peerURLs of type"
    if not isinstance(urls, list):
        raise ValueError(f"json: cannot unmarshal {kind_of(urls)} {where} []string")
    for url in urls:
        if url is not None and not isinstance(url, str):
            raise ValueError(f"json: cannot unmarshal {kind_of(url)} {where} string")
    if not urls:
        raise ValueError("no valid URLs given")
    return [url or "" for url in urls]
