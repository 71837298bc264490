"""The holes that etcd had in its permissions, by advisory; what outlives a restart; whose a token is."""

import base64
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kvorum import errors
from kvorum.auth.identity import Identity
from kvorum.proto import rpc_pb2 as pb
from kvorum.server import requests
from tests.auth.test_tokens import pems
from tests.auth.users import As, Users
from tests.support import process
from tests.support.client import op_delete, op_put, op_range, refused_with
from tests.support.etcdctl import Etcdctl
from tests.support.inside import Inside, running_inside
from tests.support.process import Member, clean_environment, distro_binary
from tests.support.waiting import wait_until

CHEAP: Final = "--bcrypt-cost=4"
DENIED: Final = errors.ERR_PERMISSION_DENIED
OTHERS: Final = 11
"""A lease that holds a key of root's."""
OWN: Final = 12
"""One that holds a key that alice may write."""


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with running_inside(tmp_path_factory.mktemp("auth") / "d", (CHEAP, "--auth-token-ttl=30")) as running:
        yield running


@pytest.fixture(scope="module")
def users(inside: Inside) -> Iterator[Users]:
    users = Users(inside.endpoint)
    users.role("a", ("READWRITE", b"a", b"b"), ("READ", b"readable", b""), ("WRITE", b"writable", b""))
    users.add("root", "root")
    users.add("alice", "a")
    users.add("certified", no_password=True)
    users.enable()
    root = users.log_in("root")
    root.grant(3600, OTHERS)
    root.grant(3600, OWN)
    root.put(b"secret", b"of root", lease=OTHERS)
    root.put(b"writable", b"of root")
    root.put(b"a/own", b"v", lease=OWN)
    yield users
    users.close()


@pytest.fixture
def alice(users: Users) -> As:
    return users.log_in("alice")


@pytest.fixture
def root(users: Users) -> As:
    return users.log_in("root")


# --- advisories -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\0", b"", b"s", b"\xff"])
def test_ghsa_xg4h_6gfc_h4m8_a_key_is_not_everything_behind_it(alice: As, end: bytes) -> None:
    """A grant on one key let one watch all keys from it on."""
    told = alice.watch(key=b"readable", range_end=end)
    if end:
        assert told.canceled
        assert told.cancel_reason == f"rpc error: code = PermissionDenied desc = {DENIED.message}"
    else:
        assert told.created
        assert not told.canceled


def test_ghsa_xg4h_6gfc_h4m8_all_keys(alice: As, root: As) -> None:
    assert alice.watch(key=b"\0", range_end=b"\0").canceled
    assert alice.watch(key=b"", range_end=b"\0").canceled
    assert alice.watch(key=b"").canceled
    assert alice.watch(key=b"a", range_end=b"b").created
    assert not root.watch(key=b"\0", range_end=b"\0").canceled


def nested(operation: pb.RequestOp, depth: int = 1) -> pb.RequestOp:
    for _ in range(depth):
        operation = pb.RequestOp(request_txn=pb.TxnRequest(success=[operation]))
    return operation


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(
    "operation",
    [
        op_range(b"secret"),
        op_put(b"secret", b"x"),
        op_delete(b"secret"),
        op_range(b"\0", b"\0"),
        op_delete(b"writable", prev_kv=True),
    ],
)
def test_cve_2026_33343_what_is_nested_is_looked_at(
    alice: As, root: As, operation: pb.RequestOp, depth: int
) -> None:
    with refused_with(DENIED):
        alice.txn(nested(operation, depth))
    # Also in the branch that does not run, and beside what is permitted.
    with refused_with(DENIED):
        alice.call(
            "etcdserverpb.KV/Txn",
            pb.TxnRequest(success=[op_put(b"a/x", b"1")], failure=[nested(operation, depth)]),
            pb.TxnResponse,
        )
    assert root.range(b"secret").kvs[0].value == b"of root"
    assert not root.range(b"a/x").kvs


def test_cve_2026_33343_nested_compares(alice: As) -> None:
    compare = pb.Compare(key=b"secret", target=pb.Compare.CompareTarget.VALUE, value=b"of root")
    inner = pb.TxnRequest(compare=[compare], success=[op_range(b"a/own")])
    with refused_with(DENIED):
        alice.txn(pb.RequestOp(request_txn=inner))


