"""Requests and answers, in every way a client may send the one and take the other."""

import asyncio
import http.client
import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest, HttpResponse, parse_query
from tests.http.serving import HOST, Serving, read_all, read_until, serving

DATE = re.compile(rb"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n")


def echo(request: HttpRequest) -> HttpResponse:
    told = {
        "method": request.method,
        "path": request.path,
        "query": request.query(),
        "body": request.body.decode("latin-1"),
        "custom": request.header("x-custom"),
    }
    return HttpResponse(200, json.dumps(told).encode())


async def slow_echo(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return echo(request)


def later(request: HttpRequest) -> None:
    asyncio.get_running_loop().call_soon(lambda: request.respond(echo(request)))


async def _numbers() -> AsyncIterator[bytes]:
    for number in range(5):
        yield b"%d;" % number
        await asyncio.sleep(0)


async def count_streamed(request: HttpRequest) -> HttpResponse:
    size = 0
    while piece := await request.read():
        size += len(piece)
    return HttpResponse(200, b"%d" % size)


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a mistake of ours")


def routes(http: HttpServer) -> None:
    http.route("*", "/echo", echo)
    http.route("*", "/slow", slow_echo)
    http.route("*", "/later", later)
    http.route("GET", "/only", echo)
    http.route("*", "/tree/", echo)
    http.route("GET", "/numbers", lambda request: HttpResponse(200, _numbers()))
    http.route("POST", "/count", count_streamed, stream_body=True)
    http.route("POST", "/small", echo, max_body_bytes=10)
    http.route("GET", "/broken", broken)
    http.route("GET", "/form", lambda request: HttpResponse(200, json.dumps(request.form()).encode()))
    http.route(
        ("POST", "PUT"), "/form", lambda request: HttpResponse(200, json.dumps(request.form()).encode())
    )
    http.route("GET", "/peer", lambda request: HttpResponse(200, request.peer.encode()))


@pytest.fixture(scope="module", params=[False, True], ids=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Serving]:
    with serving(routes, plain=request.param) as running:
        yield running


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_the_whole_answer(server: Serving) -> None:
    answer = server.talk(b"GET /only HTTP/1.1\r\n" + HOST + b"\r\n")
    told = b'{"method": "GET", "path": "/only", "query": {}, "body": "", "custom": null}'
    assert (
        DATE.sub(b"", answer)
        == (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: %d\r\n\r\n" % len(told)
        )
        + told
    )


@pytest.mark.parametrize("path", ["/echo", "/slow", "/later"])
def test_an_independent_client_keeps_its_connection(server: Serving, path: str) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    sockets = set()
    for body in (b"", b"abc", b"x" * 100_000):
        client.request("PUT", path + "?a=1&a=2&b=%20c+d", body=body, headers={"X-Custom": "v"})
        sockets.add(client.sock)
        answer = client.getresponse()
        told = json.loads(answer.read())
        assert (answer.status, told["method"], told["path"]) == (200, "PUT", path)
        assert told["query"] == {"a": ["1", "2"], "b": [" c d"]}
        assert (told["body"], told["custom"]) == (body.decode(), "v")
    assert len(sockets) == 1
    client.close()


def test_a_chunked_body(server: Serving) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    client.request("POST", "/echo", body=iter([b"ab", b"c" * 70_000, b"d"]), encode_chunked=True)
    assert json.loads(client.getresponse().read())["body"] == "ab" + "c" * 70_000 + "d"
    client.close()


def test_a_streamed_answer_is_chunked_and_the_connection_lives_on(server: Serving) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(3):
        client.request("GET", "/numbers")
        answer = client.getresponse()
        assert answer.getheader("transfer-encoding") == "chunked"
        assert answer.read() == b"0;1;2;3;4;"
    client.close()


def test_a_streamed_answer_to_http10_ends_with_the_connection(server: Serving) -> None:
    with server.connect() as client:
        client.sendall(b"GET /numbers HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"chunked" not in answer
    assert body_of(answer) == b"0;1;2;3;4;"


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_a_streamed_body_reaches_its_handler_piece_by_piece(server: Serving, size: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(2):
        client.request("POST", "/count", body=iter([b"x" * size]), encode_chunked=True)
        assert client.getresponse().read() == b"%d" % size
    client.close()


def test_head_has_the_headers_of_get_without_the_body(server: Serving) -> None:
    for path in (b"/echo", b"/numbers"):
        answer = server.talk(b"HEAD %b HTTP/1.1\r\n%b\r\n" % (path, HOST))
        assert body_of(answer) == b""
    assert re.search(rb"Content-Length: [1-9]", server.talk(b"HEAD /echo HTTP/1.1\r\n" + HOST + b"\r\n"))


def test_expect_100_continue(server: Serving) -> None:
    for path in (b"/echo", b"/count"):
        with server.connect() as client:
            head = b"POST %b HTTP/1.1\r\n%bExpect: 100-continue\r\nContent-Length: 3\r\n\r\n" % (path, HOST)
            client.sendall(head)
            assert read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"abc")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_error_needs_no_body(server: Serving) -> None:
    with server.connect() as client:
        client.sendall(
            b"POST /nope HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"Connection: close\r\n" in answer


def test_another_expectation_fails(server: Serving) -> None:
    answer = server.talk(b"POST /echo HTTP/1.1\r\n" + HOST + b"Expect: foo\r\nContent-Length: 3\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 417 Expectation Failed\r\n")


@pytest.mark.parametrize(
    ("line", "status", "rest"),
    [
        (b"GET /nope", 404, b"404 page not found\n"),
        (b"GET /only/", 404, b"404 page not found\n"),
        (b"POST /only", 405, b"Method Not Allowed\n"),
        (b"GET //only", 301, b'<a href="/only">Moved Permanently</a>.\n\n'),
        (b"GET /a/../only?x=1", 301, b'<a href="/only?x=1">Moved Permanently</a>.\n\n'),
        (b"GET /tree", 301, b'<a href="/tree/">Moved Permanently</a>.\n\n'),
        (b"POST /tree", 301, b""),
        (b"OPTIONS *", 200, b""),
        (b"GET /broken", 500, b"Internal Server Error\n"),
    ],
)
def test_answers_of_the_router(server: Serving, line: bytes, status: int, rest: bytes) -> None:
    answer = server.talk(line + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (int(answer.split()[1]), body_of(answer)) == (status, rest)


def test_a_405_names_the_methods(server: Serving) -> None:
    answer = server.talk(b"DELETE /form HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"\r\nAllow: GET,POST,PUT\r\n" in answer


@pytest.mark.parametrize(
    "target", [b"/tree/a%20b/c", b"http://x/tree/a%20b/c", b"/tree/a%20b/c?q=%zz&ok=1", b"/%74ree/a%20b/c"]
)
def test_targets(server: Serving, target: bytes) -> None:
    told = json.loads(body_of(server.talk(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, HOST))))
    assert told["path"] == "/tree/a b/c"
    assert told["query"] == ({"ok": ["1"]} if b"?" in target else {})


def test_forms(server: Serving) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    kind = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    client.request("PUT", "/form?a=3&c=4", body="a=1+2&b=%C3%A9", headers=kind)
    assert json.loads(client.getresponse().read()) == {"a": ["1 2", "3"], "b": ["é"], "c": ["4"]}
    client.close()


def test_the_client_is_known_by_its_address(server: Serving) -> None:
    with server.connect() as client:
        port = client.getsockname()[1]
        client.sendall(b"GET /peer HTTP/1.0\r\n\r\n")
        assert body_of(read_all(client)) == b"127.0.0.1:%d" % port


@pytest.mark.parametrize(
    ("request_bytes", "refusal"),
    [
        (b"GET /only HTTP/1.1\r\n\r\n", b"400 Bad Request: missing required Host header"),
        (b"GET /only HTTP/1.1\r\n" + HOST + HOST + b"\r\n", b"400 Bad Request: too many Host headers"),
        (b"GET /only HTTP/1.1\r\n" + HOST + b"X y: 1\r\n\r\n", b"400 Bad Request: invalid header name"),
        (b"GET /on%zzly HTTP/1.1\r\n" + HOST + b"\r\n", b"400 Bad Request"),
        (b"GET only HTTP/1.1\r\n" + HOST + b"\r\n", b"400 Bad Request"),
        (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n", b"400 Bad Request"),
        (
            b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
            b"400 Bad Request",
        ),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", b"Unsupported transfer encoding"),
        (b"\x16\x03\x01\x02\x00\x01", b"400 Bad Request"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b"400 Bad Request"),
    ],
)
def test_refusals_close_the_connection(server: Serving, request_bytes: bytes, refusal: bytes) -> None:
    with server.connect() as client:
        client.sendall(request_bytes)
        answer = read_all(client)
    assert body_of(answer) == refusal
    assert b"\r\nConnection: close\r\n" in answer


def test_http10_closes_unless_asked_to_stay(server: Serving) -> None:
    with server.connect() as client:
        client.sendall(b"GET /only HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"Connection: keep-alive\r\n" in client.recv(65536)
        client.sendall(b"GET /only HTTP/1.0\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.0 200 OK\r\n")


@pytest.mark.parametrize("body", [b"", b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_an_offered_upgrade_is_declined_and_its_body_stays_a_body(server: Serving, body: bytes) -> None:
    head = b"POST /echo HTTP/1.1\r\n" + HOST
    head += b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    head += b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    if body:
        head += b"Content-Length: %d\r\n" % len(body)
    answers = server.talk(head + b"\r\n" + body + b"GET /only HTTP/1.1\r\n" + HOST + b"\r\n")
    first, second = (json.loads(part) for part in re.findall(rb"\r\n\r\n(\{.*?\})(?=HTTP|$)", answers))
    assert first["body"].encode() == body
    assert second["path"] == "/only"


def test_curl(server: Serving) -> None:
    curl = shutil.which("curl")
    if curl is None:
        return  # http.client above is the independent client that is always there
    url = f"http://127.0.0.1:{server.port}/echo"
    command = [curl, "-sS", "--http2", "-d", "a=b" * 1000, url, "--next", "-sS", "-T", "-", url]
    done = subprocess.run(command, input=b"put", capture_output=True, timeout=20, check=True)
    first, second = re.findall(rb"\{.*?\}(?=\{|$)", done.stdout.replace(b'"query": {}, ', b""))
    assert json.loads(first)["body"] == "a=b" * 1000
    assert (json.loads(second)["method"], json.loads(second)["body"]) == ("PUT", "put")


# --- pipelining --------------------------------------------------------------------------------

BODIES = st.binary(max_size=300)
PATHS = st.sampled_from(["/echo", "/slow", "/later", "/nope", "/numbers", "/count"])


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, bytes]], list[int]]:
    """Requests as bytes, what they are, and where the bytes are cut."""
    data = b""
    asked: list[tuple[str, bytes]] = []
    for _ in range(draw(st.integers(1, 8))):
        path, body = draw(PATHS), draw(BODIES)
        method = "GET" if path == "/numbers" else "POST"
        data += f"{method} {path}?n={len(asked)} HTTP/1.1\r\nHost: x\r\n".encode()
        if draw(st.booleans()):
            data += b"Transfer-Encoding: chunked\r\n\r\n"
            at = 0
            while at < len(body):
                size = draw(st.integers(1, len(body) - at))
                data += b"%x\r\n%b\r\n" % (size, body[at : at + size])
                at += size
            data += b"0\r\n\r\n"
        else:
            data += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        asked.append((path, body))
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=6))
    return data, asked, sorted(cuts)


@given(conversations())
@settings(max_examples=250, deadline=None)
def test_pipelined_requests_are_answered_in_order_however_they_are_cut(
    server: Serving, conversation: tuple[bytes, list[tuple[str, bytes]], list[int]]
) -> None:
    data, asked, cuts = conversation
    with server.connect() as client:
        at = 0
        for cut in [*cuts, len(data)]:
            client.sendall(data[at:cut])
            at = cut
        client.shutdown(socket.SHUT_WR)
        answers = split_answers(read_all(client))
    assert len(answers) == len(asked)
    for number, ((path, body), (status, got)) in enumerate(zip(asked, answers, strict=True)):
        assert status == (404 if path == "/nope" else 200)
        if path == "/numbers":
            assert got == b"0;1;2;3;4;"
        elif path == "/count":
            assert got == b"%d" % len(body)
        elif path != "/nope":
            told = json.loads(got)
            assert told["query"] == {"n": [str(number)]}
            assert told["body"].encode("latin-1") == body


def split_answers(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer on a connection: a slow, separate reading of the same RFC."""
    answers = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        body = b""
        if length:
            body, data = data[: int(length[1])], data[int(length[1]) :]
        else:
            assert b"Transfer-Encoding: chunked" in head
            while True:
                size_text, _, data = data.partition(b"\r\n")
                size = int(size_text, 16)
                body, data = body + data[:size], data[size + 2 :]
                if size == 0:
                    break
        answers.append((int(head.split()[1]), body))
    return answers


def test_a_thousand_pipelined_requests(server: Serving) -> None:
    for path in (b"/echo", b"/slow", b"/later"):
        one = b"GET %b?n=1 HTTP/1.1\r\n%b\r\n" % (path, HOST)
        answers = server.talk(one * 1000)
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 1000


# --- queries -----------------------------------------------------------------------------------


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(TEXT, TEXT)))
def test_queries_come_back_as_they_were_encoded(pairs: list[tuple[str, str]]) -> None:
    wanted: dict[str, list[str]] = {}
    for name, value in pairs:
        wanted.setdefault(name, []).append(value)
    text = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)
    assert parse_query(text) == (wanted, "")


def test_a_bad_pair_is_left_out_and_named() -> None:
    assert parse_query("a=1&b=%zz&c&=d&%") == ({"a": ["1"], "c": [""], "": ["d"]}, 'invalid URL escape "%zz"')
