"""What a member listens on: for clients, for other members, and for those who scrape figures.

Every port speaks HTTP/1.1 and HTTP/2; what is answered differs. Source: etcd ``server/embed/etcd.go``
(configurePeerListeners, configureClientListeners, serveMetrics).
"""

import asyncio
from typing import Final, final

from kvorum import limits
from kvorum.api.http.gate import AccessGate
from kvorum.config import Config
from kvorum.logging import Logger
from kvorum.rpc.grpc import GrpcOptions, GrpcServer
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.listener import Listener
from kvorum.server.security import Security
from kvorum.tls.admission import ServerTls
from kvorum.urls import Url


@final
class Ports:
    """The listeners and the servers behind them. ``bind`` first; connections wait until they are served."""

    def __init__(self, config: Config, log: Logger) -> None:
        self._config: Final = config
        self._log: Final = log
        gate = AccessGate(config.cors, config.host_whitelist)
        self.http: Final = HttpServer(log, gate=gate)
        """For clients."""
        self.metrics_http: Final = HttpServer(log, gate=gate)
        """Who may scrape figures may not for that read keys, so none of the clients' services is here."""
        self.peer_http: Final = HttpServer(log)
        """For other members."""
        options = GrpcOptions(
            max_message_bytes=config.max_request_bytes + limits.GRPC_OVERHEAD_BYTES,
            max_concurrent_streams=config.max_concurrent_streams,
            keepalive_min_time=config.grpc_keepalive_min_time.seconds,
            keepalive_interval=config.grpc_keepalive_interval.seconds,
            keepalive_timeout=config.grpc_keepalive_timeout.seconds,
        )
        self.grpc: Final = GrpcServer(options)
        """For clients."""
        # etcd's members answer gRPC on the peers' port, too; clients there must not use up the others' share.
        self._peer_grpc: Final = GrpcServer(options, alike=self.grpc)
        self._clients: Listener | None = None
        self._peers: Listener | None = None
        self._scrapers: Listener | None = None
        self._security: Security
        self._client_urls: list[Url] = []
        self._metrics_urls: list[Url] = []
        self._peer_addresses: list[str] = []

    def bind(self, security: Security) -> None:
        """Take every address, so that a start that cannot serve fails before it changes anything.

        Raises:
            ListenError: an address is not to be had.
        """
        config, log = self._config, self._log
        self._security = security
        self._peers = self._listener(self.peer_http, self._peer_grpc, security.peers)
        self._clients = self._listener(self.http, self.grpc, security.clients)
        self._scrapers = self._listener(self.metrics_http, GrpcServer(GrpcOptions()), security.scrapers)
        peers = [str(url) for url in config.listen_peer_urls]
        log.info("configuring peer listeners", {"listen-peer-urls": peers})
        self._peer_addresses = [url.address for url in self._peers.bind(config.listen_peer_urls)]
        clients = [str(url) for url in config.listen_client_urls]
        log.info("configuring client listeners", {"listen-client-urls": clients})
        self._client_urls = self._clients.bind(config.listen_client_urls)
        self._metrics_urls = self._scrapers.bind(config.listen_metrics_urls)

    def serve_peers(self) -> None:
        """Answer other members."""
        for address in self._peer_addresses:
            self._log.info("serving peer traffic", address=address)
        assert self._peers is not None, "bound before"
        self._peers.start()

    def serve_clients(self) -> None:
        """Answer clients, and who scrapes figures."""
        assert self._clients is not None, "bound before"
        assert self._scrapers is not None, "bound before"
        self._security.say_clients()
        for url in self._client_urls:
            if url.secure:
                self._log.info("serving client traffic securely", address=url.address)
            else:
                self._log.info(
                    "serving client traffic insecurely; this is strongly discouraged!", address=url.address
                )
        for url in self._metrics_urls:
            self._log.info("serving metrics", address=str(url))
        self._clients.start()
        self._scrapers.start()

    async def shutdown_clients(self, grace_seconds: float) -> None:
        """Stop accepting, and let what is under way end for as long as the grace lasts.

        The peers stay: calls that are under way need them, and so does handing over leadership.
        """
        bound = (one for one in (self._clients, self._scrapers) if one is not None)
        await asyncio.gather(*(one.shutdown(grace_seconds) for one in bound))

    async def shutdown_peers(self, grace_seconds: float) -> None:
        """Stop talking to other members."""
        if self._peers is not None:
            await self._peers.shutdown(grace_seconds)

    def _listener(self, http: HttpServer, grpc: GrpcServer, tls: ServerTls | None) -> Listener:
        reuse_port = self._config.socket_reuse_port
        return Listener(self._log, http1=http, http2=grpc, tls=tls, reuse_port=reuse_port)