def test_cve_2026_44283_a_put_in_a_transaction_is_one(alice: As, root: As) -> None:
    """Reading what was there, and hanging a key on a lease of others'."""
    with refused_with(DENIED):
        alice.put(b"writable", b"x", prev_kv=True)
    with refused_with(DENIED):
        alice.txn(op_put(b"writable", b"x", prev_kv=True))
    with refused_with(DENIED):
        alice.txn(nested(op_put(b"writable", b"x", prev_kv=True)))
    with refused_with(DENIED):
        alice.put(b"a/x", b"x", lease=OTHERS)
    with refused_with(DENIED):
        alice.txn(op_put(b"a/x", b"x", lease=OTHERS))
    assert root.range(b"writable").kvs[0].value == b"of root"
    assert alice.txn(op_put(b"a/y", b"x", lease=OWN, prev_kv=True)).header.revision


def ask(who: As, method: str, request: Any, response: Any) -> Any:
    return who.call(f"etcdserverpb.{method}", request, response)


def test_cve_2026_33413_what_only_root_may(alice: As) -> None:
    deactivate = pb.AlarmRequest(action=pb.AlarmRequest.AlarmAction.DEACTIVATE, alarm=pb.AlarmType.NOSPACE)
    activate = pb.AlarmRequest(action=pb.AlarmRequest.AlarmAction.ACTIVATE, alarm=pb.AlarmType.CORRUPT)
    for method, request, response in (
        ("KV/Compact", pb.CompactionRequest(revision=2), pb.CompactionResponse),
        ("Maintenance/Alarm", deactivate, pb.AlarmResponse),
        ("Maintenance/Alarm", activate, pb.AlarmResponse),
        ("Maintenance/MoveLeader", pb.MoveLeaderRequest(targetID=1), pb.MoveLeaderResponse),
        ("Maintenance/Downgrade", pb.DowngradeRequest(version="3.4.0"), pb.DowngradeResponse),
        ("Cluster/MemberRemove", pb.MemberRemoveRequest(ID=1), pb.MemberRemoveResponse),
    ):
        with refused_with(DENIED):
            ask(alice, method, request, response)
    assert not ask(alice, "Maintenance/Alarm", pb.AlarmRequest(), pb.AlarmResponse).alarms


