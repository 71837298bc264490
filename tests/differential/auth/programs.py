"""Programs: some users and roles are made, permissions are switched on, and everybody does something."""

from random import Random
from typing import Final

from google.protobuf.message import Message

from kvorum.proto import rpc_pb2 as pb
from kvorum.proto.auth_pb2 import Permission, UserAddOptions
from kvorum.proto.v3election_pb2 import LeaderRequest
from kvorum.proto.v3lock_pb2 import LockRequest, UnlockRequest
from tests.differential.auth.world import INVALID, KEEP_ALIVE, NOBODY, WATCH, Step

USERS: Final = ("root", "alice", "bob", "carol")
ROLES: Final = ("root", "r", "s", "t")
KEYS: Final = (b"a", b"aa", b"b", b"c", b"c/x", b"d")
ENDS: Final = (b"", b"", b"\0", b"b", b"c", b"d", b"e")
LEASES: Final = (1, 2, 3)
LOG_IN: Final = "log in"
"""A step that is none of a server's methods: an actor gets a token; the request says with which password."""


def make(seed: int, steps: int) -> list[Step]:
    """A program."""
    return _Maker(Random(seed)).program(steps)


class _Maker:
    def __init__(self, random: Random) -> None:
        self._random = random

    def program(self, steps: int) -> list[Step]:
        random = self._random
        before = [Step(NOBODY, *self.administer()) for _ in range(random.randrange(12, 25))]
        before += [Step(NOBODY, *self.touch()) for _ in range(4)]
        random.shuffle(before)
        must = [
            ("UserAdd", pb.AuthUserAddRequest(name="root", password="root")),
            ("UserChangePassword", pb.AuthUserChangePasswordRequest(name="root", password="root")),
            ("UserGrantRole", pb.AuthUserGrantRoleRequest(user="root", role="root")),
            ("AuthEnable", pb.AuthEnableRequest()),
        ]
        if random.random() < 0.3:
            before.append(Step(NOBODY, "etcdserverpb.Auth/AuthEnable", pb.AuthEnableRequest()))
        enabling = [Step(NOBODY, f"etcdserverpb.Auth/{name}", request) for name, request in must]
        logins = [self.log_in(user) for user in USERS]
        return [*before, *enabling, *logins, *[self.step() for _ in range(steps)]]

    def log_in(self, user: str) -> Step:
        password = user if self._random.random() < 0.9 else "wrong"
        return Step(user, LOG_IN, pb.AuthenticateRequest(name=user, password=password))

    def step(self) -> Step:
        random = self._random
        chance = random.random()
        if chance < 0.08:
            return self.log_in(random.choice(USERS))
        if chance < 0.22:
            return Step("root", *self.administer())
        actor = random.choice(("alice", "alice", "bob", "bob", "carol", "root", NOBODY, INVALID))
        if chance < 0.32:
            return Step(actor, *self.administer())
        if chance < 0.9:
            return Step(actor, *self.touch())
        return Step(actor, *self.look())

    # --- users and roles ------------------------------------------------------------------------------------

    def administer(self) -> tuple[str, Message]:
        random = self._random
        user = random.choice((*USERS[1:], "alice", "bob", "", "dave"))
        role = random.choice((*ROLES, "r", "s", "", "u"))
        options = UserAddOptions(no_password=True) if random.random() < 0.15 else None
        kind = Permission.Type.Name(random.randrange(3))
        permission = Permission(permType=kind, key=random.choice(KEYS), range_end=random.choice(ENDS))
        asked: list[tuple[int, str, Message]] = [
            (4, "UserAdd", pb.AuthUserAddRequest(name=user, password=user, options=options)),
            (1, "UserDelete", pb.AuthUserDeleteRequest(name=user)),
            (1, "UserChangePassword", pb.AuthUserChangePasswordRequest(name=user, password=user)),
            (5, "UserGrantRole", pb.AuthUserGrantRoleRequest(user=user, role=role)),
            (2, "UserRevokeRole", pb.AuthUserRevokeRoleRequest(name=user, role=role)),
            (1, "UserRevokeRole", pb.AuthUserRevokeRoleRequest(name="root", role="root")),
            (1, "UserDelete", pb.AuthUserDeleteRequest(name="root")),
            (1, "UserGet", pb.AuthUserGetRequest(name=random.choice(USERS))),
            (1, "UserList", pb.AuthUserListRequest()),
            (4, "RoleAdd", pb.AuthRoleAddRequest(name=role)),
            (1, "RoleDelete", pb.AuthRoleDeleteRequest(role=role)),
            (1, "RoleGet", pb.AuthRoleGetRequest(role=role)),
            (1, "RoleList", pb.AuthRoleListRequest()),
            (8, "RoleGrantPermission", pb.AuthRoleGrantPermissionRequest(name=role, perm=permission)),
            (
                2,
                "RoleRevokePermission",
                pb.AuthRoleRevokePermissionRequest(
                    role=role, key=permission.key, range_end=permission.range_end
                ),
            ),
            (1, "AuthStatus", pb.AuthStatusRequest()),
        ]
        _, name, request = random.choices(asked, [weight for weight, _, _ in asked])[0]
        return f"etcdserverpb.Auth/{name}", request

    # --- keys and leases ------------------------------------------------------------------------------------

    def put(self) -> pb.PutRequest:
        random = self._random
        lease = random.choice(LEASES) if random.random() < 0.25 else 0
        return pb.PutRequest(key=random.choice(KEYS), value=b"v", lease=lease, prev_kv=random.random() < 0.25)

    def range(self) -> pb.RangeRequest:
        random = self._random
        return pb.RangeRequest(
            key=random.choice(KEYS), range_end=random.choice(ENDS), serializable=random.random() < 0.5
        )

    def delete(self) -> pb.DeleteRangeRequest:
        random = self._random
        return pb.DeleteRangeRequest(
            key=random.choice(KEYS), range_end=random.choice(ENDS), prev_kv=random.random() < 0.3
        )

    def txn(self, depth: int = 0) -> pb.TxnRequest:
        random = self._random
        compares = [
            pb.Compare(
                key=random.choice(KEYS),
                range_end=random.choice(ENDS) if random.random() < 0.3 else b"",
                target=pb.Compare.CompareTarget.VERSION,
                result=pb.Compare.CompareResult.GREATER,
            )
            for _ in range(random.randrange(2))
        ]
        writes = depth > 0 or random.random() < 0.7
        return pb.TxnRequest(
            compare=compares, success=[self.operation(depth, writes)], failure=[self.operation(depth, writes)]
        )

    def operation(self, depth: int, writes: bool) -> pb.RequestOp:
        chance = self._random.random()
        if not writes or chance < 0.25:
            return pb.RequestOp(request_range=self.range())
        if chance < 0.55:
            return pb.RequestOp(request_put=self.put())
        if chance < 0.75 or depth > 1:
            return pb.RequestOp(request_delete_range=self.delete())
        return pb.RequestOp(request_txn=self.txn(depth + 1))

    def touch(self) -> tuple[str, Message]:
        random = self._random
        lease = random.choice(LEASES)
        create = pb.WatchCreateRequest(key=random.choice((*KEYS, b"")), range_end=random.choice(ENDS))
        asked: list[tuple[int, str, Message]] = [
            (6, "etcdserverpb.KV/Put", self.put()),
            (6, "etcdserverpb.KV/Range", self.range()),
            (3, "etcdserverpb.KV/DeleteRange", self.delete()),
            (6, "etcdserverpb.KV/Txn", self.txn()),
            (2, "etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest(ID=lease, TTL=3600)),
            (1, "etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease)),
            (2, WATCH, pb.WatchRequest(create_request=create)),
            (1, KEEP_ALIVE, pb.LeaseKeepAliveRequest(ID=lease)),
            (
                1,
                "etcdserverpb.Lease/LeaseTimeToLive",
                pb.LeaseTimeToLiveRequest(ID=lease, keys=random.random() < 0.6),
            ),
            (1, "etcdserverpb.Lease/LeaseLeases", pb.LeaseLeasesRequest()),
            (1, "v3lockpb.Lock/Unlock", UnlockRequest(key=random.choice(KEYS))),
            (1, "v3lockpb.Lock/Lock", LockRequest(name=random.choice(KEYS), lease=lease)),
            (1, "v3electionpb.Election/Leader", LeaderRequest(name=random.choice(KEYS))),
        ]
        _, method, request = random.choices(asked, [weight for weight, _, _ in asked])[0]
        return method, request

    def look(self) -> tuple[str, Message]:
        random = self._random
        raising = pb.AlarmRequest(
            action=pb.AlarmRequest.AlarmAction.DEACTIVATE, alarm=pb.AlarmType.NOSPACE, memberID=5
        )
        asked: list[tuple[str, Message]] = [
            ("etcdserverpb.Cluster/MemberList", pb.MemberListRequest(linearizable=random.random() < 0.5)),
            ("etcdserverpb.Maintenance/Status", pb.StatusRequest()),
            ("etcdserverpb.Maintenance/Hash", pb.HashRequest()),
            ("etcdserverpb.Maintenance/HashKV", pb.HashKVRequest()),
            ("etcdserverpb.Maintenance/Alarm", pb.AlarmRequest()),
            ("etcdserverpb.Maintenance/Alarm", raising),
            ("etcdserverpb.KV/Compact", pb.CompactionRequest(revision=1)),
        ]
        return random.choice(asked)
