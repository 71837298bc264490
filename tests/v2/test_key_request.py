"""What ``/v2/keys`` takes and refuses, held against etcd's texts."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum import limits
from kvorum.api.v2.form import media_type
from kvorum.api.v2.key_request import (
    expiration_of,
    parse_key_request,
    store_path,
)
from kvorum.rpc.http1_types import HttpRequest
from kvorum.v2store.errors import V2Error
from kvorum.v2store.request import V2Request

NOW = 1_700_000_000_000_000_000
FORM = "application/x-www-form-urlencoded"


class NoExchange:
    """A request that is only parsed is answered by nobody."""

    def respond(self, request: HttpRequest, response: object) -> None:
        raise AssertionError("not answered")

    def begin(self, request: HttpRequest, response: object) -> None:
        raise AssertionError("not answered")

    def send(self, request: HttpRequest, piece: bytes) -> bool:
        raise AssertionError("not answered")

    def end(self, request: HttpRequest, piece: bytes = b"") -> None:
        raise AssertionError("not answered")

    def take_over(self, request: HttpRequest, protocol: object) -> None:
        raise AssertionError("not answered")

    async def read_body(self, request: HttpRequest) -> bytes:
        raise AssertionError("not streamed")

    def extra_info(self, name: str) -> None:
        return None


def request_of(
    method: str, query: str = "", body: bytes = b"", kind: str | None = FORM, path: str = "/v2/keys/a"
) -> HttpRequest:
    request = HttpRequest(NoExchange())
    request.method, request.path, request.query_string, request.body = method, path, query, body
    if kind is not None:
        request.headers.append((b"content-type", kind.encode()))
    return request


def parsed(method: str, query: str = "", body: bytes = b"", kind: str | None = FORM) -> V2Request:
    return parse_key_request(request_of(method, query, body, kind), NOW)[0]


def refusal(method: str, query: str = "", body: bytes = b"", kind: str | None = FORM) -> tuple[int, str]:
    with pytest.raises(V2Error) as caught:
        parsed(method, query, body, kind)
    return caught.value.code, caught.value.cause


def test_a_put_takes_its_value_from_the_body() -> None:
    put = parsed("PUT", body=b"value=Hello+world%21")
    assert (put.method, put.path, put.val, put.expiration) == ("PUT", "/1/a", "Hello world!", 0)


def test_every_parameter_is_read() -> None:
    put = parsed(
        "PUT",
        "prevIndex=7&recursive=1&sorted=t&dir=TRUE&quorum=True&stream=T",
        b"prevValue=x&noValueOnSuccess=true&ttl=5&prevExist=true&refresh=false&waitIndex=9",
    )
    assert (put.prev_index, put.since, put.prev_value, put.prev_exist, put.refresh) == (
        7,
        9,
        "x",
        True,
        False,
    )
    assert put.recursive
    assert put.sorted
    assert put.dir
    assert put.quorum
    assert put.stream
    assert put.expiration == NOW + 5_000_000_000


def test_whether_nodes_are_wanted_is_told_besides() -> None:
    for query, wanted in (("noValueOnSuccess=true", True), ("noValueOnSuccess=0", False), ("", False)):
        assert parse_key_request(request_of("PUT", query, b"value=x"), NOW)[1] is wanted


def test_the_body_counts_before_the_query_and_the_first_value_before_the_second() -> None:
    assert parsed("PUT", "value=query", b"value=body&value=late").val == "body"
    assert parsed("PUT", "value=query&value=late").val == "query"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_the_body_of_other_methods_is_not_looked_at(method: str) -> None:
    assert not parsed(method, body=b"dir=nonsense&value=x").val


@pytest.mark.parametrize("kind", [None, "application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_a_body_of_another_type_is_not_looked_at(kind: str | None) -> None:
    assert not parsed("PUT", body=b"value=x", kind=kind).val


def test_a_type_with_parameters_and_in_capitals_is_a_form() -> None:
    for kind in (
        "Application/X-WWW-Form-URLencoded",
        FORM + "; charset=utf-8",
        FORM + " ;",
        FORM + ';a="b;c"',
    ):
        assert parsed("PUT", body=b"value=x", kind=kind).val == "x", kind


@pytest.mark.parametrize(
    ("query", "code", "cause"),
    [
        ("prevIndex=x", 203, 'invalid value for "prevIndex"'),
        ("prevIndex=", 203, 'invalid value for "prevIndex"'),
        ("prevIndex=-1", 203, 'invalid value for "prevIndex"'),
        ("prevIndex=1_000", 203, 'invalid value for "prevIndex"'),
        ("prevIndex=18446744073709551616", 203, 'invalid value for "prevIndex"'),
        ("waitIndex=1e3", 203, 'invalid value for "waitIndex"'),
        ("recursive=yes", 209, 'invalid value for "recursive"'),
        ("recursive", 209, 'invalid value for "recursive"'),
        ("sorted=2", 209, 'invalid value for "sorted"'),
        ("wait=tRUE", 209, 'invalid value for "wait"'),
        ("dir=%20true", 209, 'invalid value for "dir"'),
        ("quorum=x", 209, 'invalid value for "quorum"'),
        ("stream=x", 209, 'invalid value for "stream"'),
        ("wait=true", 209, '"wait" can only be used with GET requests'),
        ("prevValue=", 201, '"prevValue" cannot be empty'),
        ("noValueOnSuccess=x", 209, 'invalid value for "noValueOnSuccess"'),
        ("ttl=abc", 202, 'invalid value for "ttl"'),
        ("ttl=-1", 202, 'invalid value for "ttl"'),
        ("prevExist=x", 209, "invalid value for prevExist"),
        ("prevExist=", 209, "invalid value for prevExist"),
        ("refresh=x", 209, "invalid value for refresh"),
        ("refresh=true&value=x&ttl=5", 211, "A value was provided on a refresh"),
        ("refresh=true", 212, "No TTL value set"),
        ("refresh=true&ttl=", 212, "No TTL value set"),
        ("a=%zz", 210, 'invalid URL escape "%zz"'),
        ("a=%4", 210, 'invalid URL escape "%4"'),
        ("a;b", 210, "invalid semicolon separator in query"),
    ],
)
def test_refusals(query: str, code: int, cause: str) -> None:
    assert refusal("PUT", query) == (code, cause)
    if "=" in query:
        assert refusal("POST", body=query.encode()) == (code, cause)


def test_the_first_check_in_etcds_order_is_the_one_that_speaks() -> None:
    assert refusal("PUT", "refresh=x&ttl=x&prevValue=&wait=x&prevIndex=x") == (
        203,
        'invalid value for "prevIndex"',
    )
    assert refusal("PUT", "refresh=x&ttl=x&prevValue=") == (201, '"prevValue" cannot be empty')
    assert refusal("PUT", "prevIndex=x&a=%") == (210, 'invalid URL escape "%"')


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (";", "mime: no media type"),
        ("a b", "mime: expected slash after first token"),
        ("a/", "mime: expected token after slash"),
        ("a/b c", "mime: unexpected content after media subtype"),
        ("a/b; c", "mime: invalid media parameter"),
        ('a/b; c="d', "mime: invalid media parameter"),
        ("a/b; c=1; c=2", "mime: duplicate parameter name"),
    ],
)
def test_a_broken_content_type_is_refused_as_go_does(kind: str, fault: str) -> None:
    assert media_type(kind)[1] == fault
    assert refusal("PUT", kind=kind) == (210, fault)
    assert parsed("GET", kind=kind).path == "/1/a"


def test_too_many_pairs_are_refused_before_they_cost_anything() -> None:
    assert refusal("PUT", body=b"a&" * limits.V2_FORM_PAIRS) == (
        210,
        f"more than {limits.V2_FORM_PAIRS} form values",
    )
    assert parsed("PUT", body=b"a&" * (limits.V2_FORM_PAIRS - 2) + b"value=x").val == "x"


@given(st.binary(max_size=40))
def test_values_survive_percent_encoding(value: bytes) -> None:
    body = b"value=" + b"".join(b"%%%02x" % byte for byte in value)
    assert parsed("PUT", body=body).val.encode("utf-8", "surrogateescape") == value


@given(st.binary(max_size=40))
def test_any_bytes_are_a_form_or_a_refusal(data: bytes) -> None:
    with suppress(V2Error):
        assert parsed("PUT", data.decode("latin-1").replace("?", ""), data).path == "/1/a"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v2/keys", "/1"),
        ("/v2/keys/", "/1"),
        ("/v2/keys/a/b", "/1/a/b"),
        ("/v2/keys/a/b/", "/1/a/b"),
        ("/v2/keys/_hidden", "/1/_hidden"),
        ("/v2/keys/.hidden", "/1/.hidden"),
        ("/v2/keys/a..b", "/1/a..b"),
    ],
)
def test_paths(path: str, wanted: str) -> None:
    assert store_path(path) == wanted


def test_times_to_live_wrap_around_as_gos_do() -> None:
    assert expiration_of(0, NOW) == NOW
    assert expiration_of(1 << 63, NOW) == NOW
    assert expiration_of((1 << 64) - 1, NOW) == NOW - 1_000_000_000
    assert expiration_of(10_000_000_000, NOW) < 0
