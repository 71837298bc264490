"""One run of a command: its settings, and the connection and the printer when they are first needed.

etcdctl looks at a command's words before it looks at how to print or where to connect; mistakes are reported
in that order.
"""

import sys
from functools import cached_property
from typing import Final, TypeVar, final

from google.protobuf.message import Message

from kvorum.ctl.client import Client
from kvorum.ctl.printers import Printer, printer_of
from kvorum.ctl.settings import Settings

R = TypeVar("R", bound=Message)


@final
class StandardStreams:
    """The process's stdin, stdout and stderr."""

    def out(self, data: bytes) -> None:
        """Write to stdout."""
        sys.stdout.buffer.write(data)

    def error(self, text: str) -> None:
        """Write to stderr, behind what stdout has got so far."""
        sys.stdout.flush()
        sys.stderr.write(text)

    def flush(self) -> None:
        """Bring out what was written to stdout."""
        sys.stdout.flush()

    def read(self) -> bytes:
        """Read stdin to its end."""
        return sys.stdin.buffer.read()

    def read_line(self) -> bytes:
        """Read a line of stdin, with its newline if there is one."""
        return sys.stdin.buffer.readline()


@final
class Session:
    """What a command's body works with; ``close`` ends the connection."""

    def __init__(
        self, settings: Settings, streams: StandardStreams, before_dashes: int | None = None
    ) -> None:
        self.settings: Final = settings
        self.before_dashes: Final = before_dashes
        """How many words stood before ``--``; None without one."""
        self.streams: Final = streams
        self._client: Client | None = None

    @cached_property
    def printer(self) -> Printer:
        """The printer of ``--write-out``; raises CtlError for an unknown one."""
        return printer_of(self.settings.write_out, self.streams, hexadecimal=self.settings.hex)

    def call(self, method: str, request: Message, response: type[R], endpoint: str | None = None) -> R:
        """Make a call; see `Client.call`."""
        _ = self.printer  # an unknown format is reported before anybody is called
        return self.client.call(method, request, response, endpoint)

    @cached_property
    def client(self) -> Client:
        """The connections, for what is not a call."""
        self._client = Client(self.settings)
        return self._client

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            self._client.close()
