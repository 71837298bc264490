"""HTTP/1.1 as plain as it gets: what is asked leaves byte by byte, what is answered keeps its order."""

import io
import socket
from dataclasses import dataclass, field
from typing import IO, Final, cast, final

WAIT_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Answer:
    """Status line, headers in their order and the body without its framing."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = field(default=())
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first header of that name, by any spelling."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@final
class Connection:
    """A connection that is opened when it is needed and may have been closed by either side."""

    def __init__(self, port: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self._port: Final = port
        self._wait_seconds: Final = wait_seconds
        self._socket: socket.socket | None = None
        self._file: IO[bytes] | None = None

    def ask(self, method: str, target: bytes, headers: tuple[tuple[str, str], ...], body: bytes) -> Answer:
        """Send a request and read the whole answer."""
        self.send(method, target, headers, body)
        head = self.read_head()
        pieces = []
        while piece := self.read_piece(head, method):
            pieces.append(piece)
            if head.header("transfer-encoding") is None:
                break
        if head.header("connection") == "close":
            self.close()
        return Answer(head.status, head.reason, head.headers, b"".join(pieces))

    def send(self, method: str, target: bytes, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
        """Send a request."""
        lines = [b"%b %b HTTP/1.1" % (method.encode(), target), b"Host: 127.0.0.1"]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
        if body or method in ("PUT", "POST"):
            lines.append(b"Content-Length: %d" % len(body))
        self._opened().sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    def read_head(self) -> Answer:
        """Read status line and headers."""
        file = self._reading()
        line = file.readline()
        if not line:
            raise ConnectionError("closed without an answer")
        _, status, reason = line.decode("latin-1").rstrip("\r\n").split(" ", 2)
        headers = []
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").rstrip("\r\n").partition(": ")
            headers.append((name, value))
        return Answer(int(status), reason, tuple(headers))

    def read_piece(self, head: Answer, method: str = "GET") -> bytes:
        """The next chunk, or the whole body where there are no chunks; empty at the end."""
        file = self._reading()
        if method == "HEAD" or head.status in (204, 304):
            return b""
        if head.header("transfer-encoding") == "chunked":
            size = int(file.readline(), 16)
            piece = file.read(size)
            file.readline()
            return piece
        length = head.header("content-length")
        return file.read(int(length)) if length is not None else file.read()

    def has_more(self) -> bool:
        """Whether bytes wait to be read now."""
        assert self._socket is not None
        self._socket.setblocking(False)
        try:
            return bool(cast("io.BufferedReader", self._reading()).peek(1))
        finally:
            self._socket.settimeout(self._wait_seconds)

    def close(self) -> None:
        """Close it; the next request opens it anew."""
        if self._file is not None:
            self._file.close()
        if self._socket is not None:
            self._socket.close()
        self._file = self._socket = None

    def _opened(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), self._wait_seconds)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._file = self._socket.makefile("rb")
        return self._socket

    def _reading(self) -> IO[bytes]:
        assert self._file is not None, "nothing was sent"
        return self._file
