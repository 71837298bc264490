"""How answers look on an HTTP/1.1 connection: status lines, headers, and the refusals that end one.

Pure functions and constants (RFC 9112); the refusals are, byte for byte, what Go's ``net/http`` writes.
"""

from http import HTTPStatus
from typing import Final

from kvorum.rpc.http1_types import HttpRequest, HttpResponse

_STATUS: Final = {s.value: f" {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus} | {
    421: b" 421 Misdirected Request\r\n",
    413: b" 413 Request Entity Too Large\r\n",
}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_BODY: Final = frozenset((204, 304))
_LINE_ENDS: Final = frozenset("\r\n")


def _refusal(status_line: str, text: str = "") -> bytes:
    """What Go's server writes when it gives up on a connection."""
    head = f"HTTP/1.1 {status_line}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    return (head + (text or status_line)).encode()


BAD_REQUEST: Final = _refusal("400 Bad Request")
NO_HOST: Final = _refusal("400 Bad Request: missing required Host header")
TOO_MANY_HOSTS: Final = _refusal("400 Bad Request: too many Host headers")
HEADERS_TOO_LARGE: Final = _refusal("431 Request Header Fields Too Large")
BODY_TOO_LARGE: Final = _refusal("413 Request Entity Too Large", "http: request body too large\n")
UNSUPPORTED_ENCODING: Final = _refusal("501 Not Implemented", "Unsupported transfer encoding")
EXPECTATION_FAILED: Final = (
    b"HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


def response_head(request: HttpRequest, response: HttpResponse, size: int, date: bytes) -> bytes:
    """Status line and headers of an answer.

    Args:
        request: what is answered; its version and ``keep_alive`` decide on framing and Connection.
        response: status and headers.
        size: the body's bytes, or -1 for a stream.
        date: the Date header's line.
    """
    status = response.status
    old = request.version == "1.0"
    parts = [
        b"HTTP/1.0" if old else b"HTTP/1.1",
        _STATUS.get(status) or b" %d status code %d\r\n" % (status, status),
        request.extra_head,
    ]
    for name, value in response.headers:
        assert not _LINE_ENDS.intersection(value), "a header is one line"
        parts.append(f"{name}: {value}\r\n".encode("utf-8", "surrogateescape"))
    parts.append(date)
    if size >= 0:
        if status not in _NO_BODY:
            parts.append(b"Content-Length: %d\r\n" % size)
    elif not old:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    if request.keep_alive:
        parts.append(b"Connection: keep-alive\r\n\r\n" if old else b"\r\n")
    else:
        parts.append(b"\r\n" if old else b"Connection: close\r\n\r\n")
    return b"".join(parts)


def framed(request: HttpRequest, piece: bytes, *, last: bool = False) -> bytes:
    """A piece of a stream as a chunk, for clients that know chunks; ``last``: the end follows it."""
    if request.version == "1.0":
        return piece
    chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
    return chunk + b"0\r\n\r\n" if last else chunk


def refusal_for(error: Exception) -> bytes:
    """Return what Go answers to the fault that the parser found."""
    text = str(error)
    if "header token" in text:
        return _refusal("400 Bad Request: invalid header name")
    return BAD_REQUEST