def test_cve_2026_33413_leases_of_others(alice: As, root: As) -> None:
    with refused_with(DENIED):
        ask(alice, "Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=OTHERS), pb.LeaseRevokeResponse)
    with refused_with(DENIED):
        alice.keep_alive(OTHERS)
    with refused_with(DENIED):
        ask(alice, "Lease/LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse)
    look = pb.LeaseTimeToLiveRequest(ID=OTHERS, keys=True)
    with refused_with(DENIED):
        ask(alice, "Lease/LeaseTimeToLive", look, pb.LeaseTimeToLiveResponse)
    look.keys = False
    assert not ask(alice, "Lease/LeaseTimeToLive", look, pb.LeaseTimeToLiveResponse).keys
    assert alice.keep_alive(OWN).TTL == 3600
    own = pb.LeaseTimeToLiveRequest(ID=OWN, keys=True)
    assert b"a/own" in ask(alice, "Lease/LeaseTimeToLive", own, pb.LeaseTimeToLiveResponse).keys
    assert ask(root, "Lease/LeaseLeases", pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse).leases


def test_a_permission_that_covers_nothing_is_refused(root: As) -> None:
    for key, end in ((b"b", b"a"), (b"b", b"b"), (b"", b"b"), (b"", b"")):
        with refused_with(errors.ERR_INVALID_AUTH_MGMT):
            root.auth("RoleGrantPermission", name="a", perm={"key": key, "range_end": end})


# --- what happens meanwhile -------------------------------------------------------------------------------


def test_what_has_changed_since_a_request_was_let_in_counts(users: Users, inside: Inside, root: As) -> None:
    """An entry of an older revision of users is refused when it is applied, by every member alike."""
    node = inside.node
    answers: list[Any] = []
    body = pb.PutRequest(key=b"a/late", value=b"v").SerializeToString()

    def propose(revision: int) -> None:
        node.propose(requests.PUT, body, answers.append, None, Identity("alice", revision).encode())

    revision = inside.call(lambda: node.auth.store.revision)
    inside.call(lambda: propose(revision - 1))
    inside.call(lambda: propose(revision))
    wait_until(lambda: len(answers) == 2, "both answers")
    assert answers[0].error is errors.ERR_AUTH_OLD_REVISION
    assert answers[1].error is None
    inside.call(lambda: node.propose(requests.PUT, body, answers.append))
    wait_until(lambda: len(answers) == 3, "the third answer")
    assert answers[2].error is errors.ERR_USER_EMPTY


def test_tokens_end_with_time_with_the_password_and_with_the_user(
    users: Users, inside: Inside, root: As
) -> None:
    users.add("brief", "a")
    for change in ("UserChangePassword", "time", "UserDelete"):
        brief = users.log_in("brief", "brief")
        brief.range(b"a/own")
        if change == "time":
            for _ in range(3):
                inside.skip(20)
                brief.range(b"a/own")  # used, so good for another 30 s
            inside.skip(31)
            users.log_in("root", "root")
        elif change == "UserDelete":
            users.log_in("root").auth(change, name="brief")
        else:
            root.auth(change, name="brief", password="brief")
        with refused_with(errors.ERR_INVALID_AUTH_TOKEN):
            brief.range(b"a/own")


def test_users_are_refused_what_etcd_refuses_them(users: Users) -> None:
    for name, password in (("alice", "wrong"), ("alice", " "), ("unknown", "x")):
        with refused_with(errors.ERR_AUTH_FAILED):
            users.nobody.auth("Authenticate", name=name, password=password)
    with pytest.raises(grpc.RpcError, match="password was given for no password user"):
        users.nobody.auth("Authenticate", name="certified", password="x")


def test_leases_still_expire(users: Users, inside: Inside) -> None:
    """The member's own revocation is root's, whoever the key belongs to."""
    alice, root = users.log_in("alice", "alice"), users.log_in("root", "root")
    alice.grant(5, 99)
    alice.put(b"a/brief", b"v", lease=99)
    inside.skip(8)
    wait_until(lambda: not root.range(b"a/brief").kvs, "the end of a lease")


# --- what outlives ----------------------------------------------------------------------------------------


def enable_at(endpoint: str) -> Users:
    users = Users(endpoint)
    users.role("a", ("READWRITE", b"a", b"b"))
    users.add("root", "root")
    users.add("alice", "a")
    users.enable()
    return users


def check_kept(endpoint: str) -> None:
    users = Users(endpoint)
    try:
        with refused_with(errors.ERR_USER_EMPTY):
            users.nobody.range(b"a/k")
        alice = users.log_in("alice")
        assert alice.range(b"a/k").kvs[0].value == b"v"
        with refused_with(DENIED):
            alice.put(b"b", b"v")
        assert users.log_in("root").auth("AuthStatus").authRevision == 7
    finally:
        users.close()


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_users_outlive_the_process(tmp_path: Path, ending: str) -> None:
    with Member(process.kvorum(), tmp_path / "d", flags=(CHEAP,)) as member:
        users = enable_at(member.endpoint)
        token = users.token_of("alice")
        users.log_in("alice").put(b"a/k", b"v")
        users.close()
        member.stop() if ending == "stop" else member.kill()
        member.start()
        check_kept(member.endpoint)
        if ending == "stop":
            return
        # The log is applied again from the last commit on, so a token may be good again, as in etcd.
        again = Users(member.endpoint)
        with suppress(grpc.RpcError):
            again.shows("token", token).range(b"a/k")
        again.close()


@pytest.mark.parametrize(("source", "target"), [("etcd", "kvorum"), ("kvorum", "etcd")])
def test_a_backup_carries_users_both_ways(tmp_path: Path, source: str, target: str) -> None:
    programs = {"etcd": process.etcd, "kvorum": process.kvorum}
    backup = tmp_path / "backup.db"
    with Member(programs[source](), tmp_path / "from", flags=(CHEAP,)) as member:
        users = enable_at(member.endpoint)
        users.log_in("alice").put(b"a/k", b"v")
        users.close()
        Etcdctl(member.endpoint).run("--user=root:root", "snapshot", "save", str(backup))
    new = Member(programs[target](), tmp_path / "to", flags=(CHEAP,))
    restore = [
        "snapshot", "restore", str(backup), f"--data-dir={new.data_dir}", f"--name={new.name}",
        f"--initial-cluster={new.initial_cluster}", f"--initial-advertise-peer-urls={new.peer_url}",
    ]  # fmt: skip
    tool = distro_binary("etcdutl") if target == "etcd" else shutil.which("kvorumutl", path=_bin())
    assert tool
    process_run([tool, *restore])
    with new:
        check_kept(new.endpoint)


def _bin() -> str:
    return str(Path(sys.executable).parent)


def process_run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, env=clean_environment(), timeout=60)


# --- signed tokens ----------------------------------------------------------------------------------------


def test_signed_tokens_and_keys_that_are_exchanged(tmp_path: Path) -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    public, private = tmp_path / "pub.pem", tmp_path / "priv.pem"

    def write(key: Any) -> None:
        public_pem, private_pem = pems(key)
        private.write_bytes(private_pem)
        private.chmod(0o600)
        public.write_bytes(public_pem)

    write(keys[0])
    option = f"--auth-token=jwt,pub-key={public},priv-key={private},sign-method=ES256,ttl=5m"
    with Member(process.kvorum(), tmp_path / "d", flags=(CHEAP, option)) as member:
        users = enable_at(member.endpoint)
        alice = users.log_in("alice")
        alice.put(b"a/k", b"v")
        claims = jwt.decode(users.token_of("alice"), keys[0].public_key(), ["ES256"])
        assert (claims["username"], claims["revision"]) == ("alice", 7)
        # One made elsewhere is as good; one of another key is not.
        made = {"username": "root", "revision": 7, "exp": 1 << 40}
        users.shows("token", jwt.encode(made, keys[0], "ES256")).range(b"x")
        with refused_with(errors.ERR_INVALID_AUTH_TOKEN):
            users.shows("token", jwt.encode(made, keys[1], "ES256")).range(b"x")
        # One of before a change of users is refused in etcd's words, which make clients fetch another.
        root = users.log_in("root")
        root.auth("RoleAdd", name="new")
        with refused_with(errors.ERR_AUTH_OLD_REVISION):
            alice.range(b"a/k")
        with refused_with(errors.ERR_AUTH_OLD_REVISION):
            alice.put(b"a/k", b"v")
        write(keys[1])
        member.wait_log("took the changed keys of tokens")
        with refused_with(errors.ERR_INVALID_AUTH_TOKEN):
            users.shows("token", jwt.encode(made, keys[0], "ES256")).range(b"x")
        made["revision"] = 8
        users.shows("token", jwt.encode(made, keys[1], "ES256")).range(b"x")
        private.write_text("nonsense")
        member.wait_log("cannot use the changed keys of tokens; the old ones stay")
        users.log_in("alice", "alice").put(b"a/k", b"v")
        users.close()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("jwt", "auth: invalid auth signature method"),
        ("jwt,sign-method=ES256", "auth: missing key data"),
        ("other", "auth: invalid auth options"),
    ],
)
def test_a_member_does_not_start_with_tokens_that_cannot_be(tmp_path: Path, option: str, text: str) -> None:
    member = Member(process.kvorum(), tmp_path / "d", flags=(f"--auth-token={option}",))
    member.start(wait=False)
    assert member.wait_exit() == 1
    assert text in member.log_tail()


