"""The Cluster service: who is in the cluster. Source: etcd ``server/etcdserver/api/v3rpc/member.go``."""

from functools import partial
from typing import final

from kvorum.api.v3.service import Service, parse
from kvorum.errors import EtcdError
from kvorum.proto.rpc_pb2 import Member, MemberListRequest, MemberListResponse
from kvorum.rpc.grpc import GrpcServer, UnaryCall


@final
class ClusterService(Service):
    """MemberList."""

    def register(self, server: GrpcServer) -> None:
        """Put the service's methods into the server's table."""
        server.unary("/etcdserverpb.Cluster/MemberList", self.member_list)

    def member_list(self, call: UnaryCall, body: bytes) -> None:
        """The members, confirmed with the cluster first if the request says linearizable."""
        if parse(MemberListRequest, body).linearizable:
            self.node.reads.wait(partial(self._list, call))
        else:
            self._list(call, None)

    def _list(self, call: UnaryCall, error: EtcdError | None) -> None:
        if error is not None:
            call.fail(error.code, error.message)
            return
        members = [
            Member(
                ID=member.id,
                name=member.name,
                peerURLs=member.peer_urls,
                clientURLs=member.client_urls,
                isLearner=member.is_learner,
            )
            for member in self.node.cluster.listed()
        ]
        self.reply(call, 0, MemberListResponse(members=members).SerializeToString())
