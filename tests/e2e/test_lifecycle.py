"""A member's life as its surroundings see it: what it logs, how it ends, what it keeps, where it listens."""

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import grpc
import psutil
import pytest

from kvorum.proto import rpc_pb2 as pb
from tests.conftest import StartMember
from tests.e2e.conftest import Both
from tests.support import process
from tests.support.client import Client, op_put
from tests.support.ports import free_port
from tests.support.process import Member, Program

PROGRAMS = pytest.mark.parametrize(
    "program", [process.etcd(), process.kvorum()], ids=lambda program: program.name
)
Connect = Callable[[Member], Client]


def messages(member: Member, since: int = 0) -> list[str]:
    return [record["msg"] for record in member.log_records()[since:]]


def in_order(texts: Sequence[str], among: Sequence[str]) -> bool:
    rest = iter(among)
    return all(text in rest for text in texts)


def eventually(condition: Callable[[], bool]) -> None:
    """For what sends no event: look until it is so, and fail after a while."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "never became so"
        time.sleep(0.02)


# --- beginning and ending ---------------------------------------------------------------------------------

WAITED_FOR = (
    "starting etcd server",
    "set initial cluster version",
    "enabled capabilities for version",
    "published local member to cluster through raft",
    "ready to serve client requests",
    "serving client traffic insecurely; this is strongly discouraged!",
)


def test_messages_that_scripts_wait_for(both: Both) -> None:
    # The version is agreed on beside the start, so these lines come in any order, of both.
    eventually(lambda: all(set(WAITED_FOR) <= set(messages(member)) for member in both))
    theirs, ours = ({record["msg"]: record for record in member.log_records()} for member in both)
    for member in both:
        assert in_order(WAITED_FOR[-2:], messages(member))
    for text in WAITED_FOR:
        assert ours[text]["level"] == theirs[text]["level"]
        assert theirs[text].keys() - ours[text].keys() <= {"request-path"}, text  # that of the v2 API
    assert (
        ours[WAITED_FOR[3]]["local-member-attributes"] == f"{{Name:default ClientURLs:[{both.kvorum.url}]}}"
    )
    assert ours[WAITED_FOR[-1]]["address"] == both.kvorum.endpoint


ENDING = ("received signal; shutting down", "closing etcd server", "closed etcd server")


@PROGRAMS
@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupt")])
def test_signals_end_a_member_cleanly(
    program: Program, number: signal.Signals, name: str, start_member: StartMember, connect: Connect
) -> None:
    member = start_member(program)
    connect(member).put(b"a", b"1")
    before = len(member.log_records())
    member.signal(number)
    assert member.wait_exit() == -number  # the parent sees which signal it was
    assert in_order(ENDING, messages(member, before))
    said = {record["msg"]: record for record in member.log_records()[before:]}
    assert said[ENDING[0]]["signal"] == name
    assert said[ENDING[1]]["data-dir"] == said[ENDING[2]]["data-dir"] == str(member.data_dir)
    assert said[ENDING[1]]["advertise-client-urls"] == [member.url]
    assert not [record for record in member.log_records() if record["level"] in ("error", "fatal", "panic")]
    member.start()
    assert connect(member).get(b"a") == b"1"


def test_calls_under_way_are_answered_before_the_end(start_member: StartMember, connect: Connect) -> None:
    member = start_member(process.kvorum(), failpoints="wal_before_fsync=sleep(1)@20*1")
    client = Client(member.endpoint, wait_for_ready=False)
    revisions: list[int] = []

    def write() -> None:
        while not revisions or member.running:
            try:
                revisions.append(client.put(b"a", b"%d" % len(revisions)).header.revision)
            except grpc.RpcError as error:
                refusal = cast("grpc.Call", error)
                assert refusal.code() is grpc.StatusCode.UNAVAILABLE
                return

    writing = threading.Thread(target=write)
    writing.start()
    member.wait_log("failpoint wal_before_fsync")
    acknowledged = len(revisions)
    member.signal(signal.SIGTERM)
    assert member.wait_exit() == -signal.SIGTERM
    writing.join()
    client.close()
    assert len(revisions) > acknowledged  # the one that was waiting for the disk
    member.start()
    assert connect(member).range(b"a").kvs[0].mod_revision >= revisions[-1]


def what_it_is(client: Client) -> list[str]:
    """IDs, members, revision, keys and their hash; not the term, since each start is an election."""
    answers = client.hash_kv(), client.member_list(), client.range(b"\0", b"\0")
    for answer in answers:
        answer.header.raft_term = 0
    return [str(answer) for answer in answers]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_keeps_what_a_member_is(how: str, start_member: StartMember, connect: Connect) -> None:
    member = start_member(process.kvorum())
    client = connect(member)
    for number in range(50):
        client.put(b"%d" % (number % 7), b"%d" % number)
    client.delete(b"3")
    client.compact(20, physical=True)
    before = what_it_is(client)
    getattr(member, how)()
    member.start()
    client = connect(member)
    assert what_it_is(client) == before
    assert client.put(b"next", b"").header.revision == 53


def test_snapshots_and_segments_are_purged(start_member: StartMember, connect: Connect) -> None:
    flags = ("--snapshot-count=50", "--max-wals=1", "--max-snapshots=2")
    member = start_member(process.kvorum(), flags=flags)
    client = connect(member)
    never = pb.Compare(key=b"never", version=1, target=pb.Compare.VERSION)
    filler = op_put(b"never", bytes(1 << 20))  # goes through the log, and not into the database
    for number in range(140):
        client.txn([never], [filler], [op_put(b"%d" % number, b"x")])
    for number in range(110):
        client.put(b"small", b"%d" % number)
    revision = client.range(b"x").header.revision
    member.stop()
    snaps = sorted((member.data_dir / "member" / "snap").glob("*.snap"))
    segments = sorted((member.data_dir / "member" / "wal").glob("*.wal"))
    said = messages(member)
    assert said.count("triggering snapshot") >= 4
    # The end may come between the two.
    assert said.count("triggering snapshot") - said.count("saved snapshot") in (0, 1)
    assert len(snaps) == 2
    assert len(segments) == 1
    purged = {record["path"] for record in member.log_records() if record["msg"] == "purged"}
    assert sum(path.endswith(".wal") for path in purged) == 2
    assert not any(os.path.exists(path) for path in purged)
    member.start()
    client = connect(member)
    assert client.range(b"x").header.revision == revision
    assert client.range(b"\0", b"\0", count_only=True).count == 141


# --- connections ------------------------------------------------------------------------------------------


def test_two_hundred_connections_and_idle_ones(start_member: StartMember) -> None:
    member = start_member(process.kvorum())
    server = psutil.Process(member.pid)
    before = server.num_fds()
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(socket.create_connection(("127.0.0.1", member.client_port)))
        clients = [stack.enter_context(Client(member.endpoint)) for _ in range(200)]
        stubs = [
            client.channel.unary_unary(
                "/etcdserverpb.KV/Put",
                request_serializer=pb.PutRequest.SerializeToString,
                response_deserializer=pb.PutResponse.FromString,
            )
            for client in clients
        ]
        calls = [
            stub.future(pb.PutRequest(key=b"%d" % number), timeout=20, wait_for_ready=True)
            for number, stub in enumerate(stubs)
        ]
        revisions = {call.result().header.revision for call in calls}
        assert revisions == set(range(2, 202))
        assert len(server.net_connections("tcp")) > 250
        assert clients[0].range(b"\0", b"\0", count_only=True).count == 200
    eventually(lambda: server.num_fds() <= before + 1)


# --- addresses --------------------------------------------------------------------------------------------


@PROGRAMS
def test_a_taken_port(program: Program, tmp_path: Path) -> None:
    member = Member(program, tmp_path / "m.etcd")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", member.client_port))
        taken.listen()
        member.start(wait=False)
        assert member.wait_exit() == 1
    last = member.log_records()[-1]
    assert (last["level"], last["msg"]) == ("fatal", "discovery failed")
    assert last["error"] == f"listen tcp {member.endpoint}: bind: address already in use"


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@PROGRAMS
def test_every_kind_of_address(program: Program, tmp_path: Path) -> None:
    ports = [free_port() for _ in range(4)]
    urls = [
        f"http://127.0.0.1:{ports[0]}",
        f"http://127.0.0.1:{ports[1]}",
        f"http://[::1]:{ports[2]}",
        f"unix://localhost:{ports[3]}",
    ]
    member = Member(program, tmp_path / "m.etcd", flags=[f"--listen-client-urls={','.join(urls)}"])
    path = tmp_path / f"localhost:{ports[3]}"
    try:
        member.start()
        eventually(path.exists)
        targets = [url.removeprefix("http://") for url in urls[:3]] + [f"unix:{path}"]
        for number, target in enumerate(targets):
            with Client(target) as client:
                assert client.put(b"k", b"v").header.revision == number + 2
        for url in urls[:3]:
            assert get(f"{url}/health")[0] == 200
        addresses = {
            record["address"]
            for record in member.log_records()
            if record["msg"].startswith("serving client traffic")
        }
        assert {f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", f"[::1]:{ports[2]}"} <= addresses
        member.restart()  # the file of a Unix socket is no obstacle
        with Client(f"unix:{path}") as client:
            assert client.get(b"k") == b"v"
    finally:
        member.close()


@PROGRAMS
def test_metrics_have_a_place_of_their_own(program: Program, start_member: StartMember) -> None:
    port = free_port()
    member = start_member(program, flags=[f"--listen-metrics-urls=http://127.0.0.1:{port}"])
    for url in (f"http://127.0.0.1:{port}", member.url):
        status, text = get(f"{url}/metrics")
        assert status == 200
        assert b"etcd_server_has_leader 1" in text
        status, text = get(f"{url}/health")
        assert (status, json.loads(text)["health"]) == (200, "true")
    assert get(f"{member.url}/version")[0] == 200
    assert get(f"http://127.0.0.1:{port}/version")[0] == 404
    # Who may see figures may not for that read keys.
    with Client(f"127.0.0.1:{port}", timeout_seconds=5, wait_for_ready=False) as client:
        with pytest.raises(grpc.RpcError) as refused:
            client.range(b"k")
        call = cast("grpc.Call", refused.value)
        assert call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)


def test_a_second_signal_changes_nothing(start_member: StartMember, connect: Connect) -> None:
    member = start_member(process.kvorum(), failpoints="backend_before_commit=sleep(0.5)")
    connect(member).put(b"a", b"1")
    member.signal(signal.SIGTERM)
    member.wait_log("received signal")
    member.signal(signal.SIGINT)
    assert member.wait_exit() == -signal.SIGTERM
    assert messages(member).count("closed etcd server") == 1
