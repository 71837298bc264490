"""Go's durations: whole nanoseconds, written ``1h30m``, ``100ms``, ``1.5s``.

etcd's flags, its config file and its log lines use them everywhere. Pure; nothing here reads a clock.
Source of behaviour: Go's ``time.ParseDuration`` and ``time.Duration.String``.
"""

import re
from typing import Final, final

from kvorum.golang import MAX_INT64, MIN_INT64, quote


@final
class Duration(int):
    """A length of time in nanoseconds that prints as Go prints it, so that log lines read like etcd's."""

    __slots__ = ()

    @property
    def seconds(self) -> float:
        """The same in seconds, the unit of the event loop's clock."""
        return self / 1e9

    @property
    def milliseconds(self) -> float:
        """The same in milliseconds."""
        return self / 1e6

    @classmethod
    def from_seconds(cls, seconds: float) -> "Duration":
        """Return the duration nearest to ``seconds``."""
        return cls(round(seconds * 1e9))

    def __str__(self) -> str:
        return format_duration(self)


NANOSECOND: Final = Duration(1)
MICROSECOND: Final = Duration(1_000)
MILLISECOND: Final = Duration(1_000_000)
SECOND: Final = Duration(1_000_000_000)
MINUTE: Final = Duration(60 * SECOND)
HOUR: Final = Duration(60 * MINUTE)

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART: Final = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)", re.ASCII)


def parse_duration(text: str) -> Duration:
    """Return the duration that ``text`` names; raises ValueError with Go's text.

    Args:
        text: A sign, then numbers with a unit each: ``300ms``, ``-1.5h``, ``2h45m``; ``0`` needs no unit.
    """
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return Duration(0)
    if not rest:
        raise ValueError(f"time: invalid duration {quote(text)}")
    total = 0
    while rest:
        part = _PART.match(rest)
        assert part is not None, "every part of the pattern may be empty"
        whole, fraction, unit = part.group(1), part.group(2) or "", part.group(3)
        digits = fraction[1:]
        if not whole and not digits:
            raise ValueError(f"time: invalid duration {quote(text)}")
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        scale = _UNITS.get(unit)
        if scale is None:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        total += int(whole or 0) * scale + int(digits or 0) * scale // 10 ** len(digits)
        rest = rest[part.end() :]
    total = -total if text[0] == "-" else total
    if not MIN_INT64 < total <= MAX_INT64:
        raise ValueError(f"time: invalid duration {quote(text)}")
    return Duration(total)


def format_duration(nanoseconds: int) -> str:
    """Return ``nanoseconds`` in Go's shortest form: ``0s``, ``816.752µs``, ``1.5s``, ``2h0m0s``."""
    if nanoseconds == 0:
        return "0s"
    sign = "-" if nanoseconds < 0 else ""
    left = -nanoseconds if nanoseconds < 0 else int(nanoseconds)
    if left < 1_000:
        return f"{sign}{left}ns"
    if left < 1_000_000:
        return f"{sign}{_decimal(left, 3)}\u00b5s"
    if left < 1_000_000_000:
        return f"{sign}{_decimal(left, 6)}ms"
    minutes, left = divmod(left, 60_000_000_000)
    seconds = f"{_decimal(left, 9)}s"
    if not minutes:
        return sign + seconds
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}h{minutes}m{seconds}" if hours else f"{sign}{minutes}m{seconds}"


def _decimal(units: int, places: int) -> str:
    whole, fraction = divmod(units, 10**places)
    return f"{whole}.{fraction:0{places}d}".rstrip("0") if fraction else str(whole)
