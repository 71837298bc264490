"""The parts that need no server: words, tables, Go's JSON, sizes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.ctl.endpoints import member_list
from kvorum.ctl.errors import CallError, CtlError
from kvorum.ctl.gojson import dumps, to_plain
from kvorum.ctl.keys import prefix_end
from kvorum.ctl.reach import address_of
from kvorum.ctl.session import Session, StandardStreams
from kvorum.ctl.settings import Settings
from kvorum.ctl.table import render
from kvorum.ctl.txn import parse_compare, parse_operation, split_words
from kvorum.duration import MILLISECOND, Duration
from kvorum.golang import GoSyntaxError, human_bytes, quote, unquote
from kvorum.proto import kv_pb2 as mvccpb
from kvorum.proto import rpc_pb2 as pb
from tests.ctl.conftest import Run


@given(st.binary())
def test_a_prefix_ends_where_its_keys_end(prefix: bytes) -> None:
    end = prefix_end(prefix)
    if end == b"\x00":
        assert not prefix.rstrip(b"\xff")
        return
    assert prefix < end
    assert prefix + b"\xff" * 20 < end
    assert not end.startswith(prefix)


@given(st.text(st.characters(codec="utf-8")))
def test_quoted_text_reads_back(text: str) -> None:
    assert unquote(quote(text)) == (text, len(quote(text)))


@given(st.binary())
def test_quoted_bytes_read_back(data: bytes) -> None:
    text, _ = unquote(quote(data) + " rest")
    assert text.encode("utf-8", "surrogateescape") == data


@pytest.mark.parametrize(
    "text", ["", "a", '"a', '"\\', '"\\x4', '"\\xzz"', '"\\400"', '"\\U00110000"', "`a", '"\n"']
)
def test_broken_literals(text: str) -> None:
    with pytest.raises(GoSyntaxError):
        unquote(text)


def test_octal_and_raw_literals() -> None:
    assert unquote('"\\101\\u00e9"x') == ("Aé", 12)
    assert unquote("`a\\n`") == ("a\\n", 5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("put a b", ["put", "a", "b"]),
        ('put "a b" \'c "d\'', ["put", "a b", 'c "d']),
        ('put "\\x41\\t"', ["put", "A\t"]),
        ('put ""', ["put", ""]),
        ("get a --prefix", ["get", "a", "--prefix"]),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert split_words(line) == words


def test_compares() -> None:
    assert parse_compare('lease("a") != "1f"') == pb.Compare(
        key=b"a", target=pb.Compare.LEASE, result=pb.Compare.NOT_EQUAL, lease=0x1F
    )
    assert parse_compare('value("\\xff") = ""') == pb.Compare(
        key=b"\xff", target=pb.Compare.VALUE, result=pb.Compare.EQUAL, value=b""
    )
    with pytest.raises(CtlError, match="unknown operator") as caught:
        parse_compare('mod("a") >= "1"')
    assert caught.value.code == 3


def test_operations() -> None:
    assert parse_operation("del a --prefix --prev-kv") == pb.RequestOp(
        request_delete_range=pb.DeleteRangeRequest(key=b"a", range_end=b"b", prev_kv=True)
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (10, "10 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (20480, "20 kB"),
        (99_999, "100 kB"),
        (1_550_000, "1.6 MB"),
        (2 << 30, "2.1 GB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert human_bytes(size) == text


def test_a_table_breaks_long_texts() -> None:
    text = render(["a", "errors"], [["1", "x" * 20 + " " + "y" * 20], ["22", ""]])
    assert text.splitlines() == [
        "+----+----------------------+",
        "| A  |        ERRORS        |",
        "+----+----------------------+",
        "|  1 | xxxxxxxxxxxxxxxxxxxx |",
        "|    | yyyyyyyyyyyyyyyyyyyy |",
        "| 22 |                      |",
        "+----+----------------------+",
    ]


def test_go_json() -> None:
    response = pb.TxnResponse(
        succeeded=True,
        responses=[
            pb.ResponseOp(response_put=pb.PutResponse(prev_kv=mvccpb.KeyValue(key=b"\xff", lease=1 << 62))),
            pb.ResponseOp(response_range=pb.RangeResponse()),
        ],
    )
    assert dumps(to_plain(response)) == (
        '{"succeeded":true,"responses":[{"Response":{"response_put":{"prev_kv":{"key":"/w==",'
        '"lease":4611686018427387904}}}},{"Response":{"response_range":{}}}]}'
    )
    assert dumps("<&>\u2028é") == '"\\u003c\\u0026\\u003e\\u2028é"'
    assert json.loads(dumps("<&>\u2028é")) == "<&>\u2028é"


@pytest.mark.parametrize(
    ("endpoint", "parts"),
    [
        ("a:1", ("", "a:1")),
        ("https://a:1", ("https", "a:1")),
        ("unix:/run/x", ("unix", "/run/x")),
        ("unix:///run/x", ("unix", "/run/x")),
    ],
)
def test_addresses(endpoint: str, parts: tuple[str, str]) -> None:
    assert address_of(endpoint) == parts


def test_errors_read_like_etcds() -> None:
    assert CallError(3, "etcdserver: key is not provided").message == "etcdserver: key is not provided"
    assert CallError(14, "gone").message == "rpc error: code = Unavailable desc = gone"
    assert CallError(4, "late").message == "context deadline exceeded"


def test_nothing_reachable() -> None:
    endpoints = ("no.such.host.invalid:1", "bad", "unix:/no/such")
    settings = Settings(endpoints=endpoints, command_timeout=Duration(300 * MILLISECOND))
    session = Session(settings, StandardStreams())
    with pytest.raises(CallError, match="context deadline exceeded"):
        member_list(session)
    session.close()


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["help"], ["get", "--help"], ["-h"], ["endpoint"], ["help", "put"]]
)
def test_help(words: list[str], kvorumctl: Run) -> None:
    done = kvorumctl(*words)
    assert done.status == 0
    assert done.stdout.startswith(b"Usage: kvorumctl")


def test_what_is_not_there_is_refused(kvorumctl: Run) -> None:
    done = kvorumctl("get", "a", "--insecure-skip-tls-verify")
    assert done.status == 1
    assert "not there yet" in done.error[0]


def test_debug_prints_the_flags(kvorumctl: Run) -> None:
    done = kvorumctl("version", "--debug", "--endpoints", "x:1")
    assert "ETCDCTL_ENDPOINTS=('x:1',)" in done.error
