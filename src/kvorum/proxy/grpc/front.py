"""``kvorum grpc-proxy start``: from flags to a running proxy.

Source of behaviour: etcd ``server/etcdmain/grpc_proxy.go``.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from kvorum import limits
from kvorum.duration import Duration
from kvorum.flags import Value
from kvorum.logging import Logger
from kvorum.peer.client import PeerClient
from kvorum.proxy.endpoints import Discovery, EndpointError, discover
from kvorum.proxy.figures import GrpcFigures
from kvorum.proxy.grpc.channels import Channels, channel_to_itself
from kvorum.proxy.grpc.keepalive import KeepAlive
from kvorum.proxy.grpc.kv import KvWork
from kvorum.proxy.grpc.leader import Leader
from kvorum.proxy.grpc.members import Members
from kvorum.proxy.grpc.namespace import Namespace
from kvorum.proxy.grpc.pages import Pages
from kvorum.proxy.grpc.passing import Passing
from kvorum.proxy.grpc.service import install
from kvorum.proxy.grpc.upstream import Upstream
from kvorum.proxy.grpc.watching import WatchService
from kvorum.proxy.security import own_certificate
from kvorum.rpc.grpc import GrpcOptions, GrpcServer
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.listener import Listener
from kvorum.rpc.sockets import ListenError
from kvorum.systemd import notify_ready
from kvorum.tls.admission import ServerTls
from kvorum.tls.info import TlsError, TlsInfo
from kvorum.urls import Url, parse_url


async def start(values: Mapping[str, Value], log: Logger) -> int:
    """Run the proxy until cancelled; returns the exit code if it cannot be run."""
    proxy = GrpcProxy(values, log)
    try:
        _check(values)
        await proxy.start()
    except (EndpointError, ListenError, TlsError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await proxy.stop()
    return 0


def _check(values: Mapping[str, Value]) -> None:
    """Raises EndpointError for flags that do not go together, in etcd's words."""
    prefix, ttl = str(values["resolver-prefix"]), int(str(values["resolver-ttl"]))
    if prefix and ttl < 1:
        raise EndpointError(f"invalid resolver-ttl {ttl}")
    if not prefix and ttl > 0:
        raise EndpointError('invalid resolver-prefix ""')
    if prefix and not values["advertise-client-url"]:
        raise EndpointError('invalid advertise-client-url ""')
    if values["auto-tls"] and not values["self-signed-cert-validity"]:
        raise EndpointError("selfSignedCertValidity is invalid,it should be greater than 0")
    if values["experimental-leasing-prefix"]:
        raise EndpointError("--experimental-leasing-prefix cannot be used: leased keys are not there")
    if values["insecure-skip-tls-verify"]:
        raise EndpointError("--insecure-skip-tls-verify cannot be used: give the members' CA with --cacert")


