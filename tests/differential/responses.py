"""The response message of every unary method that programs call."""

from typing import Final

from google.protobuf.message import Message

from kvorum.proto import rpc_pb2 as pb
from kvorum.proto import v3election_pb2 as election
from kvorum.proto import v3lock_pb2 as lock

RESPONSES: Final[dict[str, type[Message]]] = {
    "etcdserverpb.KV/Put": pb.PutResponse,
    "etcdserverpb.KV/Range": pb.RangeResponse,
    "etcdserverpb.KV/DeleteRange": pb.DeleteRangeResponse,
    "etcdserverpb.KV/Txn": pb.TxnResponse,
    "etcdserverpb.KV/Compact": pb.CompactionResponse,
    "etcdserverpb.Maintenance/HashKV": pb.HashKVResponse,
    "etcdserverpb.Lease/LeaseGrant": pb.LeaseGrantResponse,
    "etcdserverpb.Lease/LeaseRevoke": pb.LeaseRevokeResponse,
    "etcdserverpb.Lease/LeaseTimeToLive": pb.LeaseTimeToLiveResponse,
    "etcdserverpb.Lease/LeaseLeases": pb.LeaseLeasesResponse,
    "v3lockpb.Lock/Lock": lock.LockResponse,
    "v3lockpb.Lock/Unlock": lock.UnlockResponse,
    "v3electionpb.Election/Campaign": election.CampaignResponse,
    "v3electionpb.Election/Proclaim": election.ProclaimResponse,
    "v3electionpb.Election/Leader": election.LeaderResponse,
    "v3electionpb.Election/Resign": election.ResignResponse,
}
