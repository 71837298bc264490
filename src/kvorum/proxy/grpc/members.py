"""Who is shown as a member: the proxies, so that clients that ask for members come back to proxies.

A proxy with ``--resolver-prefix`` registers itself below that prefix, by a key on a lease, and shows all that
are there; one without shows itself; one without ``--advertise-client-url`` shows the members. Keys and values
are those of etcd's ``client/v3/naming/endpoints``, so that etcd's proxies and ours find each other. Source of
behaviour: etcd ``server/proxy/grpcproxy/cluster.go``, ``register.go``.
"""

import asyncio
import json
import socket
from typing import Final, final

from kvorum import limits
from kvorum.errors import UNAVAILABLE
from kvorum.logging import Logger
from kvorum.proto import rpc_pb2
from kvorum.proxy.grpc.namespace import Namespace, behind_prefix
from kvorum.proxy.grpc.passing import Ask
from kvorum.proxy.grpc.upstream import Metadata, Upstream
from kvorum.rpc.messages import StatusError

_CALL_SECONDS: Final = 5.0


@final
class Members:
    """What this proxy says of itself and others.

    Args:
        address: ``--advertise-client-url``.
        prefix: ``--resolver-prefix``.
        ttl: ``--resolver-ttl``, seconds.
    """

    def __init__(
        self, upstream: Upstream, namespace: Namespace, address: str, prefix: str, ttl: int, log: Logger
    ) -> None:
        self._upstream: Final = upstream
        self._namespace: Final = namespace
        self._address: Final = address
        self._prefix: Final = prefix
        self._ttl: Final = ttl
        self._log: Final = log
        self._name: Final = socket.gethostname()

    async def member_list(self, message: bytes, ask: Ask, _: Metadata) -> bytes:
        """Cluster.MemberList."""
        if not self._address:
            return await ask(message)
        found = await self._registered() if self._prefix else []
        if not found:
            found = [rpc_pb2.Member(name=self._name, clientURLs=[self._address])]
        return rpc_pb2.MemberListResponse(members=found).SerializeToString()

    async def register(self) -> None:
        """Be registered until cancelled; a lease that is lost is replaced."""
        while True:
            try:
                lease = await self._put()
                self._log.info(
                    "registered session with lease", {"addr": self._address, "lease-ttl": self._ttl}
                )
                await self._renew(lease)
                self._log.warn("session expired; possible network partition or server restart")
                self._log.warn("creating a new session to rejoin")
            except StatusError as error:
                self._log.warn("failed to create a session", error=error)
            await asyncio.sleep(1)

    async def _put(self) -> int:
        """Write the key on a new lease. Raises StatusError."""
        grant = rpc_pb2.LeaseGrantRequest(TTL=self._ttl)
        answer = await self._call("/etcdserverpb.Lease/LeaseGrant", grant.SerializeToString())
        lease = rpc_pb2.LeaseGrantResponse.FromString(answer).ID
        metadata = json.dumps({"name": self._name}, separators=(",", ":"))
        value = json.dumps({"Op": 0, "Addr": self._address, "Metadata": metadata}, separators=(",", ":"))
        key = f"{self._prefix}/{self._address}".encode()
        put = rpc_pb2.PutRequest(key=key, value=value.encode(), lease=lease)
        self._namespace.enter(put)
        await self._call("/etcdserverpb.KV/Put", put.SerializeToString())
        return lease

    async def _renew(self, lease: int) -> None:
        """Renew a lease until it is gone."""
        loop = asyncio.get_running_loop()
        good_until = loop.time() + self._ttl
        message = rpc_pb2.LeaseKeepAliveRequest(ID=lease).SerializeToString()
        while loop.time() < good_until:
            await asyncio.sleep(self._ttl / 3)
            # a stream of one message is on the wire what a unary call is
            try:
                answer = await self._call("/etcdserverpb.Lease/LeaseKeepAlive", message)
            except StatusError as error:
                if error.code != UNAVAILABLE:
                    raise
                continue
            if rpc_pb2.LeaseKeepAliveResponse.FromString(answer).TTL <= 0:
                return
            good_until = loop.time() + self._ttl

    async def _registered(self) -> list[rpc_pb2.Member]:
        """The proxies that are there, by address. Raises StatusError."""
        start = f"{self._prefix}/".encode()
        request = rpc_pb2.RangeRequest(key=start, range_end=behind_prefix(start), limit=limits.PROXY_PEERS)
        self._namespace.enter(request)
        answer = await self._call("/etcdserverpb.KV/Range", request.SerializeToString())
        members = []
        for pair in rpc_pb2.RangeResponse.FromString(answer).kvs:
            try:
                value = json.loads(pair.value)
                name = json.loads(value["Metadata"])["name"]
                members.append(rpc_pb2.Member(name=str(name), clientURLs=[str(value["Addr"])]))
            except (ValueError, KeyError, TypeError):
                continue  # somebody else's key
        return members

    async def _call(self, method: str, message: bytes) -> bytes:
        return await self._upstream.unary(method, message, (), _CALL_SECONDS, repeatable=True)
