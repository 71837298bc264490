"""One v2 store on members of etcd 3.4.23, of etcd 3.5.1 and of Kvorum, whoever leads and whoever is asked."""

import http.client
import random
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, final
from urllib.parse import urlencode

import pytest

from tests.support.cluster import LOOSE, Cluster, forming
from tests.support.process import Member, Program, etcd, etcd34, kvorum
from tests.support.workload import many
from tests.v2store.test_dump import without_what_is_not_kept

FLAGS: Final = (*LOOSE, "--enable-v2=true", "--snapshot-count=100")
BEHIND: Final = 6000
"""More entries than members of etcd keep for followers after a snapshot (5,000)."""
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


@final
class Keys:
    """``/v2/keys`` of one member."""

    def __init__(self, member: Member) -> None:
        self.member: Final = member
        self._connection: Final = http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=30)

    def ask(self, method: str, key: str, **form: str) -> tuple[int, int, bytes]:
        """Status, index and body."""
        body = urlencode(form)
        if method == "PUT" or method == "POST":
            self._connection.request(method, "/v2/keys" + key, body, FORM)
        else:
            self._connection.request(method, f"/v2/keys{key}?{body}")
        response = self._connection.getresponse()
        content = response.read()
        return response.status, int(response.getheader("X-Etcd-Index") or 0), content

    def everything(self) -> bytes:
        """The whole tree as this member's quorum has it."""
        return self.ask("GET", "/", recursive="true", sorted="true", quorum="true")[2]

    def close(self) -> None:
        self._connection.close()


@contextmanager
def keys_of(members: Sequence[Member]) -> Iterator[list[Keys]]:
    clients = [Keys(member) for member in members]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def write(clients: Sequence[Keys], seed: int, rounds: int = 40) -> None:
    """Random writes through random members; what each does depends on all that came before."""
    dice = random.Random(seed)
    for _ in range(rounds):
        client = dice.choice(clients)
        key = "/" + "/".join(dice.choices("abc", k=dice.randint(1, 3)))
        kind = dice.randrange(6)
        if kind == 0:
            client.ask("POST", key, value="in order")
        elif kind == 1:
            client.ask("DELETE", key, recursive="true")
        elif kind == 2:
            client.ask("PUT", key, dir="true", ttl="86400")
        elif kind == 3:
            client.ask("PUT", key, value="swapped", prevExist="true", ttl="86400")
        else:
            client.ask("PUT", key, value=str(dice.random()))


def expire(clients: Sequence[Keys]) -> None:
    """Let a directory expire; everybody sees it go at the same index."""
    _, index, _ = clients[0].ask("PUT", "/mortal", dir="true", ttl="1")
    clients[-1].ask("PUT", "/mortal/with/it", value="x")
    seen = [client.ask("GET", "/mortal", wait="true", waitIndex=str(index + 1)) for client in clients]
    assert b'"action":"expire"' in seen[0][2]
    assert len({without_what_is_not_kept(body) for _, _, body in seen}) == 1


def same_everywhere(clients: Sequence[Keys]) -> None:
    answers = {without_what_is_not_kept(client.everything()) for client in clients}
    assert len(answers) == 1, answers


def test_all_kinds_of_members_keep_one_store_whoever_leads(tmp_path: Path) -> None:
    with (
        forming(tmp_path, [etcd34(), kvorum(), etcd()], FLAGS) as cluster,
        keys_of(cluster.members) as clients,
    ):
        for seed, leader in enumerate(cluster.members):
            cluster.lead(leader)
            write(clients, seed)
            expire(clients)
            same_everywhere(clients)


def join_by_snapshot(cluster: Cluster, program: Program, flags: Sequence[str] = ()) -> Member:
    member = cluster.join(program, flags)
    assert any(record["msg"] == "applied snapshot" for record in member.log_records())
    return member


@pytest.mark.parametrize(
    ("host", "guests"),
    [(kvorum(), [etcd()]), (etcd(), [kvorum()])],
    ids=["kvorum", "etcd"],
)
def test_who_joins_by_a_snapshot_has_the_tree_and_its_history(
    tmp_path: Path, host: Program, guests: list[Program]
) -> None:
    with forming(tmp_path, [host], FLAGS) as cluster, closing(Keys(cluster.members[0])) as first:
        write([first], seed=1)
        _, index, _ = first.ask("PUT", "/watched", value="<&>")
        first.ask("PUT", "/mortal", value="x", ttl="86400")
        many(cluster.wait_leader(), BEHIND)
        for guest in guests:
            joined = join_by_snapshot(cluster, guest)
            with closing(Keys(joined)) as keys:
                same_everywhere([first, keys])
                past = [k.ask("GET", "/watched", wait="true", waitIndex=str(index)) for k in (first, keys)]
                assert past[0][2] == past[1][2]
                write([first, keys], seed=2)
                expire([first, keys])
                same_everywhere([first, keys])
