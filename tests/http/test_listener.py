"""One port for both protocols, its sockets and its bounds."""

import errno
import resource
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from kvorum.logging import Logger
from kvorum.rpc.grpc import GrpcServer, UnaryCall
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpResponse
from kvorum.rpc.listener import Listener
from kvorum.rpc.sockets import ListenError
from kvorum.urls import parse_url
from tests.http.serving import HOST, Serving, read_all, serving

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


def routes(http: HttpServer) -> None:
    http.route("GET", "/ok", lambda request: HttpResponse(200, b"ok"))


def echo_server() -> GrpcServer:
    def echo(call: UnaryCall, body: bytes) -> None:
        call.reply(body)

    server = GrpcServer()
    server.unary("/test.Echo/Echo", echo)
    return server


@pytest.fixture(params=[False, True], ids=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Serving]:
    with serving(routes, plain=request.param, grpc=echo_server()) as running:
        yield running


def ask(client: socket.socket) -> bytes:
    client.sendall(b"GET /ok HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    return read_all(client)


def call(target: str, credentials: grpc.ChannelCredentials | None = None) -> bytes:
    options = (("grpc.ssl_target_name_override", "localhost"),) if credentials else ()
    make: Callable[[], grpc.Channel] = (
        (lambda: grpc.secure_channel(target, credentials, options))
        if credentials
        else (lambda: grpc.insecure_channel(target))
    )
    with make() as channel:
        reply: bytes = channel.unary_unary("/test.Echo/Echo")(b"hello", timeout=20, wait_for_ready=True)
        return reply


def test_both_protocols_on_one_port(server: Serving) -> None:
    assert call(f"127.0.0.1:{server.port}") == b"hello"
    with server.connect() as client:
        assert ask(client).endswith(b"ok")


def test_the_preface_byte_by_byte(server: Serving) -> None:
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in PREFACE + SETTINGS:
            client.sendall(bytes([byte]))
        frame = client.recv(9)
        assert frame[3] == 4, "the server's first frame is SETTINGS"


@pytest.mark.parametrize("start", [b"P", b"PRI", b"PRI * HTTP/2.0\r"])
def test_what_begins_like_the_preface_may_still_be_http1(server: Serving, start: bytes) -> None:
    with server.connect() as client:
        client.sendall(start)
        server.wait_until(lambda: server.listener.statistics().accepted == 1)
        client.sendall(b"OST /ok HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 405" if start == b"P" else b"HTTP/1.1 400")


def test_ipv6() -> None:
    with serving(routes, url="http://[::1]:0", grpc=echo_server()) as server:
        assert str(server.urls[0]).startswith("http://[::1]:")
        with socket.create_connection(("::1", server.port), timeout=10) as client:
            assert ask(client).endswith(b"ok")
        assert call(f"[::1]:{server.port}") == b"hello"


def test_the_wildcard_serves_both_families() -> None:
    with serving(routes, url="http://[::]:0") as server:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, server.port), timeout=10) as client:
                assert ask(client).endswith(b"ok")


def test_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "localhost:1").write_text("left over from an earlier process")
    with serving(routes, url="unix://localhost:1", grpc=echo_server()):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("localhost:1")
            assert ask(client).endswith(b"ok")
        assert call(f"unix:{tmp_path}/localhost:1") == b"hello"
    assert not (tmp_path / "localhost:1").exists()


def test_an_address_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        listener = Listener(Logger([]), http1=HttpServer(Logger([])), http2=GrpcServer())
        with pytest.raises(ListenError) as error:
            listener.bind([parse_url("http://127.0.0.1:0"), parse_url(f"http://127.0.0.1:{port}")])
    assert str(error.value) == f"listen tcp 127.0.0.1:{port}: bind: address already in use"
    assert error.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://192.0.2.1:2379", "listen tcp 192.0.2.1:2379: bind: cannot assign requested address"),
        ("unix://" + "a" * 200 + ":1", "listen unix " + "a" * 200 + ":1: bind: invalid argument"),
        (
            "https://127.0.0.1:0",
            "TLS key/cert (--cert-file, --key-file) must be provided for client url"
            " https://127.0.0.1:0 with HTTPS scheme",
        ),
    ],
)
def test_addresses_that_cannot_be_had(url: str, text: str) -> None:
    listener = Listener(Logger([]), http1=HttpServer(Logger([])), http2=GrpcServer())
    with pytest.raises(ListenError) as error:
        listener.bind([parse_url(url)])
    assert str(error.value) == text


def test_silence_is_ended() -> None:
    with serving(routes, listener_options={"first_bytes_seconds": 0.2}) as server:
        with server.connect() as silent, server.connect() as half:
            half.sendall(b"PRI * HT")
            assert read_all(silent) == b""
            assert read_all(half) == b""
        assert server.thread.call(server.listener.statistics).dropped_silent == 2


def test_silent_connections_are_bounded_and_the_oldest_pays() -> None:
    with serving(routes, listener_options={"silent_connections": 4}) as server:
        clients = [server.connect() for _ in range(5)]
        assert read_all(clients[0]) == b""
        assert ask(clients[-1]).endswith(b"ok")
        for client in clients:
            client.close()


def test_connections_beyond_the_bound_wait_until_one_leaves() -> None:
    with serving(routes, listener_options={"max_connections": 2}) as server:
        first, second, third = (server.connect() for _ in range(3))
        server.wait_until(lambda: server.listener.statistics().connections == 2)
        third.sendall(b"GET /ok HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
        assert ask(first).endswith(b"ok")
        assert read_all(third).endswith(b"ok")
        for client in (first, second, third):
            client.close()


def test_want_of_descriptors_makes_accepting_rest_and_go_on() -> None:
    with serving(routes) as server, server.connect() as established:
        established.sendall(b"G")
        server.wait_until(lambda: len(server.http.connections) == 1)
        clients = [socket.socket() for _ in range(3)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # The lowest free descriptor is at the limit, so every accept fails while it stands.
        with open("/dev/null") as probe:
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno(), hard))
        try:
            for client in clients:
                client.connect(("127.0.0.1", server.port))
            server.wait_until(lambda: server.listener.statistics().accept_failures >= 1)
            established.sendall(b"ET /ok HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
            assert read_all(established).endswith(b"ok")
            failures = server.thread.call(server.listener.statistics).accept_failures
            assert failures < 50
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for client in clients:
            assert ask(client).endswith(b"ok")
            client.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", *options, "-keyout", str(key), "-out", str(cert), *subject]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


@pytest.mark.parametrize("plain", [False, True], ids=["uvloop", "asyncio"])
def test_tls_and_alpn(certificate: tuple[Path, Path], plain: bool) -> None:
    key, cert = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    options = {"tls": context}
    url = "https://127.0.0.1:0"
    with serving(routes, url=url, plain=plain, grpc=echo_server(), listener_options=options) as server:
        with server.connect() as raw:
            raw.sendall(b"GET /ok HTTP/1.1\r\n\r\n")  # no TLS at all
            assert b"ok" not in read_all(raw)
        trusting = ssl.create_default_context(cafile=str(cert))
        for protocols in (["http/1.1"], []):
            if protocols:
                trusting.set_alpn_protocols(protocols)
            with server.connect() as raw, trusting.wrap_socket(raw, server_hostname="localhost") as client:
                assert ask(client).endswith(b"ok")
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        assert call(f"127.0.0.1:{server.port}", credentials) == b"hello"
