"""Joining through a directory of a v2 server: ``--discovery http://host/v2/keys/<prefix>/<token>``.

Somebody has put the number of members into ``<token>/_config/size``. Each member

1. looks: with as many others there as there shall be, the cluster is full;
2. puts its peer URLs into ``<token>/<its own ID>``, which must not be there yet;
3. looks and waits for an event below the token, until there are enough.

The first ``size`` members by ``createdIndex`` are the cluster, so all of them come to the same list, whatever
the order in which they looked. What is not etcd's: after each event the directory is read again, where etcd
takes the event itself for a member (so that a key that expires is one more), and an answer that takes too
long or a history that has gone over the waiting index ends nothing. Source of behaviour: etcd
``v2discovery/discovery.go``, ``client/v2``.
"""

import json
import posixpath
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NoReturn, final
from urllib.parse import quote, urlencode, urlsplit

from kvorum import limits
from kvorum.discovery.backoff import Backoff
from kvorum.discovery.errors import (
    BadEndpointError,
    BadSizeError,
    DiscoveryError,
    DuplicateIdError,
    DuplicateNameError,
    FullClusterError,
    InvalidUrlError,
    SizeNotFoundError,
    UnavailableError,
)
from kvorum.discovery.http import Answer, Client, HttpClient, parse_proxy
from kvorum.golang import MAX_UINT64
from kvorum.logging import Logger, hex_id
from kvorum.urls import parse_cluster

_KEY_NOT_FOUND: Final = 100
_NODE_EXIST: Final = 105
_EVENT_INDEX_CLEARED: Final = 401
_CONFIG: Final = "_config"
_SERVER_ERROR: Final = 5
_LONGEST_NUMBER: Final = len(str(MAX_UINT64))


@final
@dataclass(frozen=True)
class Registered:
    """A member's key below the token."""

    name: str
    """The last part of the key: the member's ID."""
    value: str
    """``name=peerURL,...``."""
    created_index: int


@final
@dataclass(frozen=True)
class Found:
    """What there was at one look."""

    members: tuple[Registered, ...]
    """In the order in which they came; never more than ``size``."""
    size: int
    index: int
    """Where to wait from."""


