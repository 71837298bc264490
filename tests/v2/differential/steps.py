"""What a program consists of. ``@5@`` in a target or body stands for etcd's index five behind the start."""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")
_RELATIVE: Final = re.compile(r"@(-?\d+)@")


@dataclass(frozen=True)
class Ask:
    """A request on one of the clients' connections, answered before the next step."""

    client: int
    method: str
    target: str
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Watch:
    """A long poll on a connection of its own; what it delivered is read when the program is over."""

    target: str


@dataclass(frozen=True)
class Outlive:
    """Wait until these keys have expired on each side."""

    targets: tuple[str, ...]


Step: TypeAlias = Ask | Watch | Outlive
Program: TypeAlias = tuple[Step, ...]


def absolute(text: str, base: int) -> str:
    """Put a side's own indices in."""
    return _RELATIVE.sub(lambda match: str(base + int(match[1])), text)
