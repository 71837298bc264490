"""python-etcd 0.4.5, the v2 client that Python programs of 2015 use, against Kvorum.

It runs on Python 3.11 as it is, with today's urllib3 and dnspython; only its uses of ``getheader`` and
``warn`` are called deprecated. Elections are not in it: it took them out when etcd 2.0 did. Its own classes
for users and roles expect lists of names, as etcd 2.1 gave them, and fail alike on what etcd has given since.
"""

import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

import etcd
import pytest

from tests.support import process
from tests.support.process import Member

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(getheader|'warn' method).*:DeprecationWarning"),
    pytest.mark.timeout(60),
]


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with Member(process.kvorum(), tmp_path_factory.mktemp("python-etcd") / "kvorum.etcd") as running:
        yield running


@pytest.fixture
def client(member: Member) -> Any:
    return client_of(member)


def client_of(member: Member) -> Any:
    return etcd.Client(port=member.client_port, read_timeout=20)


def test_keys(client: Any) -> None:
    made = client.write("/keys/a", "one")
    assert (made.action, made.key, made.value, made.newKey) == ("set", "/keys/a", "one", True)
    assert client.read("/keys/a").value == "one"
    assert not client.write("/keys/a", "two").newKey
    with pytest.raises(etcd.EtcdKeyNotFound):
        client.read("/keys/none")
    with pytest.raises(etcd.EtcdAlreadyExist):
        client.write("/keys/a", "three", prevExist=False)
    with pytest.raises(etcd.EtcdCompareFailed):
        client.write("/keys/a", "three", prevValue="one")
    with pytest.raises(etcd.EtcdNotFile):
        client.write("/keys", "x")
    with pytest.raises(etcd.EtcdDirNotEmpty):
        client.delete("/keys", dir=True)
    assert client.test_and_set("/keys/a", "three", "two").value == "three"
    assert client.delete("/keys", recursive=True).action == "delete"


def test_directories_and_keys_in_order(client: Any) -> None:
    first = client.write("/list", "one", append=True)
    second = client.write("/list", "two", append=True)
    listed = client.read("/list", recursive=True, sorted=True)
    assert [(leaf.key, leaf.value) for leaf in listed.leaves] == [(first.key, "one"), (second.key, "two")]
    client.write("/dirs/a/b", "x")
    assert [child.key for child in client.read("/dirs").children] == ["/dirs/a"]


def test_times_to_live(client: Any) -> None:
    assert client.write("/ttl/a", "x", ttl=100).ttl == 100
    assert client.refresh("/ttl/a", ttl=200).ttl == 200
    result = client.read("/ttl/a")
    result.ttl = None
    assert client.update(result).ttl is None
    client.write("/ttl/b", "x", ttl=1)
    assert client.watch("/ttl/b", timeout=20).action == "expire"
    assert "/ttl/b" not in client


def test_watch(client: Any, member: Member) -> None:
    index = client.write("/watched/a", "one").etcd_index
    client.write("/watched/a", "two")
    client.write("/watched/b", "three")
    assert client.watch("/watched", index=index + 1, recursive=True).value == "two"
    events = islice(client.eternal_watch("/watched", index=index, recursive=True), 3)
    assert [event.value for event in events] == ["one", "two", "three"]
    with pytest.raises(etcd.EtcdWatchTimedOut):
        client.watch("/watched/a", timeout=0.1)


def test_the_history_has_an_end(client: Any) -> None:
    index = client.write("/history/a", "first").etcd_index
    for number in range(1_001):
        client.write("/history/a", number)
    with pytest.raises(etcd.EtcdEventIndexCleared):
        client.watch("/history/a", index=index)


def test_locks(client: Any, member: Member) -> None:
    """Four threads, each with a client, in turn; nobody is inside together with somebody else."""
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        lock = etcd.Lock(client_of(member), "printer")
        for _ in range(3):
            lock.acquire(lock_ttl=30)
            assert lock.is_acquired
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)
            lock.release()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == [1] * 12


def test_a_lock_whose_holder_is_gone(client: Any, member: Member) -> None:
    lost, waiting = etcd.Lock(client, "lost"), etcd.Lock(client_of(member), "lost")
    assert lost.acquire(lock_ttl=1)
    assert not waiting.acquire(blocking=False, lock_ttl=30)
    assert waiting.acquire(lock_ttl=30)
    assert not lost.is_acquired
    waiting.release()


def test_the_cluster(client: Any, member: Member) -> None:
    assert client.machines == [member.url]
    assert client.leader["name"] == "default"
    assert client.leader["clientURLs"] == [member.url]
    assert [one["name"] for one in client.members.values()] == ["default"]
    assert client.stats["state"] == "StateLeader"
    assert client.leader_stats["followers"] == {}
    assert client.store_stats["setsSuccess"] > 0
    assert client.version.split(".")[0] == "3"


def test_a_user(client: Any, member: Member) -> None:
    """Basic auth as the client sends it; users are made by its plain JSON calls."""
    for path, body in (
        ("/users/root", {"user": "root", "password": "secret"}),
        ("/roles/reader", {"role": "reader", "permissions": {"kv": {"read": ["/open/*"], "write": []}}}),
        ("/users/ann", {"user": "ann", "password": "pass", "roles": ["reader"]}),
    ):
        client.api_execute_json("/v2/auth" + path, "PUT", params=body)
    client.write("/open/a", "x")
    client.api_execute_json("/v2/auth/enable", "PUT")
    root = etcd.Client(port=member.client_port, username="root", password="secret")
    try:
        root.api_execute_json("/v2/auth/roles/guest", "PUT", params={"role": "guest", "revoke": ALL})
        ann = etcd.Client(port=member.client_port, username="ann", password="pass")
        assert ann.read("/open/a").value == "x"
        for stranger in (ann, client, etcd.Client(port=member.client_port, username="ann", password="x")):
            with pytest.raises(etcd.EtcdInsufficientPermissions):
                stranger.write("/open/a", "y")
        assert root.write("/open/a", "y").value == "y"
    finally:
        root.api_execute_json("/v2/auth/enable", "DELETE")


ALL = {"kv": {"read": ["/*"], "write": ["/*"]}}
