"""A member's side towards the others: the transport, what is asked of the leader, the cluster's version."""

import asyncio
from collections.abc import Callable
from typing import Final, final

from kvorum import limits
from kvorum.config import Config, ConfigError
from kvorum.discovery import find
from kvorum.logging import Logger
from kvorum.mvcc.store import Store
from kvorum.peer.client import PeerClient
from kvorum.peer.headers import Identity
from kvorum.peer.transport import PeerTransport
from kvorum.rpc.http1 import HttpServer
from kvorum.server import advertised, joining
from kvorum.server.bootstrap import Begun, BootstrapError, Joined
from kvorum.server.fast_forward import FastForward
from kvorum.server.forward import ToLeader
from kvorum.server.handover import Handover
from kvorum.server.node import Node
from kvorum.server.notices import CommitNotices
from kvorum.server.peering import Peering
from kvorum.server.renewals import LeaderLeases
from kvorum.server.transfer import SnapshotSink, SnapshotSource
from kvorum.server.versions import VersionMonitor
from kvorum.tls.dial import ClientTls


async def find_cluster(config: Config, tls: ClientTls, log: Logger) -> tuple[Config, Joined | None]:
    """Who there is, for a member without data: the configuration with all members in it, and the cluster that
    this one was added to, or None for a new one.

    Raises:
        ConfigError: the flags do not hold together.
        BootstrapError: the cluster does not take this member in, or had it before.
        DiscoveryError: the others were not found.
    """
    config = await find.assume(config, log)
    existing = config.initial_cluster_state == "existing"
    if existing:
        config.verify_join_existing()
    else:
        config = await advertised.settle(config, log)
        config.verify_bootstrap()
    client = PeerClient(tls=tls, keep_alive=False)
    try:
        members = joining.configured(config.initial_members(), config.initial_cluster_token)
        if existing:
            remote, local = await joining.join(members, config.name, client, log)
            others = tuple(member for member in remote.members if member.id != local.id)
            return config, Joined(remote.id, local, others)
        local = next(member for member in members if member.name == config.name)
        if len(members) > 1 and await joining.is_bootstrapped(
            members, local, client, limits.PEER_BOOTSTRAPPED_SECONDS
        ):
            raise BootstrapError(f"member {local.id:x} has already been bootstrapped")
        return await find.join(config, local.id, log), None
    except joining.JoinError as error:
        raise (BootstrapError if existing else ConfigError)(str(error)) from None
    finally:
        client.close()


@final
class Peers:
    """Made before the node, which sends through ``notices``; ``attach`` joins the two."""

    def __init__(
        self,
        config: Config,
        tls: ClientTls,
        begun: Begun,
        open_aside: Callable[[str], Store],
        log: Logger,
    ) -> None:
        """``open_aside`` opens a database as the member's own was."""
        loop = asyncio.get_running_loop()
        self._config: Final = config
        self._log: Final = log
        snap_path = str(config.snap_path)
        self.peering: Final = Peering(
            SnapshotSource(begun.store, snap_path), SnapshotSink(begun.store, snap_path, open_aside, log)
        )
        self.transport: Final = PeerTransport(
            Identity(begun.member_id, begun.cluster.id, config.advertise_peer_urls),
            self.peering,
            log,
            tls=tls,
            connect_seconds=limits.PEER_CONNECT_SECONDS + config.election_timeout_ms / 1000,
            clock=loop.time,
        )
        self.notices: Final = CommitNotices(self.transport, loop)
        """What the Ready loop sends through."""
        self.peering.notices = self.notices
        self._raft: Final = begun.raft
        self._monitoring: asyncio.Task[None] | None = None
        self._monitor: VersionMonitor
        self._leases: LeaderLeases
        self.to_leader: ToLeader
        self.handover: Handover

    def attach(self, node: Node, kick: Callable[[], None]) -> None:
        """Everything that needs the node."""
        config, log, timers = self._config, self._log, node.timers
        client, cluster = self.transport.client, node.cluster
        timeout = float(config.request_timeout.seconds)
        self.peering.node = node
        self.to_leader = ToLeader(cluster, node, client, timers, timeout_seconds=timeout)
        node.reconfigure.to_leader = self.to_leader
        self._leases = node.leases.at_leader = LeaderLeases(self.to_leader)
        self.handover = Handover(
            self._raft,
            cluster,
            self.transport,
            node,
            timers,
            log,
            kick=kick,
            look_seconds=config.heartbeat_interval_ms / 1000,
            timeout_seconds=timeout,
        )
        self._monitor = VersionMonitor(cluster, node, client, timers, log)
        node.term_began = self._monitor.term_began

    def begin(self, http: HttpServer) -> None:
        """Serve the others' requests, and connect to those we know of."""
        node = self.peering.node
        self.transport.install(http)
        for member in node.cluster.others():
            self.transport.add_peer(member.id, member.peer_urls)
        self._monitoring = asyncio.get_running_loop().create_task(self._monitor.run())
        FastForward(node, self._config, self._log, active_peers=self.transport.active_peers).begin()

    async def stop(self) -> None:
        """Close every connection."""
        if self._monitoring is not None:
            self._monitoring.cancel()
        self._leases.close()
        await self.transport.stop()
        self.peering.sink.close()
