"""A member, whole: files opened, node and services joined, ports served, signals obeyed.

The only module that knows every room. ``run`` is what the ``kvorum`` command calls; ``Member`` is the same
without signals and exit codes, for embedding. Log messages are etcd's: scripts wait for them. Source: etcd
``server/embed/etcd.go``, ``server/etcdmain/etcd.go``.
"""

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn, final

from kvorum import ETCD_VERSION, limits
from kvorum.api.http.gate import AccessGate
from kvorum.api.http.health import HealthHandlers
from kvorum.api.http.pages import install_metrics, install_version
from kvorum.api.v3.services import install_services
from kvorum.api.v3.standing import StandingStreams
from kvorum.apply.applier import Result
from kvorum.config import Config, ConfigError
from kvorum.flags import FlagError
from kvorum.logging import Logger, hex_id
from kvorum.mvcc.backend import BackendError
from kvorum.proto.membership_pb2 import Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest
from kvorum.raft.log import LogLostError
from kvorum.raft.types import Message, Snapshot
from kvorum.rpc.grpc import GrpcOptions, GrpcServer
from kvorum.rpc.health import HealthService
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.listener import Listener
from kvorum.rpc.reflection import ReflectionService
from kvorum.rpc.sockets import ListenError
from kvorum.server import requests
from kvorum.server.bootstrap import Begun, Bootstrap, BootstrapError
from kvorum.server.figures import NodeHealth, bind_metrics
from kvorum.server.ids import RequestIdGenerator
from kvorum.server.node import Node, NodeOptions
from kvorum.server.ready import ReadyLoop
from kvorum.server.snapshots import SnapshotOptions, Snapshots
from kvorum.snapshot.snap_file import Snapshotter
from kvorum.wal import segments
from kvorum.wal.errors import WalError
from kvorum.wal.record import WalSnapshot
from kvorum.wal.wal import Wal
from kvorum.wal.writer import WalWriter

START_ERRORS: Final = (
    BootstrapError,
    BackendError,
    WalError,
    LogLostError,
    ConfigError,
    ListenError,
    OSError,
)
"""What a start can fail with for reasons outside the program; each text is one line."""


@final
class NoPeers:
    """The transport of a member that is alone."""

    def send(self, messages: Sequence[Message]) -> None:
        """There is nobody to send to."""
        assert not messages, "a lone member has nobody to talk to"