# --- secrets ----------------------------------------------------------------------------------------------


def test_no_secret_is_logged_kept_or_shown(tmp_path: Path) -> None:
    """Not a password, nor a token, nor a key: in the log at its loudest, the files, figures and help."""
    password = "pass-word-of-alice"
    with Member(process.kvorum(), tmp_path / "d", flags=("--log-level=debug", CHEAP)) as member:
        users = Users(member.endpoint)
        users.add("root", "root")
        users.add("alice", password=password)
        users.add("without", password=password, no_password=True)
        users.nobody.auth("UserChangePassword", name="alice", password=password + "2")
        users.enable()
        alice = users.log_in("alice", password + "2")
        token = users.token_of("alice")
        with refused_with(DENIED):
            alice.range(b"x")
        with refused_with(errors.ERR_AUTH_FAILED):
            users.nobody.auth("Authenticate", name="alice", password=password)
        with refused_with(errors.ERR_INVALID_AUTH_TOKEN):
            users.shows("token", "x" + token).range(b"x")
        with urllib.request.urlopen(f"{member.url}/metrics") as page:
            metrics = page.read().decode()
        users.close()
        member.stop()
    log = "\n".join(member.log_lines)
    letters = token.partition(".")[0]
    for secret in (password, letters, base64.b64encode(password.encode()).decode(), "$2a$"):
        assert secret not in log
        assert secret not in metrics
    kept = b"".join(path.read_bytes() for path in member.data_dir.rglob("*") if path.is_file())
    assert password.encode() not in kept
    assert "etcd_debugging_auth_revision" in metrics
    assert json.dumps(password) not in log
