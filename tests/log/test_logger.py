"""The form of a line, the levels, the fields, the thinning out."""

import asyncio
import json
import logging
import re
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.duration import Duration
from kvorum.errors import ERR_NO_SPACE
from kvorum.limits import LOG_CALLERS_REMEMBERED
from kvorum.logging import (
    CONSOLE,
    DEBUG,
    ERROR,
    FATAL,
    INFO,
    LEVEL_NAMES,
    WARN,
    Logger,
    capture_standard_logging,
    encode_value,
    hex_id,
    parse_format,
    parse_level,
)


class Lines:
    """An output that keeps what is written."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.levels: list[int] = []

    def write(self, level: int, line: bytes) -> None:
        self.raw.append(line)
        self.levels.append(level)

    @property
    def last(self) -> dict[str, object]:
        return dict(json.loads(self.raw[-1]))


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_line(utc: None) -> None:
    lines = Lines()
    log = Logger([lines], clock=Clock(1638352800.1239))
    log.info("serving", {"data-dir": "x"}, address="[::]:1", took=Duration(816_752), n=3)
    (line,) = lines.raw
    assert re.sub(rb"test_logger.py:\d+", b"HERE", line) == (
        b'{"level":"info","ts":"2021-12-01T10:00:00.123Z","caller":"log/HERE","msg":"serving",'
        b'"data-dir":"x","address":"[::]:1","took":"816.752\xc2\xb5s","n":3}\n'
    )


def test_local_time(monkeypatch: pytest.MonkeyPatch, utc: None) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    lines = Lines()
    Logger([lines], clock=Clock(1638352800)).info("x")
    assert lines.last["ts"] == "2021-12-01T15:30:00.000+0530"


def test_console_form(utc: None) -> None:
    lines = Lines()
    log = Logger([lines], clock=Clock(1638352800), format=CONSOLE).named("raft")
    log.warn("slow", took=Duration(1), who=["a", "b"])
    line = re.sub(rb"test_logger.py:\d+", b"HERE", lines.raw[0])
    assert (
        line == b'2021-12-01T10:00:00.000Z\twarn\traft\tlog/HERE\tslow\t{"took": "1ns", "who": ["a", "b"]}\n'
    )
    log.info("bare")
    assert lines.raw[1].endswith(b"\tbare\n")


def test_the_caller_is_who_logs() -> None:
    lines = Lines()
    log = Logger([lines])
    log.info("a")
    log.log(INFO, "b")
    log.log(INFO, "c", caller="else/where.py:1")
    callers = [json.loads(line)["caller"] for line in lines.raw]
    assert callers[0].startswith("log/test_logger.py:")
    assert callers[1].startswith("log/test_logger.py:")
    assert callers[2] == "else/where.py:1"


def test_callers_are_not_remembered_without_bound() -> None:
    log = Logger([], sample=False)
    for number in range(LOG_CALLERS_REMEMBERED + 10):
        exec(compile(f"log.info('x')  # {number}", f"made{number}.py", "exec"), {"log": log})
    assert len(log._sink.callers) <= LOG_CALLERS_REMEMBERED


@pytest.mark.parametrize("level", range(len(LEVEL_NAMES)))
def test_levels(level: int) -> None:
    lines = Lines()
    log = Logger([lines], level=level)
    for write in (log.debug, log.info, log.warn, log.error, log.panic, log.fatal):
        write("x")
    assert lines.levels == list(range(level, FATAL + 1))
    assert [json.loads(line)["level"] for line in lines.raw] == list(LEVEL_NAMES[level:])
    assert [log.enabled(other) for other in range(FATAL + 1)] == [
        other >= level for other in range(FATAL + 1)
    ]
    assert parse_level(LEVEL_NAMES[level]) == level


def test_a_level_is_shared_and_may_change() -> None:
    lines = Lines()
    log = Logger([lines])
    child = log.named("child")
    log.level = DEBUG
    child.debug("x")
    assert child.level == DEBUG
    assert lines.last["logger"] == "child"


def test_wrong_names() -> None:
    with pytest.raises(ValueError, match=r'^unrecognized level: "x"$'):
        parse_level("x")
    with pytest.raises(ValueError, match=r"^unknown log format: x, supported values json, console$"):
        parse_format("x")
    assert parse_format("") == parse_format("json")


def test_derived_loggers() -> None:
    lines = Lines()
    log = Logger([lines]).with_fields({"member-id": hex_id(0x8E9E05C52164694D)}, cluster_id="c")
    log.named("a").named("b").with_fields(cluster_id="d").info("x", term=2)
    assert list(lines.last) == ["level", "ts", "logger", "caller", "msg", "member-id", "cluster-id", "term"]
    assert (lines.last["logger"], lines.last["member-id"]) == ("a.b", "8e9e05c52164694d")
    log.info("x")
    assert "logger" not in lines.last
    assert [json.loads(line)["cluster-id"] for line in lines.raw] == ["d", "c"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (1 << 64, "18446744073709551616"),
        (1.5, "1.5"),
        (float("inf"), '"inf"'),
        (b"ab\xff", '"ab\ufffd"'),
        (ERR_NO_SPACE, '"etcdserver: mvcc: database space exceeded"'),
        (KeyError(), '"KeyError"'),
        (timedelta(milliseconds=1500), '"1.5s"'),
        (("a", 1), '["a",1]'),
        ({"a": [None]}, '{"a":[null]}'),
        (object, "\"<class 'object'>\""),
    ],
)
def test_values(value: object, text: str) -> None:
    assert encode_value(value) == text


@given(st.text(st.characters()), st.text(st.characters(codec="utf-8")))
def test_every_line_is_one_json_object(message: str, key: str) -> None:
    lines = Lines()
    Logger([lines]).info(message, {key: message})
    assert lines.raw[0].count(b"\n") == 1
    assert json.loads(lines.raw[0])["msg"] == message


def test_an_exception_brings_its_traceback_at_error() -> None:
    lines = Lines()
    log = Logger([lines])
    try:
        raise OSError("disk")
    except OSError as error:
        log.warn("x", error=error)
        assert "stacktrace" not in lines.last
        log.error("x", error=error)
        assert "test_an_exception_brings" in str(lines.last["stacktrace"])
    assert lines.last["error"] == "disk"
    log.error("x", error=OSError("never raised"))
    assert "stacktrace" not in lines.last


def test_equal_lines_are_thinned_out() -> None:
    lines, clock = Lines(), Clock(0)
    log = Logger([lines], clock=clock)
    for _ in range(1000):
        log.info("same")
        log.warn("same")
    assert len(lines.raw) == 2 * (100 + 9)
    for number in range(1000):
        log.info(f"other {number}")
    assert len(lines.raw) == 2 * (100 + 9) + 1000
    clock.now = 1
    log.info("same")
    assert len(lines.raw) == 2 * (100 + 9) + 1001
    for _ in range(200):
        log.fatal("end")
    assert len(lines.raw) == 2 * (100 + 9) + 1201


def test_standard_logging_is_captured() -> None:
    lines = Lines()
    restore = capture_standard_logging(Logger([lines]))
    before = logging.getLogger().handlers
    try:
        logging.getLogger("asyncio").warning("took %s", 5)
        assert (lines.last["level"], lines.last["logger"], lines.last["msg"]) == ("warn", "asyncio", "took 5")
        assert str(lines.last["caller"]).startswith("log/test_logger.py:")
        logging.getLogger("x").warning("slow", extra={"took": "2s"})
        assert lines.last["took"] == "2s"
        assert set(lines.last) == {"level", "ts", "logger", "caller", "msg", "took"}
        logging.getLogger("x").debug("not this")
        logging.getLogger("x").critical("broken %d", "format")
        assert str(lines.last["msg"]).startswith("broken %d (")
        assert lines.levels[-1] == ERROR
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(False)
            logging.captureWarnings(True)
            warnings.warn("old", stacklevel=1)
        assert lines.last["logger"] == "py.warnings"
        assert lines.levels[-1] == WARN
    finally:
        restore()
    assert logging.getLogger().handlers != before
    assert len(lines.raw) == 4


def test_asyncio_errors_are_captured() -> None:
    lines = Lines()
    restore = capture_standard_logging(Logger([lines]))

    async def fail() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    try:
        asyncio.run(fail())
    finally:
        restore()
    errors = [json.loads(line) for line, level in zip(lines.raw, lines.levels, strict=True) if level == ERROR]
    assert len(errors) == 1
    assert "ZeroDivisionError" in errors[0]["stacktrace"]
