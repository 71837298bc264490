"""Clusters whose members speak TLS: all of ours, beside etcd, with certificates of their own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from tests.support import process
from tests.support.certificates import Authority, Pair
from tests.support.client import Client
from tests.support.cluster import LOOSE, Cluster, forming
from tests.support.process import Member, MemberError
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def member_pair(authority: Authority) -> Pair:
    return authority.issue("member", hosts=["127.0.0.1"])


@pytest.fixture(scope="module")
def client_pair(authority: Authority) -> Pair:
    return authority.issue("client", hosts=[])


def flags(authority: Authority, pair: Pair, dialling: Pair | None = None) -> list[str]:
    """Certificates asked for on both ports; ``dialling`` is what members show to each other."""
    given = [
        f"--{twin}{flag}"
        for twin in ("", "peer-")
        for flag in (
            f"cert-file={pair.cert}",
            f"key-file={pair.key}",
            f"trusted-ca-file={authority.path}",
            "client-cert-auth",
        )
    ]
    if dialling is not None:
        given += [f"--peer-client-cert-file={dialling.cert}", f"--peer-client-key-file={dialling.key}"]
    return given


@pytest.fixture(scope="module")
def trio(
    authority: Authority, member_pair: Pair, client_pair: Pair, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Three of ours; to each other they show a certificate that is not good for serving."""
    dialling = authority.issue("dialling", hosts=["127.0.0.1"], common_name="member-to-member")
    with forming(
        tmp_path_factory.mktemp("trio"),
        [process.kvorum()] * 3,
        (*LOOSE, *flags(authority, member_pair, dialling), "--peer-cert-allowed-cn=member-to-member"),
        credentials=authority.credentials(client_pair),
        ctl_flags=authority.ctl_flags(client_pair),
    ) as cluster:
        yield cluster


def flags_of_a_stranger(cluster: Cluster, authority: Authority, shown: Pair | None) -> list[str]:
    """The cluster's flags, but showing another certificate to members, or none."""
    if shown is None:
        kept = [flag for flag in cluster.flags if not flag.startswith("--peer-")]
        return [*kept, f"--peer-trusted-ca-file={authority.path}"]
    kept = [flag for flag in cluster.flags if not flag.startswith("--peer-client-")]
    return [*kept, f"--peer-client-cert-file={shown.cert}", f"--peer-client-key-file={shown.key}"]


def works(cluster: Cluster) -> None:
    """A put through each member is read through each other one, and all end with the same data."""
    for number, member in enumerate(cluster.members):
        cluster.client(member).put(b"k%d" % number, b"v%d" % number)
    for member in cluster.members:
        for number in range(len(cluster.members)):
            assert cluster.client(member).get(b"k%d" % number) == b"v%d" % number
    cluster.check_equal()


def test_three_members(trio: Cluster) -> None:
    works(trio)
    etcdctl = trio.etcdctl()
    healthy = etcdctl.run("endpoint", "health")
    assert (healthy.stdout + healthy.stderr).count("is healthy") == 3
    follower = trio.followers()[0]
    follower.kill()
    trio.client(trio.wait_leader()).put(b"while away", b"1")
    follower.start()
    trio.check_equal()
    trio.lead(follower)
    works(trio)


def test_a_peer_without_a_certificate_is_shut_out(
    trio: Cluster, authority: Authority, tmp_path: Path
) -> None:
    """It is in the list of members and knows every address; what it lacks is the right certificate."""
    asked = trio.wait_leader()
    for shown in (authority.issue("somebody", hosts=["127.0.0.1"], common_name="somebody"), None):
        outcast = Member(
            process.kvorum(),
            tmp_path / ("nobody" if shown is None else "somebody"),
            flags=flags_of_a_stranger(trio, authority, shown),
            name="stranger",
            client_scheme="https",
            peer_scheme="http" if shown is None else "https",
        )
        added = trio.client(asked).member_add(outcast.peer_url, learner=True).member.ID
        outcast.initial_cluster = ",".join(
            f"{member.name}={member.peer_url}" for member in (*trio.members, outcast)
        )
        outcast.initial_cluster_state = "existing"
        with pytest.raises(MemberError):
            outcast.start()
        outcast.close()
        trio.client(trio.wait_leader()).member_remove(added)
        refused = [
            record for member in trio.members for record in member.log_records()
            if record["msg"] == "rejected connection"
        ]  # fmt: skip
        words = {str(record["error"]) for record in refused}
        expected = (
            "tls: client didn't provide a certificate"
            if shown is None
            else "client certificate authentication failed"
        )
        assert expected in words, words
    works(trio)


def test_a_cluster_of_etcd_and_kvorum(
    authority: Authority, member_pair: Pair, client_pair: Pair, tmp_path: Path
) -> None:
    programs = [process.etcd(), process.kvorum(), process.kvorum()]
    with forming(
        tmp_path,
        programs,
        (*LOOSE, *flags(authority, member_pair)),
        credentials=authority.credentials(client_pair),
        ctl_flags=authority.ctl_flags(client_pair),
    ) as cluster:
        works(cluster)
        for member in cluster.members[:2]:
            cluster.lead(member)
            works(cluster)


@pytest.mark.parametrize("programs", [("kvorum", "kvorum", "kvorum"), ("etcd", "kvorum")], ids=" ".join)
def test_certificates_of_their_own(programs: Sequence[str], tmp_path: Path) -> None:
    """--auto-tls and --peer-auto-tls: encrypted, and nobody proves anything."""
    kinds = {"kvorum": process.kvorum, "etcd": process.etcd}
    cluster = Cluster(
        tmp_path,
        (*LOOSE, "--auto-tls", "--peer-auto-tls"),
        credentials=grpc.ssl_channel_credentials(),
        ctl_flags=("--insecure-skip-tls-verify", "--insecure-transport=false"),
    )
    try:
        cluster.form([kinds[name]() for name in programs])
        ctl = cluster.etcdctl()
        wait_until(lambda: ctl.run("put", "a", "b", check=False).status == 0, "a put")
        for member in cluster.members:
            assert cluster.etcdctl(member).run("get", "a").stdout == "a\nb\n"
            own = member.data_dir / "fixtures"
            assert sorted(str(path.relative_to(own)) for path in own.rglob("*.pem")) == [
                "client/cert.pem", "client/key.pem", "peer/cert.pem", "peer/key.pem",
            ]  # fmt: skip
        ours = cluster.members[-1]
        certificate = (ours.data_dir / "fixtures" / "client" / "cert.pem").read_bytes()
        with Client(ours.endpoint, credentials=grpc.ssl_channel_credentials(certificate)) as client:
            assert client.get(b"a") == b"b"
            ours.restart()  # shows the same certificate again
            assert client.get(b"a") == b"b"
    finally:
        cluster.close()
