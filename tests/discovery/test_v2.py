"""Clusters that begin through a v2 directory: etcd's and Kvorum's members, on etcd's and Kvorum's servers."""

import json
import urllib.request
from urllib.parse import urlencode

import pytest

from tests.discovery.conftest import Members, check_cluster
from tests.support import process
from tests.support.process import Member

pytestmark = pytest.mark.slow


def put(url: str, **fields: object) -> None:
    request = urllib.request.Request(url, urlencode(fields).encode(), method="PUT")
    with urllib.request.urlopen(request) as answer:
        answer.read()


def errors(member: Member) -> dict[str, str]:
    return {record["msg"]: record.get("error", "") for record in member.log_records()}


def test_through_etcd(members: Members) -> None:
    service = members.serve(process.etcd34(), "--enable-v2")
    token = f"{service.url}/v2/keys/clusters/6c007a14"
    put(f"{token}/_config/size", value=3)
    flag = f"--discovery={token}"
    cluster = [
        members.start(process.kvorum(), "k1", flag),
        members.start(process.etcd34(), "e1", flag, "--enable-v2"),
        members.start(process.kvorum(), "k2", flag),
    ]
    check_cluster(cluster)

    late = members.start(process.kvorum(), "late", flag)
    assert late.wait_exit() == 1
    assert errors(late)["failed to bootstrap; discovery token was already used"] == (
        "failed to join discovery cluster (discovery: cluster is full)"
    )
    with urllib.request.urlopen(token) as answer:  # and has left nothing there
        assert len(json.load(answer)["node"]["nodes"]) == 3

    proxy = members.start(process.kvorum(), "proxy", flag, "--discovery-fallback=proxy")
    proxy.wait_log("discovery cluster is full, falling back to proxy")
    proxy.wait_log("v2 proxy started listening on client requests")
    put(f"{proxy.url}/v2/keys/a", value="through a proxy")
    with urllib.request.urlopen(f"{cluster[0].url}/v2/keys/a?quorum=true") as answer:
        assert json.load(answer)["node"]["value"] == "through a proxy"

    again = cluster[0]
    again.kill()
    again.start()
    again.wait_log("discovery token is ignored since cluster already initialized; valid logs are found")

    stranger = members.start(process.kvorum(), "stranger", f"{flag}0")
    assert stranger.wait_exit() == 1
    assert errors(stranger)["failed to start etcd"] == (
        "failed to join discovery cluster (discovery: size key not found)"
    )


def test_through_kvorum_which_restarts(members: Members) -> None:
    service = members.serve(process.kvorum(), "--enable-discovery-service")
    with urllib.request.urlopen(f"{service.url}/new?size=3") as answer:
        token = answer.read().decode()
    flag = f"--discovery={token}"
    cluster = [members.start(process.kvorum(), "k1", flag)]
    cluster[0].wait_log("found peers from discovery server; waiting for more")
    service.kill()
    cluster[0].wait_log("retry connecting to discovery service")
    service.start()
    cluster.append(members.start(process.etcd34(), "e34", flag))
    cluster.append(members.start(process.etcd(), "e35", flag))
    check_cluster(cluster)


def test_a_member_that_lost_its_data(members: Members) -> None:
    service = members.serve(process.kvorum(), "--enable-v2")
    token = f"{service.url}/v2/keys/clusters/x"
    put(f"{token}/_config/size", value=2)
    first = members.start(process.kvorum(), "first", f"--discovery={token}")
    first.wait_log("found self from discovery server")
    first.kill()
    first.start(wait=False)
    assert first.wait_exit() == 1
    said = errors(first)
    assert said["member has been registered with discovery service"] == "discovery: found duplicate id"
    assert "or use a new discovery token if previous bootstrap failed" in said


def test_two_of_one_name(members: Members) -> None:
    service = members.serve(process.kvorum())
    token = f"{service.url}/v2/keys/clusters/x"
    put(f"{token}/_config/size", value=2)
    put(f"{token}/a", value="twin=http://127.0.0.1:1")
    twin = members.start(process.kvorum(), "twin", f"--discovery={token}")
    assert twin.wait_exit() == 1
    assert (
        errors(twin)["member with duplicated name has already been registered"]
        == "discovery: found duplicate name"
    )


def test_a_first_start_that_was_cut_off(members: Members) -> None:
    service = members.serve(process.kvorum())
    token = f"{service.url}/v2/keys/clusters/x"
    put(f"{token}/_config/size", value=1)
    member = members.make(process.kvorum(), "k1", f"--discovery={token}")
    member.start(wait=False, failpoints="wal_create_after_rename=kill")
    member.wait_exit()
    assert member.start(wait=False).wait_exit() == 1
    assert errors(member)["failed to start etcd"].endswith("and start with a new discovery token")
