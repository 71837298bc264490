"""Requests that mean nothing: empty ones, bodies that are no message, fields that nobody knows."""

from typing import Final

from tests.differential.programs.draw import Surface
from tests.differential.responses import RESPONSES
from tests.differential.steps import RawCall, Step

WAITING: Final = ("v3lockpb.Lock/Lock", "v3electionpb.Election/Campaign")
"""An empty request to these gets a lease of the server's choice, and could wait."""

BODIES: Final = (
    b"",
    b"\x0a\x05ab",  # a field that ends after the body
    b"\x0a",  # a length that is missing
    b"\x07",  # a wire type that there is none of
    b"\xff" * 11,  # a tag that does not end
    b"\x0f\x01",  # the same, of field 1
    b"\xfa\x07\x03abc",  # field 127 is unknown
    b"\x80",  # a tag cut short
    b"\x18\x96\x01\x22\x01",  # ends within field 4
)
"""No known field of a wrong type among them: etcd 3.5 refuses that, Kvorum as later releases takes it for an
unknown field ("a known field of a wire type that is not its own").
"""


class BadInput(Surface):
    """Draws such requests for every method."""

    def step(self) -> Step:
        method = self.random.choice(tuple(RESPONSES))
        bodies = [body for body in BODIES if body not in (b"", BODIES[6]) or method not in WAITING]
        return RawCall(method, self.random.choice(bodies))
