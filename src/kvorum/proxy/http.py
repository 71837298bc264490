"""The v2 proxy, ``kvorum --proxy on|readonly``: HTTP/1.1 requests to whichever member answers.

It listens on ``--listen-client-urls``. ``run`` is what the command line calls, and what a member does whose
discovery found its cluster complete (``--discovery-fallback proxy``). Source of behaviour: etcd
``server/etcdmain/etcd.go`` (startProxy), ``server/proxy/httpproxy``.
"""

import asyncio
import random
import sys
from pathlib import Path
from typing import Final, final

from kvorum import limits
from kvorum.api.http.gate import AccessGate
from kvorum.config import Config, ConfigError
from kvorum.flags import FlagError
from kvorum.logging import Logger
from kvorum.peer.client import PeerClient
from kvorum.proxy.cluster import ClusterFile, ask_members, find_peers
from kvorum.proxy.director import Director
from kvorum.proxy.figures import HttpFigures
from kvorum.proxy.forward import Forwarder
from kvorum.proxy.process import serve
from kvorum.proxy.security import member_tls, serving_tls
from kvorum.rpc.grpc import GrpcServer
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest, HttpResponse, json_response
from kvorum.rpc.listener import Listener
from kvorum.rpc.sockets import ListenError
from kvorum.systemd import notify_ready
from kvorum.tls.info import TlsError

READONLY: Final = "readonly"
_MS: Final = 1000


def run(config: Config, log: Logger) -> int:
    """Be a proxy until a signal comes; returns the process's exit code.

    Called outside of any loop. ``--proxy off`` is taken as ``on``: who comes here from discovery, or finds a
    proxy's data directory, is one whatever the flag says.
    """
    from kvorum.discovery.errors import DiscoveryError

    async def serving() -> int:
        proxy = HttpProxy(config, log)
        try:
            await proxy.start()
        except FlagError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        except (ConfigError, DiscoveryError, ListenError, TlsError, OSError) as error:
            log.fatal("discovery failed", error=error)
            return 1
        try:
            await asyncio.get_running_loop().create_future()  # until a signal cancels
        finally:
            await proxy.stop()
        return 0

    log.info("v2 API proxy starting")
    return serve(serving, log)


@final
class HttpProxy:
    """The proxy: its listener, and the task that keeps track of the members."""

    def __init__(self, config: Config, log: Logger) -> None:
        self._config: Final = config
        self._log: Final = log
        self._file: Final = ClusterFile(Path(config.data_dir))
        self._figures: Final = HttpFigures()
        # which member is asked first is no secret
        self._director: Final = Director(config.proxy_failure_wait / _MS, random.shuffle)
        self._peers: list[str] = []
        self._clients: list[str] = []
        self._found = False
        self._client: PeerClient
        self._peer_client: PeerClient
        self._listener: Listener
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find the cluster, look who is in it, and serve.

        Raises:
            ConfigError, DiscoveryError, ListenError, TlsError, OSError: why that cannot be.
        """
        config, log = self._config, self._log
        dial = config.proxy_dial_timeout / _MS or limits.PEER_CONNECT_SECONDS
        to_clients, to_peers = member_tls(config, log)
        self._client = PeerClient(tls=to_clients, connect_seconds=dial)
        self._peer_client = PeerClient(tls=to_peers, connect_seconds=dial)
        self._file.prepare()
        self._peers = await find_peers(config, self._file, log)
        await self._refresh()
        http = HttpServer(log, gate=AccessGate(config.cors))
        read = config.proxy_read_timeout / _MS or None
        clock = asyncio.get_running_loop().time
        write = config.proxy_write_timeout / _MS or limits.PEER_SNAPSHOT_STALL_SECONDS
        forwarder = Forwarder(self._client, self._director, self._figures, (read, write), clock, log)
        handle = forwarder.handle
        is_readonly = config.proxy == READONLY

        async def only_read(request: HttpRequest) -> HttpResponse:
            return await handle(request) if request.method == "GET" else HttpResponse(501, b"", ())

        http.route("*", "/", only_read if is_readonly else handle, long_poll=True)
        http.route("GET", "/v2/config/local/proxy", self._show)
        http.route("*", "/metrics", lambda _: HttpResponse(200, self._figures.metrics.render()))
        tls = serving_tls(config, self._file.path.parent, log)
        self._listener = Listener(
            log, http1=http, http2=GrpcServer(), tls=tls, reuse_port=config.socket_reuse_port
        )
        for url in self._listener.bind(config.listen_client_urls):
            log.info("v2 proxy started listening on client requests", host=str(url))
        self._listener.start()
        self._refreshing = asyncio.get_running_loop().create_task(self._keep_track())
        notify_ready()

    async def stop(self) -> None:
        """Let what is under way end, for a moment, and close."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self._listener.shutdown(limits.PROXY_GRACE_SECONDS)
        for client in (self._client, self._peer_client):
            client.close()
            await client.wait_closed()

    # --- within -------------------------------------------------------------------------------------------

    def _show(self, _: HttpRequest) -> HttpResponse:
        now = asyncio.get_running_loop().time()
        endpoints = [str(endpoint.url) for endpoint in self._director.available(now)]
        answer = json_response({"endpoints": endpoints})
        return HttpResponse(200, bytes_of(answer) + b"\n")

    async def _keep_track(self) -> None:
        loop = asyncio.get_running_loop()
        usual = self._config.proxy_refresh_interval / _MS
        while True:
            endpoints = [str(one.url) for one in self._director.available(loop.time())]
            if endpoints and not self._found:
                self._found = True
                self._log.info("endpoints found", endpoints=endpoints)
            # who found nobody at first should not wait for half a minute
            patient = bool(endpoints) or usual < limits.PROXY_LONG_REFRESH_SECONDS
            await asyncio.sleep(usual if patient else limits.PROXY_EMPTY_REFRESH_SECONDS)
            await self._refresh()

    async def _refresh(self) -> None:
        """Ask who is in the cluster, and remember it."""
        found = await ask_members(self._peer_client, self._peers)
        if found is None:
            self._log.warn("failed to get cluster from remote peers", {"peer-urls": self._peers})
            self._clients = []
        else:
            self._clients, peers = found
            try:
                self._file.write(peers)
            except OSError as error:
                self._log.warn("proxy failed to write cluster file", error=error)
            if peers != self._peers:
                self._log.info("proxy updated peer URLs", {"from": self._peers, "to": peers})
                self._peers = peers
        for text in self._director.refresh(self._clients):
            self._log.info("upstream URL invalid", url=text)


def bytes_of(response: HttpResponse) -> bytes:
    """The body of an answer that is no stream."""
    assert isinstance(response.body, bytes)
    return response.body
