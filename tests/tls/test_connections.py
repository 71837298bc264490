"""One listener with TLS on both event loops: what connections do to it, and it to them."""

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum import limits
from kvorum.logging import Logger
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest, HttpResponse
from kvorum.rpc.listener import Listener
from kvorum.tls import ServerTls, TlsInfo, common_name
from kvorum.urls import Url, parse_url
from tests.http.serving import HOST, Serving, read_all, serving
from tests.support.certificates import Authority, Pair

BOUND: Final = 8
SECONDS: Final = 0.6
LARGE: Final = bytes(range(256)) * 8_000
ASK: Final = b"GET /ok HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_pair(authority: Authority) -> Pair:
    return authority.issue("server")


@pytest.fixture(scope="module")
def client_pair(authority: Authority) -> Pair:
    return authority.issue("client", common_name="alice")


def routes(http: HttpServer) -> None:
    def echo(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, request.body)

    http.route("GET", "/ok", lambda request: HttpResponse(200, b"ok"))
    http.route("GET", "/who", lambda request: HttpResponse(200, repr(common_name(request)).encode()))
    http.route("GET", "/large", lambda request: HttpResponse(200, LARGE))
    http.route("POST", "/echo", echo, max_body_bytes=1 << 25)


@pytest.fixture(params=[False, True], ids=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, server_pair: Pair) -> Iterator[Serving]:
    tls = ServerTls.load(TlsInfo(cert_file=str(server_pair.cert), key_file=str(server_pair.key)), Logger([]))
    options = {"tls": tls, "handshakes": BOUND, "handshake_seconds": SECONDS}
    with serving(routes, url="https://127.0.0.1:0", plain=request.param, listener_options=options) as running:
        yield running
        running.wait_until(lambda: running.listener.connections == 0)


