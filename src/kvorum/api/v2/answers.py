"""How v2 answers look: events and errors as JSON, with the headers that say where the store stands.

``/v2/keys`` puts its head together by hand, since it is answered tens of thousands of times a second; the
others name their headers. Headers stand in the order of their names, as Go sends them. Source of behaviour:
etcd 3.4.23 ``v2http/client.go`` (writeKeyEvent, handleKeyWatch), ``v2error``, ``httptypes``.
"""

from typing import Final, Protocol, final

from kvorum.errors import EtcdError
from kvorum.golang import json_string
from kvorum.logging import hex_id
from kvorum.rpc.http1_types import APPLICATION_JSON, NO_SNIFF, TEXT_PLAIN, HttpRequest, HttpResponse
from kvorum.server.v2 import Outcome
from kvorum.v2store.errors import RAFT_INTERNAL, V2Error
from kvorum.v2store.event import Event

KEYS: Final = "/1"
"""Cut off the beginning of keys and causes (etcd ``StoreKeysPrefix``)."""

_JSON_LINE: Final = b"Content-Type: application/json\r\n"


class Position(Protocol):
    """Where the log stands (the node)."""

    @property
    def committed_index(self) -> int:
        """The highest index known to be committed."""

    @property
    def term(self) -> int:
        """Raft's term."""


@final
class Answers:
    """Makes the answers of one member of one cluster."""

    def __init__(self, position: Position, cluster_id: int) -> None:
        self._position: Final = position
        self._cluster_line: Final = f"X-Etcd-Cluster-Id: {hex_id(cluster_id)}\r\n".encode()
        self.cluster: Final = ("X-Etcd-Cluster-Id", hex_id(cluster_id))
        """The header for answers that are not about keys."""

    def outcome(self, request: HttpRequest, outcome: Outcome, no_value: bool = False) -> HttpResponse:
        """What a request for a key came to; ``no_value`` is ``noValueOnSuccess``."""
        if isinstance(outcome, Event):
            self._say_where(request, outcome.etcd_index)
            body = outcome.to_json(KEYS, no_value=no_value) + b"\n"
            return HttpResponse(201 if outcome.is_created else 200, body, ())
        if isinstance(outcome, EtcdError):
            outcome = V2Error(RAFT_INTERNAL, outcome.message)
        request.extra_head += b"%b%bX-Etcd-Index: %d\r\n" % (_JSON_LINE, self._cluster_line, outcome.index)
        return HttpResponse(outcome.status, outcome.to_json(KEYS) + b"\n", ())

    def begin_stream(self, request: HttpRequest, start_index: int) -> None:
        """Send the head of a long poll's answer."""
        self._say_where(request, start_index)
        request.begin(HttpResponse(200, b"", ()))

    def _say_where(self, request: HttpRequest, index: int) -> None:
        position = self._position
        request.extra_head += b"%b%bX-Etcd-Index: %d\r\nX-Raft-Index: %d\r\nX-Raft-Term: %d\r\n" % (
            _JSON_LINE,
            self._cluster_line,
            index,
            position.committed_index,
            position.term,
        )

    def json(self, text: str, status: int = 200) -> HttpResponse:
        """A JSON text of ours about something else than keys."""
        return HttpResponse(status, text.encode("utf-8", "surrogateescape"), (APPLICATION_JSON, self.cluster))

    def refusal(self, error: "V2Error | EtcdError | MessageError") -> HttpResponse:
        """An error that is not about a key (etcd ``etcdhttp.WriteError``)."""
        if isinstance(error, V2Error):
            index = ("X-Etcd-Index", str(error.index))
            return HttpResponse(
                error.status, error.to_json() + b"\n", (APPLICATION_JSON, self.cluster, index)
            )
        if isinstance(error, EtcdError):
            error = internal_error()
        return error.response((self.cluster,))


@final
class MessageError(Exception):
    """An error whose body is ``{"message": ...}``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status: Final = status
        self.message: Final = message

    def response(self, more: tuple[tuple[str, str], ...] = ()) -> HttpResponse:
        """The answer; ``more`` are headers whose names come after Content-Type."""
        body = f'{{"message":{json_string(self.message)}}}'.encode()
        return HttpResponse(self.status, body, (APPLICATION_JSON, *more))


def internal_error() -> MessageError:
    """What a fault that is not the client's looks like."""
    return MessageError(500, "Internal Server Error")


NOT_AUTHORISED: Final = MessageError(401, "Insufficient credentials")


def method_not_allowed(allowed: tuple[str, ...], *more: tuple[str, str]) -> HttpResponse:
    """Go's ``http.Error``, with the methods that are taken if any are named."""
    allow = (("Allow", ",".join(allowed)),) if allowed else ()
    return HttpResponse(405, b"Method Not Allowed\n", (*allow, TEXT_PLAIN, NO_SNIFF, *more))
