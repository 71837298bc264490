"""Times as Go writes them in JSON (RFC 3339 with up to nine digits), from and to nanoseconds since 1970.

The calendar is done by hand: Python's datetime ends at microseconds, and a core asks no clock module. Days
are counted in eras of 400 years from 1 March, so that the leap day is the last of its year (Howard Hinnant,
"chrono-Compatible Low-Level Date Algorithms").
"""

import re
from typing import Final

NANOSECONDS: Final = 1_000_000_000
ZERO_TIME: Final = "0001-01-01T00:00:00Z"
"""Go's ``time.Time{}``: no time at all."""

_DAYS_TO_1970: Final = 719_468
_DAYS_IN_ERA: Final = 146_097
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))"
)


def format_time(nanoseconds: int) -> str:
    """The time as Go's ``time.RFC3339Nano`` has it, in UTC."""
    seconds, fraction = divmod(nanoseconds, NANOSECONDS)
    days, second = divmod(seconds, 86_400)
    year, month, day = _date(days)
    digits = f".{fraction:09}".rstrip("0") if fraction else ""
    return (
        f"{year:04}-{month:02}-{day:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}{digits}Z"
    )


def parse_time(text: str) -> int:
    """Read a time that Go wrote in JSON; 0 for Go's zero time.

    Raises:
        ValueError: it is none.
    """
    if text == ZERO_TIME:
        return 0
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no RFC 3339 time")
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    seconds = _days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
    if match[8]:
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds += offset if match[8] == "-" else -offset
    return seconds * NANOSECONDS + int((match[7] or "").ljust(9, "0"))


def _date(days: int) -> tuple[int, int, int]:
    """Year, month and day of the day that is ``days`` after 1 January 1970."""
    era, day_of_era = divmod(days + _DAYS_TO_1970, _DAYS_IN_ERA)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    return year_of_era + era * 400 + (month <= 2), month, day


def _days(year: int, month: int, day: int) -> int:
    """How many days the date is after 1 January 1970."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * _DAYS_IN_ERA + day_of_era - _DAYS_TO_1970