def secure(server: Serving, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(server.connect(), server_hostname="localhost")


def client_hello(context: ssl.SSLContext) -> tuple[bytes, ssl.MemoryBIO, ssl.MemoryBIO, ssl.SSLObject]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read(), incoming, outgoing, session


def refusals(server: Serving, text: str, count: int = 1) -> None:
    server.wait_until(lambda: server.log.text().count(text) >= count)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_large_and_small(server: Serving, authority: Authority, version: ssl.TLSVersion) -> None:
    context = authority.context()
    context.minimum_version = context.maximum_version = version
    with secure(server, context) as client:
        client.sendall(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n")
        time.sleep(0.05)  # the server's buffers fill, and it stops writing; reading on makes it go on
        length = b"POST /echo HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n" % len(LARGE)
        sender = threading.Thread(target=client.sendall, args=(length + HOST + b"\r\n" + LARGE,))
        sender.start()
        answers = read_all(client)
        sender.join()
    assert answers.count(LARGE) == 2


def test_a_hello_in_pieces(server: Serving, authority: Authority) -> None:
    hello, incoming, outgoing, session = client_hello(authority.context())
    with server.connect() as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(hello), 50):
            raw.sendall(hello[at : at + 50])
        while True:
            incoming.write(raw.recv(65536))
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
        session.write(ASK)
        raw.sendall(outgoing.read())  # with the end of the handshake in front: both come in one piece
        incoming.write(read_all(raw))
        assert session.read(65536).endswith(b"ok")


def test_goodbye_both_ways(server: Serving, authority: Authority) -> None:
    """close_notify is sent at the end of an answer, and ends a connection that is idle."""
    strict = authority.context().wrap_socket(
        server.connect(), server_hostname="localhost", suppress_ragged_eofs=False
    )
    with strict as client:
        client.sendall(ASK)
        assert read_all(client).endswith(b"ok")  # would raise if the connection had just ended
    with secure(server, authority.context()) as client:
        client.sendall(b"GET /ok HTTP/1.1\r\n" + HOST + b"\r\n")
        assert client.recv(65536).endswith(b"ok")
        client.unwrap()


def test_what_is_no_tls(server: Serving) -> None:
    cases = {
        b"GET / HTTP/1.1\r\n\r\n": b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS"
        b" server.\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to"
        b" an HTTPS server.\n",
        b"SSH-2.0-x\r\n": b"",
        b"\x80\x2e\x01": b"",
        b"\x16\x03\x01\xff\xff": b"",
        b"\0": b"",
        b"": b"",
    }
    for said, answer in cases.items():
        assert server.talk(said) == answer, said
    refusals(server, '"error":"tls: first record does not look like a TLS handshake"', 4)
    refusals(server, '"error":"tls: unsupported SSLv2 handshake received"')
    refusals(server, '"error":"tls: oversized record received with length 65535"')
    refusals(server, '"error":"EOF"')


def test_garbage_after_a_hello(server: Serving, authority: Authority) -> None:
    """A broken handshake ends with an alert, which asyncio's and uvloop's own TLS would swallow."""
    hello, incoming, outgoing, session = client_hello(authority.context())
    with server.connect() as raw:
        raw.sendall(hello[:60] + bytes(len(hello) - 60))
        assert read_all(raw)[:1] == b"\x15"
    with server.connect() as raw:
        raw.sendall(hello)
        incoming.write(raw.recv(65536))
        session.do_handshake()
        raw.sendall(outgoing.read())
        session.write(ASK)
        raw.sendall(outgoing.read()[:-1] + b"?" * 5000)
        read_all(raw)
    refusals(server, "rejected connection")


def test_a_handshake_has_its_time(server: Serving, authority: Authority) -> None:
    """Silent, dribbling or stalled, alone or many: all are gone in time, and nobody else waits for them."""
    hello, *_ = client_hello(authority.context())
    begun = time.monotonic()
    silent, dribbling, stalled = server.connect(), server.connect(), server.connect()
    dribbling.sendall(hello[:7])
    stalled.sendall(hello)
    with secure(server, authority.context()) as honest:
        honest.sendall(ASK)
        assert read_all(honest).endswith(b"ok")
    assert time.monotonic() - begun < SECONDS
    for client in (silent, dribbling, stalled):
        read_all(client)
        client.close()
    assert time.monotonic() - begun >= SECONDS
    refusals(server, ': i/o timeout"', 3)


def test_too_much_before_the_handshake(server: Serving, authority: Authority) -> None:
    """Nobody has reason to send more than a hello before it is answered; who does is not read from."""
    hello, *_ = client_hello(authority.context())
    with server.connect() as raw:
        try:
            raw.sendall(hello[:-1] + bytes(8_000_000))
        except OSError:
            pass
        read_all(raw)
    refusals(server, "rejected connection")


def test_a_resumed_session_is_looked_at_again(authority: Authority, server_pair: Pair) -> None:
    """TLS 1.2 lets a client come back without its certificate being verified: not after that has expired."""
    brief = authority.issue("brief", ends=datetime.timedelta(seconds=2))
    tls = ServerTls.load(info(authority, server_pair), Logger([]))
    with serving(routes, url="https://127.0.0.1:0", listener_options={"tls": tls}) as server:
        context = authority.context(brief)
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        def come(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool, bytes]:
            raw = server.connect()
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as client:
                client.sendall(ASK)
                return client.session, bool(client.session_reused), read_all(client)

        session, _, answer = come(None)
        assert answer.endswith(b"ok")
        session, reused, answer = come(session)
        assert answer.endswith(b"ok")
        assert reused
        left = brief.certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        time.sleep(max(0.0, left.total_seconds()) + 0.1)
        assert come(session)[1:] == (True, b"")
        refusals(server, "x509: certificate has expired")


def test_one_too_many(server: Serving, authority: Authority) -> None:
    """The oldest makes place: who means it is through before it is the oldest."""
    hello, *_ = client_hello(authority.context())
    clients = [server.connect() for _ in range(3 * BOUND)]
    for client in clients:
        client.sendall(hello)
    for _ in range(3):
        with secure(server, authority.context()) as honest:
            honest.sendall(ASK)
            assert read_all(honest).endswith(b"ok")
    assert server.thread.call(server.listener.statistics).handshakes <= BOUND
    refusals(server, '"error":"too many handshakes"', 2 * BOUND)
    for client in clients:
        client.close()


def test_a_flood_takes_turns(server: Serving, authority: Authority) -> None:
    """However many hellos come at once, a few handshakes begin in a turn of the loop."""
    admission = server.listener._admission
    assert admission is not None
    most: list[int] = []
    begun = [0]
    begin = type(next(iter([admission])))._turn

    def counted() -> None:
        before = len(admission._queue)
        begin(admission)
        most.append(before - len(admission._queue))
        begun[0] += most[-1]

    hello, *_ = client_hello(authority.context())
    clients = [server.connect() for _ in range(BOUND)]
    server.wait_until(lambda: len(admission.pending) == BOUND)

    def block() -> None:
        admission._turn = counted  # type: ignore[method-assign]
        for client in clients:
            client.sendall(hello)
        time.sleep(0.05)  # all of them are there when the loop looks again

    server.thread.call(block)
    server.wait_until(lambda: begun[0] == BOUND)
    assert max(most) == limits.TLS_HANDSHAKES_PER_TURN
    for client in clients:
        client.close()


def test_an_end_in_the_middle(authority: Authority, server_pair: Pair) -> None:
    """A listener that is shut down leaves no handshake behind."""
    tls = ServerTls.load(TlsInfo(cert_file=str(server_pair.cert), key_file=str(server_pair.key)), Logger([]))
    with serving(routes, url="https://127.0.0.1:0", listener_options={"tls": tls}) as server:
        hello, *_ = client_hello(authority.context())
        clients = [server.connect() for _ in range(5)]
        for client in clients[:3]:
            client.sendall(hello)
        server.wait_until(lambda: server.listener.statistics().handshakes == 5)
    for client in clients:
        read_all(client)
        client.close()


def info(authority: Authority, pair: Pair, **more: object) -> TlsInfo:
    given = {"cert_file": str(pair.cert), "key_file": str(pair.key), "trusted_ca_file": str(authority.path)}
    return TlsInfo(**(given | more))  # type: ignore[arg-type]


def who(server: Serving, context: ssl.SSLContext) -> bytes:
    with secure(server, context) as client:
        client.sendall(b"GET /who HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
        return read_all(client).rpartition(b"\r\n")[2]


@pytest.mark.parametrize(("asked", "name"), [(True, b"'alice'"), (False, b"None")])
def test_a_name_counts_if_it_was_asked_for(
    authority: Authority, server_pair: Pair, client_pair: Pair, asked: bool, name: bytes
) -> None:
    """An authority alone makes certificates necessary; only --client-cert-auth makes their names count."""
    tls = ServerTls.load(info(authority, server_pair, client_cert_auth=asked), Logger([]))
    with serving(routes, url="https://127.0.0.1:0", listener_options={"tls": tls}) as server:
        assert who(server, authority.context(client_pair)) == name
        nameless = authority.issue("nobody", common_name="")
        assert who(server, authority.context(nameless)) == (b"''" if asked else b"None")
        with pytest.raises(ssl.SSLError):
            who(server, authority.context()) or read_all(server.connect())


def test_without_tls_there_is_no_name() -> None:
    with serving(routes) as server:
        answer = server.talk(b"GET /who HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
        assert answer.endswith(b"None")


@settings(max_examples=60, deadline=None)
@given(noise=st.binary(max_size=300), cut=st.integers(0, 400), insert=st.booleans())
def test_hellos_with_noise(noise_server: tuple[Serving, bytes], noise: bytes, cut: int, insert: bool) -> None:
    """Whatever comes, the connection ends, and the server goes on."""
    server, hello = noise_server
    server.talk(hello[:cut] + noise + (hello[cut:] if insert else b""))


@pytest.fixture(scope="module")
def noise_server(
    authority: Authority, server_pair: Pair, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Serving, bytes]]:
    tls = ServerTls.load(TlsInfo(cert_file=str(server_pair.cert), key_file=str(server_pair.key)), Logger([]))
    with serving(routes, url="https://127.0.0.1:0", listener_options={"tls": tls}) as server:
        yield server, client_hello(authority.context())[0]
        server.wait_until(lambda: server.listener.connections == 0)
        with secure(server, authority.context()) as honest:
            honest.sendall(ASK)
            assert read_all(honest).endswith(b"ok")
        assert "HTTP handler failed" not in server.log.text()
        assert "panic" not in server.log.text()


def test_keys_are_looked_at_before_anything_runs(authority: Authority, tmp_path: Path) -> None:
    encrypted = tmp_path / "key.pem"
    encrypted.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGjMF8GCSqGSIb3\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    pair = authority.issue("encrypted")
    with pytest.raises(Exception, match="failed to parse private key"):
        ServerTls.load(TlsInfo(cert_file=str(pair.cert), key_file=str(encrypted)), Logger([]))


def test_a_unix_socket_has_no_address(
    authority: Authority,
    server_pair: Pair,
    client_pair: Pair,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So there is none to compare with what a certificate says; the rest is asked for as everywhere."""
    monkeypatch.chdir(tmp_path)
    tls = ServerTls.load(info(authority, server_pair), Logger([]), check_addresses=True)
    with serving(routes, url="unixs://localhost:1", listener_options={"tls": tls}) as server:
        for pair in (client_pair, None):
            raw = socket.socket(socket.AF_UNIX)
            raw.connect("localhost:1")
            with authority.context(pair).wrap_socket(raw, server_hostname="localhost") as client:
                if pair is not None:
                    client.sendall(ASK)
                    assert read_all(client).endswith(b"ok")
        refusals(server, '"remote-addr":"@"')


def test_both_on_one_port(authority: Authority, server_pair: Pair) -> None:
    """http and https URLs of the same address, as etcd has them for clients."""
    tls = ServerTls.load(TlsInfo(cert_file=str(server_pair.cert), key_file=str(server_pair.key)), Logger([]))
    for first in ("http", "https"):
        with serving(routes, url=f"{first}://127.0.0.1:0", listener_options={"tls": tls}) as server:
            other = "https" if first == "http" else "http"
            address = server.urls[0].address

            def share(listener: Listener = server.listener, url: str = f"{other}://{address}") -> list[Url]:
                listener.stop_accepting()
                both = [parse_url(f"{first}://{address}"), parse_url(url)]  # noqa: B023
                bound = listener.bind(both)
                assert bound == both
                listener.start()
                return bound

            server.thread.call(share)
            assert server.talk(ASK).endswith(b"ok")
            with secure(server, authority.context()) as client:
                client.sendall(ASK)
                assert read_all(client).endswith(b"ok")
            assert server.thread.call(server.listener.statistics).refused == 0
            server.talk(b"\x16\x03\x01\0\x01\0")
            refusals(server, "rejected connection")
