"""The v3 proxy as a process, beside etcd's, in front of members of both."""

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from kvorum.proto import rpc_pb2 as pb
from tests.proxy.support import PROGRAMS, ask, grpc_proxy
from tests.support.client import Client, op_put, op_range
from tests.support.cluster import Cluster
from tests.support.etcdctl import Etcdctl
from tests.support.ports import free_port
from tests.support.process import Member, Program, kvorum
from tests.support.waiting import wait_until

WATCH: Final = "/etcdserverpb.Watch/Watch"


FIGURES: Final = (
    ("/metrics", "etcd_server_has_leader"),
    ("/proxy/metrics", "etcd_grpc_proxy_cache_keys_total"),
)


def endpoints(cluster: Cluster) -> str:
    return ",".join(member.endpoint for member in cluster.members)


COMMANDS: Final = (
    "put {p}a 1", "put {p}b 2", "get {p}a", "get {p} --prefix", "get {p}a --consistency=s",
    "get {p}a --consistency=s", "put {p}a 3", "get {p}a --consistency=s", "get {p} --prefix --keys-only",
    "get {p} --prefix --count-only --write-out=fields", "get {p}none", "put {p}a 4 --prev-kv",
    "del {p}b --prev-kv", "get {p} --from-key --limit=1", "lease timeToLive 1234", "lease revoke 1234",
    "role get nobody", "user add u:p", "user delete u", "member remove 1234", "compaction 999999999",
    "get {p}a --rev=999999999", "lock {p}lock echo held", "endpoint health", "member list", "auth status",
)  # fmt: skip


def conversation(endpoint: str, prefix: str) -> list[tuple[str, int, list[str]]]:
    """What etcdctl prints, less what varies from run to run."""
    ctl = Etcdctl(endpoint)
    seen = []
    for line in COMMANDS:
        done = ctl.run(*line.format(p=prefix).split(), check=False)
        texts = []
        for text in (done.stdout, done.stderr):
            kept = [part for part in text.splitlines() if not part.startswith("{")]
            text = "\n".join(kept).replace(endpoint, "ENDPOINT").replace(prefix, "PREFIX")
            text = re.sub(r"(took =|AuthRevision:) \S+", r"\1", text)
            texts.append(re.sub(r'"(ClusterID|MemberID|Revision|RaftTerm)" : \d+', r"\1", text))
        seen.append((line, done.status, texts))
    return seen


