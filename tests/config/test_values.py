"""Go's small values: quoting, booleans, numbers, durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.duration import HOUR, MILLISECOND, MINUTE, SECOND, Duration, format_duration, parse_duration
from kvorum.golang import GoRangeError, GoSyntaxError, parse_bool, parse_int, parse_uint, quote


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("abc", '"abc"'),
        ('a"b\\', r'"a\"b\\"'),
        ("tab\tnew\n", r'"tab\tnew\n"'),
        ("\x00\x7f", r'"\x00\x7f"'),
        ("é世", '"é世"'),
        ("\u200b", r'"\u200b"'),
        (b"\xff\xc3\xa9", '"\\xffé"'),
    ],
)
def test_quote(text: str | bytes, quoted: str) -> None:
    assert quote(text) == quoted


def test_booleans() -> None:
    assert all(parse_bool(text) for text in ("1", "t", "T", "true", "TRUE", "True"))
    assert not any(parse_bool(text) for text in ("0", "f", "F", "false", "FALSE", "False"))
    for text in ("", "yes", "tRUE", " true"):
        with pytest.raises(GoSyntaxError):
            parse_bool(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("42", 42), ("0x1F", 31), ("0b11", 3), ("0o17", 15), ("017", 15), ("1_000", 1000)],
)
def test_numbers(text: str, number: int) -> None:
    assert parse_uint(text) == number
    assert parse_int("-" + text) == -number
    assert parse_int("+" + text) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.5", "abc", " 1", "1 ", "1__0", "0x", "٣", "08", "_1"])
def test_no_unsigned_numbers(text: str) -> None:
    with pytest.raises(GoSyntaxError):
        parse_uint(text)


def test_number_ranges() -> None:
    assert parse_uint(str((1 << 64) - 1)) == (1 << 64) - 1
    with pytest.raises(GoRangeError):
        parse_uint(str(1 << 64))
    with pytest.raises(GoRangeError):
        parse_int(str(1 << 63))
    assert parse_int(str(-(1 << 63))) == -(1 << 63)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("100ms", 100 * MILLISECOND),
        ("1h30m", HOUR + 30 * MINUTE),
        ("-1.5h", -90 * MINUTE),
        ("+5s", 5 * SECOND),
        ("1us", 1000),
        ("1µs", 1000),
        (".5s", 500 * MILLISECOND),
        ("1.s", SECOND),
        ("2562047h47m16.854775807s", (1 << 63) - 1),
    ],
)
def test_parse_duration(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("abc", 'time: invalid duration "abc"'),
        ("10", 'time: missing unit in duration "10"'),
        ("1x", 'time: unknown unit "x" in duration "1x"'),
        ("1h2", 'time: missing unit in duration "1h2"'),
        (".", 'time: invalid duration "."'),
        (".s", 'time: invalid duration ".s"'),
        ("-", 'time: invalid duration "-"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
    ],
)
def test_parse_no_duration(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="time:") as caught:
        parse_duration(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (816_752, "816.752µs"),
        (100 * MILLISECOND, "100ms"),
        (-1500 * MILLISECOND, "-1.5s"),
        (90 * SECOND, "1m30s"),
        (2 * HOUR, "2h0m0s"),
        (HOUR + 1, "1h0m0.000000001s"),
    ],
)
def test_format_duration(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text
    assert f"{Duration(nanoseconds)}" == text


@given(st.integers(-(1 << 63) + 1, (1 << 63) - 1))
def test_durations_survive_their_text(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


def test_duration_units() -> None:
    assert Duration(1_500_000_000).seconds == 1.5
    assert Duration(1_500_000).milliseconds == 1.5
    assert Duration.from_seconds(0.25) == 250 * MILLISECOND
