"""The Maintenance service: how this member is, checksums and a copy of what it holds, and who shall lead.

Source: etcd ``server/etcdserver/api/v3rpc/maintenance.go``.
"""

import asyncio
import hashlib
from functools import partial
from typing import Final, final

from kvorum import ETCD_VERSION, limits
from kvorum.api.gate import Gate
from kvorum.api.v3.admission import SNAPSHOT
from kvorum.api.v3.service import Methods, Service, parse
from kvorum.api.v3.waiting import WaitingCalls
from kvorum.apply.alarms import NONE
from kvorum.errors import UNKNOWN, EtcdError
from kvorum.proto.rpc_pb2 import (
    AlarmRequest,
    AlarmType,
    DowngradeRequest,
    DowngradeResponse,
    HashKVRequest,
    HashKVResponse,
    HashRequest,
    HashResponse,
    MoveLeaderRequest,
    MoveLeaderResponse,
    SnapshotRequest,
    SnapshotResponse,
    StatusRequest,
    StatusResponse,
)
from kvorum.rpc.grpc import StreamCall, UnaryCall
from kvorum.server import requests
from kvorum.server.downgrade import Downgrade
from kvorum.server.handover import Handover
from kvorum.server.node import Node
from kvorum.server.slices import HashKvResult
from kvorum.server.transfer import SnapshotSource, TransferError


@final
class MaintenanceService(Service):
    """Alarm, Status, Hash, HashKV, Snapshot, MoveLeader, Downgrade."""

    def __init__(
        self,
        node: Node,
        gate: Gate,
        handover: Handover | None,
        waiting: WaitingCalls,
        snapshots: SnapshotSource | None = None,
    ) -> None:
        super().__init__(node, gate)
        self._downgrade: Final = Downgrade(node.cluster, node)
        self._handover: Final = handover
        self._waiting: Final = waiting
        self._snapshots: Final = snapshots

    def register(self, server: Methods) -> None:
        """Put the service's methods into the server's table."""
        server.unary("/etcdserverpb.Maintenance/Alarm", self.alarm)
        server.unary("/etcdserverpb.Maintenance/Status", self.status)
        server.unary("/etcdserverpb.Maintenance/Hash", self.hash)
        server.unary("/etcdserverpb.Maintenance/HashKV", self.hash_kv)
        server.unary("/etcdserverpb.Maintenance/Downgrade", self.downgrade)
        if self._snapshots is not None:
            server.stream(SNAPSHOT, partial(self.snapshot, self._snapshots), "server_stream")
        if self._handover is not None:
            server.unary("/etcdserverpb.Maintenance/MoveLeader", partial(self.move_leader, self._handover))

    def alarm(self, call: UnaryCall, body: bytes) -> None:
        """List, raise or disarm alarms; even a list goes through the log, as in etcd. Only root may change
        any.
        """
        if parse(AlarmRequest, body).action != AlarmRequest.AlarmAction.GET and self.users.enabled:
            self.gate.check_root(call)
        self.propose(call, requests.ALARM, body)

    def status(self, call: UnaryCall, body: bytes) -> None:
        """Version, leader, Raft's indexes, sizes, and what is wrong (local, without asking the cluster)."""
        parse(StatusRequest, body)
        node = self.node
        response = StatusResponse(
            version=ETCD_VERSION,
            leader=node.leader,
            raftIndex=node.committed_index,
            raftAppliedIndex=node.applied_index,
            raftTerm=node.term,
            dbSize=node.db_size_bytes,
            dbSizeInUse=node.db_size_in_use_bytes,
            isLearner=node.is_learner,
        )
        if not node.leader:
            response.errors.append("etcdserver: no leader")
        response.errors.extend(
            f"memberID:{raised.memberID} alarm:{AlarmType.Name(raised.alarm)} "
            for raised in node.alarms.of(NONE)
        )
        self.reply(call, node.revision, response.SerializeToString())

    def hash(self, call: UnaryCall, body: bytes) -> None:
        """A checksum of the whole backend; only comparable between members of one kind."""
        parse(HashRequest, body)

        revision = self.node.revision

        def done(value: int) -> None:
            self.reply(call, revision, HashResponse(hash=value).SerializeToString())

        self.node.slices.hash_backend(done)

    def hash_kv(self, call: UnaryCall, body: bytes) -> None:
        """A checksum of the key space up to a revision; equal on members that agree."""
        request = parse(HashKVRequest, body)

        def done(result: HashKvResult) -> None:
            response = HashKVResponse(hash=result.hash, compact_revision=result.compact_revision)
            self.reply(call, result.revision, response.SerializeToString())

        self.node.slices.hash_kv(request.revision, done)

    async def snapshot(self, snapshots: SnapshotSource, call: StreamCall) -> None:
        """Send the database as a bbolt file, and then, as etcd does, its SHA-256 as if it were the rest."""
        parse(SnapshotRequest, await call.read() or b"")
        try:
            outgoing = await snapshots.open()
        except (OSError, TransferError) as error:
            raise EtcdError(UNKNOWN, str(error)) from None
        try:
            digest = hashlib.sha256()
            remaining = outgoing.size
            async for piece in outgoing.pieces():
                for at in range(0, len(piece), limits.BLOB_BYTES):
                    blob = piece[at : at + limits.BLOB_BYTES]
                    digest.update(blob)
                    remaining -= len(blob)
                    await call.write(
                        SnapshotResponse(remaining_bytes=remaining, blob=blob).SerializeToString()
                    )
            await call.write(SnapshotResponse(blob=digest.digest()).SerializeToString())
        finally:
            outgoing.close()

    def move_leader(self, handover: Handover, call: UnaryCall, body: bytes) -> None:
        """Hand leadership to another member; answered, without a header as in etcd, when it leads."""
        request = parse(MoveLeaderRequest, body)

        async def answer() -> bytes:
            await handover.move_leader(request.targetID)
            return MoveLeaderResponse().SerializeToString()

        self._waiting.start(call, answer(), result_of=asyncio.Task.result)

    def downgrade(self, call: UnaryCall, body: bytes) -> None:
        """Validate, allow or take back a downgrade of the cluster."""
        request = parse(DowngradeRequest, body)
        actions = DowngradeRequest.DowngradeAction

        async def answer() -> bytes:
            if request.action == actions.VALIDATE:
                version = await self._downgrade.validate(request.version)
            elif request.action == actions.ENABLE:
                version = await self._downgrade.enable(request.version)
            elif request.action == actions.CANCEL:
                version = await self._downgrade.cancel()
            else:
                raise EtcdError(UNKNOWN, "etcdserver: unknown method")
            header = self.header.encode(self.node.revision, self.node.term)
            return header + DowngradeResponse(version=version).SerializeToString()

        self._waiting.start(call, answer(), result_of=asyncio.Task.result)
