"""A forwarder between two members that keeps what passes: bytes of a real etcd, to compare ours with."""

import asyncio
from typing import Final, final


@final
class Tap:
    """Forwards connections to a port; ``answers`` holds, for each request line, the bytes that came back."""

    def __init__(self, port: str) -> None:
        self._port: Final = port
        self._server: asyncio.Server
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self.port = 0
        self.answers: Final[dict[str, bytearray]] = {}

    async def __aenter__(self) -> "Tap":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # what was aborted closes in the next turns, and tells nobody

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        kept = self.answers.setdefault(head.partition(b"\r\n")[0].decode(), bytearray())
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            back.write(head)
            asks = asyncio.create_task(_copy(reader, back))
            try:
                while data := await there.read(65536):
                    kept += data
                    writer.write(data)
                    await writer.drain()
            finally:
                asks.cancel()
        finally:
            back.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def chunks(answer: bytes) -> bytes:
    """The body of a chunked answer, as far as it is there."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    body = b""
    while b"\r\n" in rest:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        body += rest[:size]
        rest = rest[size + 2 :]
    return body
