"""What a program is made of: a step does something to one server and returns what is compared.

Steps name revisions and leases as the program counts them; the side that performs them turns these into the
server's. A step that would leave to chance what comes next (a wait nobody could see begin) is left out on
both sides alike, because both decide from the same answers.
"""

from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message

from tests.differential.side import Side


class Step(Protocol):
    """One thing that a client does."""

    def perform(self, side: Side) -> object:
        """Do it and return what must be equal on both servers. Raises StuckError."""
        ...


def text_of(request: Message) -> str:
    """Return a request in one line."""
    return " ".join(str(request).split())


@dataclass(frozen=True)
class Call:
    """A unary call: ``package.Service/Method`` and its request."""

    method: str
    request: Message

    def perform(self, side: Side) -> object:
        return side.call(self.method, self.request)

    def __str__(self) -> str:
        return f"{self.method.rpartition('/')[2]}({text_of(self.request)})"


@dataclass(frozen=True)
class RawCall:
    """A unary call whose body may be no message."""

    method: str
    body: bytes

    def perform(self, side: Side) -> object:
        return side.call_raw(self.method, self.body)

    def __str__(self) -> str:
        return f"{self.method.rpartition('/')[2]}(bytes {self.body.hex()})"