@final
class MemberFiles:
    """The log's and the snapshots' files, as ``Snapshots`` sees them."""

    def __init__(self, config: Config, wal: Wal, snapshotter: Snapshotter) -> None:
        self._config: Final = config
        self._wal: Final = wal
        self._snapshotter: Final = snapshotter

    def save(self, snapshot: Snapshot) -> None:
        """Write the ``.snap`` file, durably."""
        self._snapshotter.save(snapshot)

    def release_to(self, index: int) -> None:
        """Let go of segments that a replay from ``index`` does not need."""
        self._wal.release_to(index)

    def install(self, index: int) -> None:
        """Put the database that was received for the snapshot at ``index`` in the place of this one."""
        raise AssertionError(f"a lone member is sent no snapshot, and has one at {index}")

    def purge(self, newest: WalSnapshot) -> None:
        """Remove the oldest segments and snapshots; those still needed are held or newer."""
        segments.purge(str(self._config.wal_path), ".wal", self._config.max_wals)
        self._snapshotter.purge(self._config.max_snapshots, newest)


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
        self._begun: Begun | None = None
        self._writer: WalWriter | None = None
        self._background: Final = ThreadPoolExecutor(1, "kvorum-background")
        self._listener: Listener | None = None
        self._metrics_listener: Listener | None = None
        self._health: Final = HealthService()
        self._standing: StandingStreams | None = None
        self._ready: ReadyLoop
        self.node: Node

    # --- starting ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything, wait until this member is part of its cluster, then serve.

        Raises:
            one of ``START_ERRORS``, or FlagError.
        """
        config, log = self.config, self.log
        clients = [str(url) for url in config.listen_client_urls]
        log.info("configuring client listeners", {"listen-client-urls": clients})
        http, grpc = self._servers()
        self._listener = Listener(log, http1=http, http2=grpc, reuse_port=config.socket_reuse_port)
        bound = self._listener.bind(config.listen_client_urls)
        metrics_http = self._bind_metrics_urls()
        self._say_what_starts()
        self._open()
        self._serve(http, grpc, metrics_http)
        await self._join()
        log.info("ready to serve client requests")
        for url in bound:
            log.info("serving client traffic insecurely; this is strongly discouraged!", address=url.address)
        self._listener.start()
        if self._metrics_listener is not None:
            self._metrics_listener.start()

    def _servers(self) -> tuple[HttpServer, GrpcServer]:
        config = self.config
        grpc = GrpcServer(
            GrpcOptions(
                max_message_bytes=config.max_request_bytes + limits.GRPC_OVERHEAD_BYTES,
                max_concurrent_streams=config.max_concurrent_streams,
                keepalive_min_time=config.grpc_keepalive_min_time.seconds,
                keepalive_interval=config.grpc_keepalive_interval.seconds,
                keepalive_timeout=config.grpc_keepalive_timeout.seconds,
            )
        )
        return HttpServer(self.log, gate=AccessGate(config.cors, config.host_whitelist)), grpc

    def _bind_metrics_urls(self) -> HttpServer:
        """Bind ``--listen-metrics-urls``; returns what answers there, which is none of the clients' services:
        who may scrape figures may not for that read keys.
        """
        config = self.config
        http = HttpServer(self.log, gate=AccessGate(config.cors, config.host_whitelist))
        if config.listen_metrics_urls:
            self._metrics_listener = Listener(
                self.log, http1=http, http2=GrpcServer(GrpcOptions()), reuse_port=config.socket_reuse_port
            )
            self._metrics_listener.bind(config.listen_metrics_urls)
        return http

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
                "heartbeat-interval": f"{config.heartbeat_interval_ms}ms",
                "election-timeout": f"{config.election_timeout_ms}ms",
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

    def _open(self) -> None:
        """Open the files and join the node to them."""
        loop = asyncio.get_running_loop()
        config = self.config
        begun = self._begun = Bootstrap(config, self.log, clock=loop.time).begin()
        writer = self._writer = WalWriter(begun.wal, loop)
        ready = self._ready = ReadyLoop(
            begun.raft,
            begun.wal,
            writer,
            transport=NoPeers(),
            clock=loop.time,
            call_soon=loop.call_soon,
            fatal=self._fail,
            observe_fsync=begun.figures.fsync_seconds.observe,
        )
        snapshots = Snapshots(
            begun.raft,
            begun.store,
            MemberFiles(config, begun.wal, begun.snapshotter),
            last_index=begun.snapshot_index,
            in_background=self._in_background,
            write_marker=ready.write_marker,
            options=SnapshotOptions(config.snapshot_count, config.snapshot_catchup_entries),
            log=self.log,
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
            options=NodeOptions(
                heartbeat_seconds=config.heartbeat_interval_ms / 1000,
                election_seconds=config.election_timeout_ms / 1000,
                max_request_bytes=config.max_request_bytes,
                quota_bytes=config.quota_bytes,
                compaction_sleep_seconds=config.compaction_sleep_interval.seconds,
                watch_progress_seconds=config.watch_progress_notify_interval.seconds,
            ),
        )
        self.log.info(
            "starting etcd server",
            local_member_id=hex_id(begun.member_id),
            local_server_version=ETCD_VERSION,
            cluster_id=hex_id(begun.cluster.id),
            cluster_version=begun.cluster.version or "to_be_decided",
        )
        begun.raft.campaign()
        self.node.start()

    def _serve(self, http: HttpServer, grpc: GrpcServer, metrics_http: HttpServer) -> None:
        """Put every service into the method tables."""
        node, config = self.node, self.config
        self._standing = install_services(
            grpc, node, max_txn_ops=config.max_txn_ops, max_request_bytes=config.max_request_bytes
        )
        self._health.install(grpc)
        ReflectionService(grpc).install()
        health = HealthHandlers(NodeHealth(node, float(config.request_timeout.seconds)), self.log)
        install_version(http, ETCD_VERSION, lambda: node.cluster.version or "")
        assert self._begun is not None, "opened before"
        metrics = bind_metrics(node, self._begun, grpc.observer, health, quota_bytes=config.quota_bytes)
        for server in (http, metrics_http):
            health.install(server)
            install_metrics(server, metrics.render)

    async def _join(self) -> None:
        """Publish this member's name and client URLs, and the cluster's version if it has none."""
        node, log = self.node, self.log
        version = ".".join(ETCD_VERSION.split(".")[:2])
        if node.cluster.version is None:
            log.info("setting up initial cluster version", cluster_version=version)
            request = ClusterVersionSetRequest(ver=f"{version}.0")
            await self._propose(requests.CLUSTER_VERSION_SET, request.SerializeToString())
            names = {"cluster-id": hex_id(node.cluster.id), "local-member-id": hex_id(node.member_id)}
            log.info("set initial cluster version", {**names, "cluster-version": version})
        log.info("enabled capabilities for version", cluster_version=version)
        client_urls = [str(url) for url in self.config.advertise_client_urls]
        attributes = f"{{Name:{self.config.name} ClientURLs:[{' '.join(client_urls)}]}}"
        publish = ClusterMemberAttrSetRequest(
            member_ID=node.member_id,
            member_attributes=Attributes(name=self.config.name, client_urls=client_urls),
        )
        await self._propose(requests.CLUSTER_MEMBER_ATTR_SET, publish.SerializeToString())
        log.info(
            "published local member to cluster through raft",
            {
                "local-member-id": hex_id(node.member_id),
                "local-member-attributes": attributes,
                "cluster-id": hex_id(node.cluster.id),
                "publish-timeout": str(self.config.request_timeout),
            },
        )

    async def _propose(self, number: int, body: bytes) -> None:
        """Propose until it is applied; gives up only when the member fails."""
        loop = asyncio.get_running_loop()
        while True:
            applied: asyncio.Future[Result] = loop.create_future()
            self.node.propose(number, body, applied.set_result)
            await asyncio.wait((applied, self.failed), return_when=asyncio.FIRST_COMPLETED)
            if self.failed.done():
                raise self.failed.result()
            error = applied.result().error
            if error is None:
                return
            self.log.warn("failed to publish local member to cluster through raft", error=error.message)

    # --- what the node asks of its surroundings ----------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        """The member cannot go on."""
        if not self.failed.done():
            self.failed.set_result(error)

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
        listeners = [one for one in (self._listener, self._metrics_listener) if one is not None]
        await asyncio.gather(*(listener.shutdown(grace_seconds) for listener in listeners))
        if self._begun is None or self._writer is None:
            return
        self.node.stop()
        idle = asyncio.Event()
        self._ready.stop(idle.set)
        await idle.wait()
        self._writer.close()
        self._background.shutdown()
        self._begun.close()


def run(config: Config, log: Logger) -> int:
    """Run a member until a signal or a failure; returns the exit code.

    After a signal the process ends by that signal, as etcd does, so that its parent sees what happened.
    """
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:  # not on this platform: asyncio's own loop serves as well, only slower
        factory = None
    faulthandler.enable()  # a page of the database that cannot be read ends the process, but not in silence
    sys.setswitchinterval(limits.SWITCH_INTERVAL_SECONDS)
    with asyncio.Runner(loop_factory=factory) as runner:
        code, received = runner.run(_run(config, log))
    if received is not None and threading.current_thread() is threading.main_thread():
        signal.signal(received, signal.SIG_DFL)
        os.kill(os.getpid(), received)
    return code


async def _run(config: Config, log: Logger) -> tuple[int, signal.Signals | None]:
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[signal.Signals] = loop.create_future()

    def ask(number: signal.Signals) -> None:
        if not asked.done():
            asked.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)
    member = Member(config, log)
    names = {
        "name": config.name,
        "data-dir": config.data_dir,
        "advertise-peer-urls": [str(url) for url in config.advertise_peer_urls],
        "advertise-client-urls": [str(url) for url in config.advertise_client_urls],
    }
    starting = loop.create_task(member.start())
    await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and starting.exception() is not None:
        return _failed_to_start(log, starting.exception()), None
    await asyncio.wait((asked, member.failed), return_when=asyncio.FIRST_COMPLETED)
    if member.failed.done():
        _end_at_once(log, member.failed.result())
    received = asked.result()
    log.info("received signal; shutting down", signal=_signal_name(received))
    starting.cancel()
    log.info("closing etcd server", names)
    stopping = loop.create_task(member.stop())
    await asyncio.wait((stopping, member.failed), return_when=asyncio.FIRST_COMPLETED)
    error = member.failed.result() if member.failed.done() else stopping.exception()
    if error is not None:
        _end_at_once(log, error)
    log.info("closed etcd server", names)
    return 0, received


def _failed_to_start(log: Logger, error: BaseException | None) -> int:
    if isinstance(error, FlagError):
        sys.stderr.write(f"{error}\n")
        return 2
    if not isinstance(error, START_ERRORS):
        assert error is not None
        raise error
    # etcd's words for a configuration that cannot be had, whether or not anything was to be discovered
    is_configuration = isinstance(error, (ConfigError, ListenError))
    log.fatal("discovery failed" if is_configuration else "failed to start etcd", error=error)
    return 1


def _end_at_once(log: Logger, error: BaseException) -> NoReturn:
    """No clean end: what is buffered must not be written to a disk or by a program that failed."""
    if isinstance(error, (OSError, BackendError, WalError)):
        log.fatal(
            "the disk failed; stopping without acknowledging anything that may not be on it", error=error
        )
    else:
        log.fatal("stopping: the program contradicts itself", error=error)
    sys.stderr.flush()
    os._exit(1)


def _signal_name(number: signal.Signals) -> str:
    """Go's name of a signal."""
    return {signal.SIGTERM: "terminated", signal.SIGINT: "interrupt"}[number]
