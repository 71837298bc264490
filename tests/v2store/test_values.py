"""Errors, times, paths and the parser of deep JSON, each against something independent."""

import csv
import datetime
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.v2store import errors
from kvorum.v2store.deepjson import parse, parse_deep
from kvorum.v2store.errors import V2Error
from kvorum.v2store.paths import clean, is_hidden
from kvorum.v2store.times import format_time, parse_time

FACTS = Path(__file__).parents[2] / "facts" / "v2_errors.csv"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def test_errors_are_etcds() -> None:
    with FACTS.open(newline="") as file:
        rows = [
            (int(row["errorCode"]), int(row["http_status"]), row["message"]) for row in csv.DictReader(file)
        ]
    assert rows == [
        (code, V2Error(code).status, message) for code, message in sorted(errors.MESSAGES.items())
    ]


def test_an_error_as_json() -> None:
    error = V2Error(errors.KEY_NOT_FOUND, "/1/<a>", 7)
    assert error.to_json("/1") == (
        b'{"errorCode":100,"message":"Key not found","cause":"/\\u003ca\\u003e","index":7}'
    )
    assert (
        V2Error(errors.RAFT_INTERNAL).to_json()
        == b'{"errorCode":300,"message":"Raft Internal Error","index":0}'
    )
    assert str(error) == "Key not found (/1/<a>)"


@given(st.integers(-(10**17), 9 * 10**18))
def test_times_are_those_of_the_calendar(nanoseconds: int) -> None:
    microseconds, below_micro = divmod(nanoseconds, 1000)
    moment = EPOCH + datetime.timedelta(microseconds=microseconds)
    text = format_time(nanoseconds)
    assert text.startswith(moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0"))
    fraction = f"{moment.microsecond:06}{below_micro:03}".rstrip("0")
    assert text[19:] == (f".{fraction}Z" if fraction else "Z")
    assert parse_time(text) == nanoseconds


def test_times_of_other_zones_and_no_time() -> None:
    assert parse_time("2026-11-21T16:40:18.5+02:00") == parse_time("2026-11-21T14:40:18.5Z")
    assert parse_time("2026-11-21T10:10:18-04:30") == parse_time("2026-11-21T14:40:18Z")
    assert parse_time("0001-01-01T00:00:00Z") == 0
    for wrong in ("", "2026-11-21", "2026-11-21T14:40:18"):
        with pytest.raises(ValueError, match="no RFC 3339 time"):
            parse_time(wrong)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        ("a", "/a"),
        ("/a/", "/a"),
        ("/a//b/./c/../d", "/a/b/d"),
        ("/../../a", "/a"),
        ("/.a/..b", "/.a/..b"),
        ("/a\x00b/..", "/"),
    ],
)
def test_paths_are_cleaned_as_go_does(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


@pytest.mark.parametrize(
    ("watched", "path", "hidden"),
    [
        ("/", "/_a", True),
        ("/", "/a/b", False),
        ("/a", "/a/b/_c", True),
        ("/_a", "/_a/b", False),
        ("/a/_b/c", "/a", False),
    ],
)
def test_hidden_is_what_begins_with_an_underscore_below(watched: str, path: str, hidden: bool) -> None:
    assert is_hidden(watched, path) is hidden


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON, st.sampled_from([None, 1]), st.booleans())
def test_json_read_by_hand_is_json(value: object, indent: int | None, ascii_only: bool) -> None:
    assert parse_deep(json.dumps(value, indent=indent, ensure_ascii=ascii_only)) == value


def test_json_deeper_than_the_stack() -> None:
    depth = 100_000
    value = parse('{"a":[' * depth + "1" + "]}" * depth)
    for _ in range(depth):
        value = value["a"][0]
    assert value == 1


@given(st.text('[]{},:"a1 ', max_size=12))
def test_what_is_no_json_is_refused_by_both(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            parse_deep(text)
    else:
        assert parse_deep(text) == expected