@final
class _RefusedError(Exception):
    """An error of the v2 API."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.code: Final = fields.get("errorCode")
        cause, index = fields.get("cause", ""), fields.get("index", 0)
        super().__init__(f"{self.code}: {fields.get('message', '')} ({cause}) [{index}]")


@final
class V2Discovery:
    """One member's (or proxy's) way to its cluster. One use: ``join`` or ``look_up``."""

    def __init__(
        self, url: str, member_id: int, client: Client, log: Logger, backoff: Backoff | None = None
    ) -> None:
        """``member_id`` is the ID to register with; 0 for who only looks."""
        parts = urlsplit(url)
        self._server: Final = f"{parts.scheme}://{parts.netloc}"
        self._token: Final = posixpath.normpath(f"/{parts.path}").replace("//", "/")
        self._self: Final = hex_id(member_id)
        self._client: Final = client
        self._log: Final = log
        self._backoff: Final = backoff or Backoff()
        self._said: Final[set[str]] = set()

    async def join(self, peer_urls: str) -> str:
        """Register ``name=peerURL,...`` and wait for the others; returns the whole cluster in that form.

        Raises:
            DiscoveryError: this does not come to a cluster with this member in it.
        """
        await self._look()  # who is too late leaves no trace
        await self._register(peer_urls)
        return await self._all(await self._look())

    async def look_up(self) -> str:
        """Wait until all have registered, without being one of them; returns the cluster.

        Raises:
            DiscoveryError: as for ``join``.
        """
        try:
            return await self._all(await self._look())
        except FullClusterError as full:
            return _cluster(full.members, len(full.members))

    async def _all(self, found: Found) -> str:
        self._say_who(found)
        while len(found.members) < found.size:
            self._info(
                "found peers from discovery server; waiting for more",
                {"found-peers": len(found.members), "needed-peers": found.size - len(found.members)},
            )
            await self._wait(found.index + 1)
            found = await self._look()
            self._say_who(found)
        self._info("found all needed peers from discovery server", {"found-peers": len(found.members)})
        return _cluster([member.value for member in found.members], found.size)

    # --- the three steps ----------------------------------------------------------------------------------

    async def _look(self) -> Found:
        """What there is now, asked for until there is an answer. Raises DiscoveryError."""
        while True:
            path = f"{self._token}/{_CONFIG}/size"
            try:
                size = await self._size(path)
                path = self._token
                found = self._ranked(await self._keys("GET", path), size)
            except (UnavailableError, TimeoutError) as error:
                self._warn("failed to get from discovery server", error, path=path)
                await self._back_off("cluster status check")
            except _RefusedError as error:
                raise DiscoveryError(str(error)) from None
            else:
                self._backoff.succeeded()
                return found

    async def _register(self, value: str) -> None:
        """Put this member's key. Raises DiscoveryError: as in etcd a lost answer ends it, too, since the key
        may be there or not.
        """
        path = f"{self._token}/{self._self}"
        try:
            answer = await self._keys("PUT", path, {"prevExist": "false"}, urlencode({"value": value}))
            created = int(answer["node"]["createdIndex"])
        except _RefusedError as error:
            if error.code == _NODE_EXIST:
                raise DuplicateIdError from None
            raise DiscoveryError(str(error)) from None
        except UnavailableError as error:
            raise DiscoveryError(_unavailable(error)) from None
        except TimeoutError:
            raise DiscoveryError("context deadline exceeded") from None
        except (KeyError, TypeError, ValueError):
            raise BadEndpointError from None
        await self._wait(created, path)  # until the server that is asked has it as well

    async def _wait(self, index: int, path: str = "") -> None:
        """Wait for an event, or for a reason to look again. Raises DiscoveryError."""
        query = {"wait": "true", "waitIndex": str(index)} | ({} if path else {"recursive": "true"})
        try:
            await self._keys(
                "GET", path or self._token, query, timeout_seconds=limits.DISCOVERY_WATCH_SECONDS
            )
        except TimeoutError:
            pass  # whether anybody is still there shows when looking
        except UnavailableError as error:
            self._warn("error while waiting for peers", error)
            await self._back_off("waiting for other nodes")
        except _RefusedError as error:
            if error.code != _EVENT_INDEX_CLEARED:
                raise DiscoveryError(str(error)) from None

    # --- what they ask of the server ----------------------------------------------------------------------

    async def _size(self, path: str) -> int:
        try:
            answer = await self._keys("GET", path)
        except _RefusedError as error:
            if error.code == _KEY_NOT_FOUND:
                raise SizeNotFoundError from None
            raise
        text = _fields(answer.get("node")).get("value")
        if not isinstance(text, str) or not (text.isascii() and text.isdigit()):
            raise BadSizeError
        digits = text.lstrip("0")
        if not digits or len(digits) > _LONGEST_NUMBER or int(digits) > MAX_UINT64:
            raise BadSizeError
        return int(digits)

    def _ranked(self, answer: dict[str, Any], size: int) -> Found:
        """The members in a listing of the token, the first ``size`` of them. Raises DiscoveryError."""
        try:
            members = [
                Registered(posixpath.basename(node["key"]), node.get("value", ""), int(node["createdIndex"]))
                for node in _fields(answer["node"]).get("nodes") or ()
                if posixpath.basename(node["key"]) != _CONFIG
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadEndpointError from None
        members.sort(key=lambda member: member.created_index)
        first = tuple(members[:size])
        if len(first) == size and all(member.name != self._self for member in first):
            raise FullClusterError([member.value for member in first])
        return Found(first, size, answer["index"])

    async def _keys(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        form: str = "",
        timeout_seconds: float = limits.DISCOVERY_REQUEST_SECONDS,
    ) -> dict[str, Any]:
        """Ask for a key; the answer's JSON, with the server's ``index``.

        Raises:
            _RefusedError, UnavailableError, TimeoutError: no answer, or an error.
            BadEndpointError: what answers is not the v2 API.
        """
        url = f"{self._server}{quote(path)}" + (f"?{urlencode(query)}" if query else "")
        answer = await self._client.request(method, url, form=form, timeout_seconds=timeout_seconds)
        if answer.status // 100 == _SERVER_ERROR:
            self._server_failed(answer)
        if not answer.body and answer.status == HTTPStatus.OK:
            raise UnavailableError("client: response body is empty")  # a wait that the server ended
        try:
            fields = json.loads(answer.body)
            index = int(answer.headers.get("x-etcd-index") or 0)
        except ValueError:
            raise BadEndpointError from None
        if not isinstance(fields, dict):
            raise BadEndpointError
        if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
            raise _RefusedError(fields)
        return fields | {"index": index}

    def _server_failed(self, answer: Answer) -> NoReturn:
        if answer.status in (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE):
            raise UnavailableError(f"client: etcd member {self._server} has no leader")
        try:
            phrase = HTTPStatus(answer.status).phrase
        except ValueError:
            phrase = ""
        raise UnavailableError(f"client: etcd member {self._server} returns server error [{phrase}]")

    # --- what is said -------------------------------------------------------------------------------------

    def _say_who(self, found: Found) -> None:
        for member in found.members:
            if member.name in self._said:
                continue
            self._said.add(member.name)
            if member.name == self._self:
                self._info("found self from discovery server", {"self": member.name})
            else:
                self._info("found peer from discovery server", {"peer": member.name})

    def _info(self, message: str, fields: dict[str, object]) -> None:
        self._log.info(message, {"discovery-url": self._server, **fields})

    def _warn(self, message: str, error: Exception, **fields: object) -> None:
        detail = f"error #0: {_reason(error)}\n"
        self._log.warn(
            message,
            {
                "discovery-url": self._server,
                **fields,
                "error": _unavailable(error),
                "err-detail": detail,
            },
        )

    async def _back_off(self, step: str) -> None:
        await self._backoff.wait(
            lambda seconds: self._log.info(
                "retry connecting to discovery service", url=self._server, reason=step, backoff=seconds
            )
        )


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unavailable(error: Exception) -> str:
    return f"client: etcd cluster is unavailable or misconfigured; error #0: {_reason(error)}"


def _reason(error: Exception) -> str:
    return str(error) or "context deadline exceeded"


def _cluster(values: list[str] | tuple[str, ...], size: int) -> str:
    """What members registered, as one cluster. Raises DiscoveryError."""
    text = ",".join(values)
    try:
        members = parse_cluster(text)
    except ValueError:
        raise InvalidUrlError from None
    if len(members) != size:
        raise DuplicateNameError
    return text


def http_client(proxy: str, log: Logger) -> HttpClient:
    """The client for ``--discovery-proxy``; says so if there is one.

    Raises:
        DiscoveryError: the proxy's address is none.
    """
    try:
        parsed = parse_proxy(proxy)
    except ValueError as error:
        raise DiscoveryError(str(error)) from None
    if parsed is not None:
        log.info("running proxy with discovery", {"proxy-url": parsed.geturl()})
    return HttpClient(parsed)
