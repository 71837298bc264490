"""A small client of the v3 API on grpcio, with the messages that the server's package carries."""

import argparse
import contextlib
import queue
import threading
import time

import grpc

from kvorum.proto import kv_pb2, v3election_pb2, v3lock_pb2
from kvorum.proto import rpc_pb2 as pb


class CompactedError(Exception):
    """What happened from that revision on is not all known any more."""


class Etcd:
    """One member. Keys and values are text; revisions count the changes of the whole store."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self._channel = grpc.insecure_channel(endpoint)

    def call(self, method, request, response, wait=False):
        stub = self._channel.unary_unary(
            f"/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return stub(request, timeout=None if wait else 10)

    def put(self, key, value, lease=0):
        request = pb.PutRequest(key=key.encode(), value=value.encode(), lease=lease)
        return self.call("etcdserverpb.KV/Put", request, pb.PutResponse).header.revision

    def get(self, key):
        answer = self.call("etcdserverpb.KV/Range", pb.RangeRequest(key=key.encode()), pb.RangeResponse)
        return next(iter(answer.kvs), None)

    def list(self, prefix):
        """What begins so, in order of creation, and the revision to watch from for what comes later."""
        request = pb.RangeRequest(
            key=prefix.encode(), range_end=end_of(prefix), sort_target="CREATE", sort_order="ASCEND"
        )
        answer = self.call("etcdserverpb.KV/Range", request, pb.RangeResponse)
        return list(answer.kvs), answer.header.revision + 1

    def delete(self, key):
        request = pb.DeleteRangeRequest(key=key.encode())
        self.call("etcdserverpb.KV/DeleteRange", request, pb.DeleteRangeResponse)

    def txn(self, compare, *operations):
        """Do all the operations if the comparison holds; whether it held, and the revision."""
        request = pb.TxnRequest(compare=[compare], success=operations)
        answer = self.call("etcdserverpb.KV/Txn", request, pb.TxnResponse)
        return answer.succeeded, answer.header.revision

    def create(self, key, value, lease):
        """Put a key that must not be there; whether it was not, and the revision."""
        missing = pb.Compare(key=key.encode(), target="CREATE", result="EQUAL", create_revision=0)
        put = pb.PutRequest(key=key.encode(), value=value.encode(), lease=lease)
        return self.txn(missing, pb.RequestOp(request_put=put))

    def lease(self, ttl):
        """A lease of so many seconds, kept for as long as this process lives."""
        answer = self.call(
            "etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=ttl), pb.LeaseGrantResponse
        )
        return Lease(self, answer.ID, ttl)

    def watch(self, prefix, revision):
        """All events of what begins so, from a revision on, for ever. Raises CompactedError."""
        while True:
            create = pb.WatchCreateRequest(
                key=prefix.encode(), range_end=end_of(prefix), start_revision=revision
            )
            requests = queue.SimpleQueue()
            requests.put(pb.WatchRequest(create_request=create))
            stub = self._channel.stream_stream(
                "/etcdserverpb.Watch/Watch",
                request_serializer=pb.WatchRequest.SerializeToString,
                response_deserializer=pb.WatchResponse.FromString,
            )
            call = stub(iter(requests.get, None))
            try:
                for response in call:
                    if response.compact_revision:
                        raise CompactedError(response.compact_revision)
                    yield from response.events
                    revision = max(revision, response.header.revision + 1)
            except grpc.RpcError:
                time.sleep(0.1)  # the member is away; the revision says where to go on
            finally:
                call.cancel()
                requests.put(None)


class Lease:
    """Keys put with it live as long as it does. ``lost``: it may have expired, by our clock."""

    def __init__(self, etcd, lease_id, ttl):
        self.etcd, self.id, self.ttl = etcd, lease_id, ttl
        self.lost = threading.Event()
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        good_until = time.monotonic() + self.ttl
        while not self._stop.wait(self.ttl / 4):
            now = time.monotonic()
            with contextlib.suppress(grpc.RpcError):
                good_until = now + self._renew()
            if time.monotonic() >= good_until:
                self.lost.set()
                return

    def _renew(self):
        stub = self.etcd._channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=pb.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=pb.LeaseKeepAliveResponse.FromString,
        )
        return next(stub(iter([pb.LeaseKeepAliveRequest(ID=self.id)]), timeout=self.ttl)).TTL

    def end(self):
        """Give it back: its keys go at once."""
        self._stop.set()
        request = pb.LeaseRevokeRequest(ID=self.id)
        with contextlib.suppress(grpc.RpcError):
            self.etcd.call("etcdserverpb.Lease/LeaseRevoke", request, pb.LeaseRevokeResponse)


def is_delete(event):
    return event.type == kv_pb2.Event.DELETE


def name_of(kv):
    return kv.key.decode().rpartition("/")[2]


def end_of(prefix):
    """The first key behind all that begin so."""
    return prefix[:-1].encode() + bytes([prefix.encode()[-1] + 1])


def lock(etcd, name, lease):
    """Wait for a lock of the Lock service; the key that holds it."""
    request = v3lock_pb2.LockRequest(name=name.encode(), lease=lease.id)
    return etcd.call("v3lockpb.Lock/Lock", request, v3lock_pb2.LockResponse, wait=True).key.decode()


def campaign(etcd, name, value, lease):
    """Wait to be elected by the Election service; the revision is the term."""
    request = v3election_pb2.CampaignRequest(name=name.encode(), value=value.encode(), lease=lease.id)
    answer = etcd.call("v3electionpb.Election/Campaign", request, v3election_pb2.CampaignResponse, wait=True)
    return answer.leader.rev


def leaders(etcd, name):
    """Who leads now and from now on."""
    stub = etcd._channel.unary_stream(
        "/v3electionpb.Election/Observe",
        request_serializer=v3election_pb2.LeaderRequest.SerializeToString,
        response_deserializer=v3election_pb2.LeaderResponse.FromString,
    )
    for answer in stub(v3election_pb2.LeaderRequest(name=name.encode()), wait_for_ready=True):
        yield answer.kv


def say(*words):
    print(*words, flush=True)


def run(description, roles):
    """Run the role that the command line names: ``<endpoint> <role> [argument...]``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("endpoint", help="host:port of a member")
    parser.add_argument("role", choices=roles)
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        roles[given.role](Etcd(given.endpoint), *given.arguments)
