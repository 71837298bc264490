"""A member, whole: files opened, node and services joined, ports served, signals obeyed.

The only module that knows every room. ``run`` is what the ``kvorum`` command calls; ``Member`` is the same
without signals and exit codes, for embedding. Log messages are etcd's: scripts wait for them. Source: etcd
``server/embed/etcd.go``, ``server/etcdmain/etcd.go``.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, final

from kvorum import ETCD_VERSION, limits
from kvorum.api.gate import Gate
from kvorum.api.http.health import HealthHandlers
from kvorum.api.http.pages import install_metrics, install_version
from kvorum.api.http.peers import PeerHandlers
from kvorum.api.v2.install import V2Api, discovery_service
from kvorum.api.v3.services import install_services
from kvorum.api.v3.standing import StandingStreams
from kvorum.config import Config
from kvorum.discovery import find
from kvorum.duration import MILLISECOND, Duration
from kvorum.logging import Logger, hex_id
from kvorum.rpc.health import HealthService
from kvorum.rpc.reflection import ReflectionService
from kvorum.server import takeover
from kvorum.server.bootstrap import Begun, Bootstrap, Joined
from kvorum.server.figures import NodeHealth, bind_metrics
from kvorum.server.files import MemberFiles
from kvorum.server.ids import RequestIdGenerator
from kvorum.server.node import Node, NodeOptions
from kvorum.server.passwords import Passwords, checked_cost
from kvorum.server.peers import Peers, find_cluster
from kvorum.server.ports import Ports
from kvorum.server.publish import Publisher
from kvorum.server.ready import ReadyLoop
from kvorum.server.security import Security
from kvorum.server.snapshots import SnapshotOptions, Snapshots
from kvorum.server.tokens import Tokens
from kvorum.wal import segments
from kvorum.wal.writer import WalWriter


@final
class Member:
    """One member: ``await start()`` until it serves, ``await stop()`` until everything is closed.

    ``failed`` becomes done with the error if the disk fails or the program contradicts itself: whoever runs
    the member ends the process then, without closing what can no longer be trusted.
    """

    def __init__(self, config: Config, log: Logger) -> None:
        self.config: Final = config
        self.log: Final = log
        self.failed: Final[asyncio.Future[BaseException]] = asyncio.get_running_loop().create_future()
        self.removed: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        """Done when this member was removed from its cluster: whoever runs it stops it then."""
        self._begun: Begun | None = None
        self._writer: WalWriter | None = None
        self._background: Final = ThreadPoolExecutor(1, "kvorum-background")
        self._ports: Final = Ports(config, log)
        self._health: Final = HealthService()
        self._standing: StandingStreams | None = None
        self._tokens: Tokens | None = None
        self._passwords: Final = Passwords(checked_cost(config.bcrypt_cost, log))
        self._security: Security
        self._peers: Peers
        self._ready: ReadyLoop
        self.node: Node

    # --- starting ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything, wait until this member is part of its cluster, then serve.

        Raises:
            one of ``START_ERRORS``, or FlagError.
        """
        security = self._security = Security(self.config, self.log)
        self._ports.bind(security)
        config = self.config
        await asyncio.to_thread(
            takeover.before_start, config.data_dir, config.wal_dir, config.max_learners, self.log
        )
        self._say_what_starts()
        self._open(*await self._bootstrap(security))
        self._serve()
        self._peers.begin(self._ports.peer_http)
        self._ports.serve_peers()
        await Publisher(self.config, self.node, self.node.cluster.id, self.failed, self.log).publish()
        self.log.info("ready to serve client requests")
        self._ports.serve_clients()

    async def _bootstrap(self, security: Security) -> tuple[Bootstrap, Joined | None]:
        """How this member begins, and the cluster that it was added to."""
        config, log, clock = self.config, self.log, asyncio.get_running_loop().time
        bootstrap = Bootstrap(config, log, clock=clock)
        if bootstrap.has_data:
            find.say_ignored(config, log)
            return bootstrap, None
        with_members, joined = await find_cluster(config, security.to_peers, log)
        return Bootstrap(with_members, log, clock=clock), joined

    def _say_what_starts(self) -> None:
        config = self.config
        self.log.info(
            "starting an etcd server",
            {
                "etcd-version": ETCD_VERSION,
                "member-initialized": segments.exists(str(config.wal_path)),
                "name": config.name,
                "data-dir": config.data_dir,
                "wal-dir": config.wal_dir,
                "member-dir": str(config.member_path),
                "heartbeat-interval": str(Duration(config.heartbeat_interval_ms * MILLISECOND)),
                "election-timeout": str(
                    Duration(config.election_ticks * config.heartbeat_interval_ms * MILLISECOND)
                ),
                "snapshot-count": config.snapshot_count,
                "initial-advertise-peer-urls": [str(url) for url in config.advertise_peer_urls],
                "advertise-client-urls": [str(url) for url in config.advertise_client_urls],
                "listen-client-urls": [str(url) for url in config.listen_client_urls],
                "listen-metrics-urls": [str(url) for url in config.listen_metrics_urls],
                "cors": list(config.cors),
                "host-whitelist": list(config.host_whitelist),
                "initial-cluster": config.initial_cluster,
                "initial-cluster-state": config.initial_cluster_state,
                "initial-cluster-token": config.initial_cluster_token,
                "quota-size-bytes": config.quota_bytes,
                "pre-vote": config.pre_vote,
            },
        )
        if config.unsafe_no_fsync:
            self.log.warn(
                "fsync is off: a crash of the machine loses acknowledged writes", flag="unsafe-no-fsync"
            )

    def _open(self, bootstrap: Bootstrap, joined: Joined | None) -> None:
        """Open the files and join the node to them."""
        loop, config = asyncio.get_running_loop(), self.config
        tokens = self._tokens = Tokens(config.auth_token, self.log)
        begun = self._begun = bootstrap.begin(joined)
        writer = self._writer = WalWriter(begun.wal, loop)
        peers = self._peers = Peers(config, self._security.to_peers, begun, bootstrap.open_aside, self.log)
        ready = self._ready = ReadyLoop(
            begun.raft,
            begun.wal,
            writer,
            transport=peers.notices,
            clock=loop.time,
            call_soon=loop.call_soon,
            fatal=self._fail,
            observe_fsync=begun.figures.fsync_seconds.observe,
        )
        snapshots = Snapshots(
            begun.raft,
            begun.store,
            MemberFiles(config, begun.wal, begun.snapshotter, peers.peering.sink),
            last_index=begun.snapshot_index,
            in_background=self._in_background,
            write_marker=ready.write_marker,
            options=SnapshotOptions(config.snapshot_count, config.snapshot_catchup_entries),
            log=self.log,
            in_flight=peers.peering.source.in_flight,
        )
        self.node = Node(
            member_id=begun.member_id,
            raft=begun.raft,
            loop=ready,
            store=begun.store,
            cluster=begun.cluster,
            snapshots=snapshots,
            ids=RequestIdGenerator(begun.member_id, time.time()),
            timers=loop,
            log=self.log,
            transport=peers.transport,
            removed=self._removed,
            options=NodeOptions(
                heartbeat_seconds=config.heartbeat_interval_ms / 1000,
                election_seconds=config.election_timeout_ms / 1000,
                max_request_bytes=config.max_request_bytes,
                quota_bytes=config.quota_bytes,
                compaction_sleep_seconds=config.compaction_sleep_interval.seconds,
                watch_progress_seconds=config.watch_progress_notify_interval.seconds,
                strict_reconfig_check=config.strict_reconfig_check,
                tokens=tokens.provider,
                token_ttl_seconds=config.auth_token_ttl or limits.SIMPLE_TOKEN_TTL_SECONDS,
            ),
        )
        self.log.info(
            "starting etcd server",
            local_member_id=hex_id(begun.member_id),
            local_server_version=ETCD_VERSION,
            cluster_id=hex_id(begun.cluster.id),
            cluster_version=begun.cluster.version or "to_be_decided",
        )
        peers.attach(self.node, ready.kick)
        self.node.start()

    def _serve(self) -> None:
        """Put every service into the method tables."""
        node, config, grpc, http = self.node, self.config, self._ports.grpc, self._ports.http
        if self._tokens is not None:
            self._tokens.start()
        self._standing = install_services(
            grpc,
            node,
            Gate(node, self.log, by_certificate=bool(config.value("client-cert-auth"))),
            self._passwords,
            self.log,
            max_txn_ops=config.max_txn_ops,
            max_request_bytes=config.max_request_bytes,
            reconfigure=node.reconfigure,
            handover=self._peers.handover,
            snapshots=self._peers.peering.source,
        )
        self._health.install(grpc)
        ReflectionService(grpc).install()
        health = HealthHandlers(NodeHealth(node, float(config.request_timeout.seconds)), self.log)
        for server in (http, self._ports.peer_http):
            install_version(server, ETCD_VERSION, lambda: node.cluster.version or "")
        PeerHandlers(node, node.reconfigure, self.log).install(self._ports.peer_http)
        assert self._begun is not None, "opened before"
        metrics = bind_metrics(node, self._begun, grpc.observer, health, quota_bytes=config.quota_bytes)
        self._peers.transport.figures.bind(metrics)
        self._peers.peering.source.bind(metrics)
        self._peers.peering.sink.bind(metrics)
        if config.enable_v2:
            appends, call_soon = self._peers.transport.figures, asyncio.get_running_loop().call_soon
            v2 = V2Api(node, self.log, config.name, call_soon, appends, self._passwords)
            v2.install(http, config.max_request_bytes)
        if config.enable_discovery_service:
            loop = asyncio.get_running_loop()
            own = config.advertise_client_urls[0].address
            discovery_service(node, loop.call_soon, config.discovery_service_ttl, own).install(http)
        for server in (http, self._ports.metrics_http):
            health.install(server)
            install_metrics(server, metrics.render)

    # --- what the node asks of its surroundings ----------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        """The member cannot go on."""
        if not self.failed.done():
            self.failed.set_result(error)

    def _removed(self) -> None:
        """This member was removed from its cluster: it ends, as etcd's does, and cannot come back."""
        if not self.removed.done():
            reason = "the member has been permanently removed from the cluster"
            self.log.warn("server error", error=reason)
            self.log.warn("data-dir used by this member must be removed")
            self.removed.set_result(None)

    def _in_background(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._tell(loop, lambda error=error: self._fail(error))  # type: ignore[misc]
            else:
                self._tell(loop, done)

        self._background.submit(run)

    @staticmethod
    def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(callback)
        except RuntimeError:
            pass  # the loop has closed: nobody is left to tell

    # --- stopping ----------------------------------------------------------------------------------------

    async def stop(self, grace_seconds: float = limits.SHUTDOWN_GRACE_SECONDS) -> None:
        """Let calls end, then close everything; what was acknowledged is on disk before and after."""
        self._health.shutdown()
        if self._standing is not None:
            self._standing.stop()
        if self._tokens is not None:
            self._tokens.stop()
        self._passwords.close()
        await self._ports.shutdown_clients(grace_seconds)
        if self._begun is None or self._writer is None:
            await self._ports.shutdown_peers(0)
            return
        await self._peers.handover.before_stop()
        self.node.stop()
        await self._peers.stop()
        await self._ports.shutdown_peers(0)
        idle = asyncio.Event()
        self._ready.stop(idle.set)
        await idle.wait()
        self._writer.close()
        self._background.shutdown()
        self._begun.close()