@pytest.mark.parametrize("behind", ["kvorums", "etcds"])
def test_both_proxies_print_alike(behind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    cluster: Cluster = request.getfixturevalue(behind)
    seen = []
    for program in PROGRAMS:
        with grpc_proxy(program, tmp_path, endpoints(cluster)) as address:
            seen.append(conversation(address, f"like-{program.name}-"))
    for ours, theirs in zip(*seen, strict=True):
        assert ours == theirs


@contextmanager
def watching(
    address: str, *creates: dict[str, Any], metadata: tuple[tuple[str, str], ...] = ()
) -> Iterator[Iterator[pb.WatchResponse]]:
    """A stream with these watchers, all of them created."""
    done = threading.Event()
    requests = [
        pb.WatchRequest(create_request=pb.WatchCreateRequest(**fields)).SerializeToString()
        for fields in creates
    ]

    def asked() -> Iterator[bytes]:
        yield from requests
        done.wait()

    with Client(address) as client:
        call = client.channel.stream_stream(WATCH)(asked(), metadata=metadata, timeout=60)
        try:
            answers = map(pb.WatchResponse.FromString, call)
            early = []
            created = 0
            while created < len(creates):
                answer = next(answers)
                created += answer.created
                if not answer.created:  # of one that was created before
                    early.append(answer)
            yield chain(early, answers)
        finally:
            call.cancel()
            done.set()


def take(answers: Iterator[pb.WatchResponse], count: int) -> list[tuple[int, str, int]]:
    """Watch ID, value and revision of the next events."""
    taken: list[tuple[int, str, int]] = []
    while len(taken) < count:
        response = next(answers)
        assert not response.canceled, response
        taken += [
            (response.watch_id, event.kv.value.decode(), event.kv.mod_revision) for event in response.events
        ]
    return taken


def watchers_at(members: list[Member]) -> int:
    """Watchers at the members, less those of proxies that look for a leader."""
    total = 0
    for member in members:
        found = re.search(
            r"^etcd_debugging_mvcc_watcher_total (\S+)", ask(f"{member.url}/metrics")[1].decode(), re.M
        )
        assert found is not None
        total += int(float(found[1]))
    return total


@pytest.mark.parametrize("behind", ["kvorums", "etcds"])
def test_a_thousand_watchers_are_one_upstream(
    behind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    cluster: Cluster = request.getfixturevalue(behind)
    before = watchers_at(cluster.members)
    with grpc_proxy(kvorum(), tmp_path, endpoints(cluster)) as address, Client(address) as client:
        wait_until(lambda: watchers_at(cluster.members) == before + 1, "the proxy's look for a leader")
        many = [{"key": b"popular"}] * 250
        with (
            watching(address, *many) as one,
            watching(address, *many) as two,
            watching(address, *many) as three,
            watching(address, *many) as four,
        ):
            wait_until(lambda: watchers_at(cluster.members) == before + 2, "one watch for a thousand")
            revision = client.put(b"popular", b"news").header.revision
            for answers in (one, two, three, four):
                assert sorted(take(answers, 250)) == [(at, "news", revision) for at in range(250)]
            page = ask(f"http://{address}/proxy/metrics")[1].decode()
            assert "etcd_grpc_proxy_watchers_coalescing_total 999\n" in page
            assert "etcd_grpc_proxy_events_coalescing_total 999\n" in page
        wait_until(lambda: watchers_at(cluster.members) == before + 1, "no watch without watchers")


def test_no_event_is_lost_or_repeated_when_members_die(kvorums: Cluster, tmp_path: Path) -> None:
    written: list[int] = []
    stop = threading.Event()

    def write(address: str) -> None:
        at = 0
        while not stop.is_set():
            with Client(address, timeout_seconds=1) as client:
                try:
                    while not stop.is_set():
                        written.append(client.put(b"steady", str(at).encode()).header.revision)
                        at += 1
                except grpc.RpcError:
                    continue  # may or may not have been written: the history will say

    def fifty_more() -> None:
        before = len(written)
        wait_until(lambda: len(written) > before + 50, "writes")

    with grpc_proxy(kvorum(), tmp_path, endpoints(kvorums)) as address, Client(address) as client:
        first = client.put(b"steady", b"first").header.revision
        creates = ({"key": b"steady"}, {"key": b"steady", "start_revision": first})
        with watching(address, *creates) as answers:
            writer = threading.Thread(target=write, args=(address,))
            writer.start()
            for victim in list(kvorums.members):
                fifty_more()
                victim.kill()
                fifty_more()
                victim.start()
            stop.set()
            writer.join()
            last = client.put(b"steady", b"last").header.revision
            seen: dict[int, list[int]] = {0: [], 1: []}
            while not all(revisions[-1:] == [last] for revisions in seen.values()):
                for watch_id, _, revision in take(answers, 1):
                    seen[watch_id].append(revision)
    kvorums.wait_level()
    with Client(kvorums.members[0].endpoint) as member:
        assert member.range(b"steady").kvs[0].version == len(seen[1])
    assert seen[1] == sorted(set(seen[1])), "repeated, or out of order"
    assert seen[0] == seen[1][1:]
    assert set(written) <= set(seen[1])


def test_watchers_begin_where_they_ask_to(kvorums: Cluster, tmp_path: Path) -> None:
    with grpc_proxy(kvorum(), tmp_path, endpoints(kvorums)) as address, Client(address) as client:
        revisions = [client.put(b"past", str(at).encode()).header.revision for at in range(5)]
        client.delete(b"past")
        creates: tuple[dict[str, Any], ...] = (
            {"key": b"past", "start_revision": revisions[2]},
            {"key": b"past"},
            {"key": b"past", "start_revision": revisions[4], "filters": [1]},
            {"key": b"past", "start_revision": revisions[4], "filters": [0], "prev_kv": True},
            {"key": b"pa", "range_end": b"pb", "start_revision": revisions[4]},
        )
        with watching(address, *creates) as answers:
            client.put(b"past", b"now")
            events: dict[int, list[Any]] = {at: [] for at in range(5)}
            while [len(events[at]) for at in range(5)] != [5, 1, 2, 1, 3]:
                response = next(answers)
                events[response.watch_id] += response.events
        assert [event.kv.value for event in events[0]] == [b"2", b"3", b"4", b"", b"now"]
        assert [event.kv.value for event in events[1]] == [b"now"]
        assert [event.kv.value for event in events[2]] == [b"4", b"now"]
        assert [(event.type, event.prev_kv.value) for event in events[3]] == [(1, b"4")]
        assert not any(event.HasField("prev_kv") for event in events[0] + events[4])


def test_a_compacted_past_is_told(kvorums: Cluster, tmp_path: Path) -> None:
    with grpc_proxy(kvorum(), tmp_path, endpoints(kvorums)) as address, Client(address) as client:
        client.put(b"old", b"1")
        revision = client.put(b"old", b"2").header.revision
        client.compact(revision)
        with watching(address, {"key": b"old", "start_revision": 1}) as answers:
            told = next(answers)
            assert (told.canceled, told.compact_revision, told.watch_id) == (True, revision, 0)


def test_a_slow_reader_misses_nothing_and_disturbs_nobody(kvorums: Cluster, tmp_path: Path) -> None:
    with grpc_proxy(kvorum(), tmp_path, endpoints(kvorums)) as address, Client(address) as client:
        value = b"x" * 200_000
        with watching(address, {"key": b"big"}) as slow, watching(address, {"key": b"big"}) as fast:
            revisions = []
            for _ in range(40):  # 8 MB, which is more than its stream may hold
                revisions.append(client.put(b"big", value).header.revision)
                assert [one[2] for one in take(fast, 1)] == revisions[-1:]
            assert [one[2] for one in take(slow, 40)] == revisions


def test_keep_alives_are_merged(kvorums: Cluster, tmp_path: Path) -> None:
    """Fifty clients that renew one lease cost the members a few renewals."""

    def renewals() -> int:
        name = 'grpc_server_msg_received_total{grpc_method="LeaseKeepAlive"'
        pages = [ask(f"{member.url}/metrics")[1].decode() for member in kvorums.members]
        return sum(
            int(line.split()[-1]) for page in pages for line in page.splitlines() if line.startswith(name)
        )

    with grpc_proxy(kvorum(), tmp_path, endpoints(kvorums)) as address, Client(address) as client:
        lease = client.grant(60).ID
        before = renewals()
        request = pb.LeaseKeepAliveRequest(ID=lease).SerializeToString()
        method = client.channel.stream_stream("/etcdserverpb.Lease/LeaseKeepAlive")
        answered = []
        for call in [method(iter([request] * 4), timeout=20) for _ in range(50)]:
            answered += [pb.LeaseKeepAliveResponse.FromString(answer).TTL for answer in call]
        assert len(answered) == 200
        assert set(answered) <= {59, 60}
        assert renewals() - before < 20
        gone = next(iter(method(iter([pb.LeaseKeepAliveRequest(ID=4711).SerializeToString()]), timeout=20)))
        assert pb.LeaseKeepAliveResponse.FromString(gone).TTL == 0


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_namespace_hides_its_prefix(kvorums: Cluster, tmp_path: Path, program: Program) -> None:
    space = f"space-{program.name}/".encode()
    flags = [f"--namespace={space.decode()}"]
    with (
        grpc_proxy(program, tmp_path, endpoints(kvorums), *flags) as address,
        Client(address) as client,
        Client(kvorums.members[0].endpoint) as member,
        watching(address, {"key": b"\0", "range_end": b"\0", "prev_kv": True}) as answers,
    ):
        member.put(b"outside", b"0")
        lease = client.grant(60).ID
        client.put(b"a", b"1", lease=lease)
        assert client.put(b"a", b"2", prev_kv=True).prev_kv.key == b"a"
        done = client.txn(success=[op_put(b"b", b"3"), op_range(b"\0", b"\0")])
        assert [pair.key for pair in done.responses[1].response_range.kvs] == [b"a", b"b"]
        assert [pair.key for pair in client.range(b"\0", b"\0").kvs] == [b"a", b"b"]
        assert [pair.key for pair in client.delete(b"a", b"c", prev_kv=True).prev_kvs] == [b"a", b"b"]
        assert [event.kv.key for _ in range(4) for event in next(answers).events] == [
            b"a",
            b"a",
            b"b",
            b"a",
            b"b",
        ]
        client.put(b"leased", b"", lease=lease)
        assert list(client.time_to_live(lease, keys=True).keys) == [b"leased"]
        assert member.get(space + b"leased") == b""
        assert client.get(b"outside") is None


def test_serializable_reads_come_from_the_cache(kvorums: Cluster, tmp_path: Path) -> None:
    with grpc_proxy(kvorum(), tmp_path, endpoints(kvorums)) as address, Client(address) as client:
        client.put(b"kept", b"1")
        assert client.get(b"kept") == b"1"  # linearizable, and kept
        for _ in range(5):
            assert client.get(b"kept", serializable=True) == b"1"
        page = ask(f"http://{address}/proxy/metrics")[1].decode()
        assert "etcd_grpc_proxy_cache_hits_total 5\n" in page
        assert "etcd_grpc_proxy_cache_misses_total 0\n" in page
        client.txn(success=[op_put(b"kept", b"2")])
        assert client.get(b"kept", serializable=True) == b"2"
        client.delete(b"ke", b"kf")
        assert client.get(b"kept", serializable=True) is None


def test_proxies_register_and_find_each_other(kvorums: Cluster, tmp_path: Path) -> None:
    """Ours and etcd's below one prefix; a proxy that ends is gone with its lease."""
    flags = ("--resolver-prefix=_proxies", "--resolver-ttl=1")
    with grpc_proxy(PROGRAMS[0], tmp_path, endpoints(kvorums), *flags) as ours:
        with grpc_proxy(PROGRAMS[1], tmp_path, endpoints(kvorums), *flags) as theirs:
            for asked in (ours, theirs):
                with Client(asked) as client:
                    wait_until(
                        lambda one=client: (
                            {member.clientURLs[0] for member in one.member_list().members}  # type: ignore[misc]
                            == {ours, theirs}
                        ),
                        "both proxies",
                    )
                    assert {member.name for member in client.member_list().members} == {socket.gethostname()}
        with Client(ours) as client:
            wait_until(lambda: len(client.member_list().members) == 1, "one proxy")


def test_pages(kvorums: Cluster, tmp_path: Path) -> None:
    seen = []
    for program in PROGRAMS:
        scraped = f"http://127.0.0.1:{free_port()}"
        with grpc_proxy(program, tmp_path, endpoints(kvorums), f"--metrics-addr={scraped}") as address:
            pages: list[tuple[int, bytes]] = []
            for base in (f"http://{address}", scraped):
                pages += (ask(base + path)[:2] for path in ("/health", "/proxy/health", "/nothing"))
                pages.append(ask(base + "/health", "POST", b"")[:2])
                for path, name in FIGURES:
                    status, body, _ = ask(base + path)
                    assert name.encode() in body
                    pages.append((status, b""))
            seen.append(pages)
    assert seen[0][:4] == seen[1][:4]
    assert seen[0] == seen[1]


def test_without_a_leader_streams_that_require_one_end(kvorums: Cluster, tmp_path: Path) -> None:
    cluster = kvorums
    metadata = (("hasleader", "true"),)
    with (
        grpc_proxy(kvorum(), tmp_path, endpoints(cluster)) as address,
        Client(address) as client,
        watching(address, {"key": b"k"}) as patient,
    ):
        wait_until(lambda: _has_leader(address), "the leader")
        with watching(address, {"key": b"k"}, metadata=metadata) as answers:
            for member in cluster.members[1:]:
                member.kill()
            with pytest.raises(grpc.RpcError) as lost:
                next(answers)
        assert lost.value.details() == "etcdserver: no leader"
        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not _has_leader(address)
        for member in cluster.members[1:]:
            member.start()
        wait_until(lambda: _has_leader(address), "a leader again")
        revision = client.put(b"k", b"v").header.revision
        assert take(patient, 1) == [(0, "v", revision)]


def _has_leader(address: str) -> bool:
    try:
        with watching(address, {"key": b"k"}, metadata=(("hasleader", "true"),)):
            return True
    except grpc.RpcError:
        return False


def test_wrong_flags_are_told(tmp_path: Path) -> None:
    for flags in (
        ("--resolver-ttl=3",),
        ("--resolver-prefix=x",),
        ("--resolver-prefix=x", "--resolver-ttl=1", "--advertise-client-url="),
    ):
        done = [
            subprocess.run(
                [*program.command, "grpc-proxy", "start", "--listen-addr=127.0.0.1:0", *flags],
                capture_output=True, text=True, timeout=20, check=False, cwd=tmp_path,
            )
            for program in PROGRAMS
        ]  # fmt: skip
        said = [
            (one.returncode, [line for line in one.stderr.splitlines() if line[0] != "{"]) for one in done
        ]
        assert said[0] == said[1]