@final
class GrpcProxy:
    """The proxy: its parts, its listeners, its tasks."""

    def __init__(self, values: Mapping[str, Value], log: Logger) -> None:
        self._values: Final = values
        self._log: Final = log
        self._figures: Final = GrpcFigures()
        self._tasks: Final[list[asyncio.Task[None]]] = []
        self._listeners: Final[list[Listener]] = []
        self._upstream: Upstream
        self._watch: WatchService
        self._client: PeerClient

    async def start(self) -> None:
        """Serve. Raises EndpointError, ListenError, TlsError, OSError or ValueError if that cannot be."""
        values, log = self._values, self._log
        tls = self._serving_tls()
        grpc = GrpcServer(self._options())
        http = HttpServer(log)
        listener = self._listen(http, grpc, tls, Url("https" if tls else "http", str(values["listen-addr"])))
        log.info("listening for gRPC proxy client requests", address=values["listen-addr"])
        channels = await self._members()
        namespace = Namespace(str(values["namespace"]).encode())
        leader = Leader(self._upstream)
        is_ordered = bool(values["experimental-serializable-ordering"])
        kv = KvWork(self._upstream, namespace, self._figures, is_ordered=is_ordered)
        self._watch = WatchService(self._upstream, leader, namespace, kv.cache, self._figures)
        keep_alive = KeepAlive(self._upstream, leader)
        address, prefix = str(values["advertise-client-url"]), str(values["resolver-prefix"])
        ttl = int(str(values["resolver-ttl"]))
        members = Members(self._upstream, namespace, address, prefix, ttl, log)
        install(grpc, Passing(self._upstream), kv, self._watch, keep_alive, members, namespace)
        self._client = PeerClient(tls=channels.http_tls(log))
        pages = Pages(
            self._upstream,
            channel_to_itself(address, tls),
            self._client,
            self._figures,
            grpc.observer,
            secure=channels.secure,
        )
        pages.install(http)
        if values["metrics-addr"]:
            self._serve_metrics(pages, tls)
        running = [leader.run(), keep_alive.run(), *([members.register()] if prefix else [])]
        self._tasks.extend(asyncio.get_running_loop().create_task(one) for one in running)
        listener.start()
        log.info("started gRPC proxy", address=values["listen-addr"])
        notify_ready()

    async def stop(self) -> None:
        """Let calls end, for a moment, and close."""
        await asyncio.gather(*(one.shutdown(limits.PROXY_GRACE_SECONDS) for one in self._listeners))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._watch.close()
        await self._upstream.close()
        self._client.close()
        self._log.info("stop listening gRPC proxy client requests", address=self._values["listen-addr"])

    # --- within -------------------------------------------------------------------------------------------

    async def _members(self) -> Channels:
        """Find the members. Raises EndpointError."""
        values = self._values
        names = ("discovery-srv", "discovery-srv-name", "cacert")
        domain, service, ca = (str(values[name]) for name in names)
        found = await discover(Discovery(domain, service, bool(values["insecure-discovery"]), ca), self._log)
        given = values["endpoints"]
        assert isinstance(given, tuple)
        urls = [one.url for one in found] or [str(endpoint) for endpoint in given if endpoint]
        if not urls:
            raise EndpointError("no endpoints found")
        channels = Channels(values, urls)
        addresses = [url.partition("://")[2] or url for url in urls]
        self._upstream = Upstream(addresses, channels.open, int(str(values["max-send-bytes"])))
        return channels

    def _serving_tls(self) -> ServerTls | None:
        """Raises TlsError or OSError."""
        values, log = self._values, self._log
        info = TlsInfo(
            cert_file=str(values["cert-file"]),
            key_file=str(values["key-file"]),
            trusted_ca_file=str(values["trusted-ca-file"]),
            crl_file=str(values["client-crl-file"]),
        )
        if info.empty and not info.trusted_ca_file:
            if not values["auto-tls"]:
                return None
            host = str(values["listen-addr"]).rpartition(":")[0]
            directory = Path(str(values["data-dir"])) / "fixtures" / "proxy"
            years = int(str(values["self-signed-cert-validity"]))
            info = own_certificate(info, directory, [host], years, log)
        log.info("gRPC proxy server TLS", {"tls-info": str(info)})
        return ServerTls.load(info, log)

    def _options(self) -> GrpcOptions:
        def seconds(name: str) -> float:
            value = self._values[name]
            assert isinstance(value, Duration), name
            return value.seconds

        return GrpcOptions(
            max_message_bytes=limits.PROXY_REQUEST_BYTES,
            keepalive_min_time=seconds("grpc-keepalive-min-time"),
            keepalive_interval=seconds("grpc-keepalive-interval"),
            keepalive_timeout=seconds("grpc-keepalive-timeout"),
        )

    def _listen(self, http: HttpServer, grpc: GrpcServer, tls: ServerTls | None, url: Url) -> Listener:
        """Raises ListenError."""
        listener = Listener(self._log, http1=http, http2=grpc, tls=tls)
        listener.bind([url])
        self._listeners.append(listener)
        return listener

    def _serve_metrics(self, pages: Pages, tls: ServerTls | None) -> None:
        """Serve the pages on a port of their own. Raises ListenError or ValueError."""
        http = HttpServer(self._log)
        pages.install(http)
        url = parse_url(str(self._values["metrics-addr"]))
        listener = self._listen(http, GrpcServer(), tls, url)
        self._log.info("gRPC proxy listening for metrics", address=str(url))
        listener.start()
