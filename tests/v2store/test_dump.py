"""A whole store as etcd's JSON, both ways, with etcd itself at the other end."""

import http.client
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Final, final
from urllib.parse import quote, urlencode

import pytest

from kvorum.raft.types import Snapshot
from kvorum.snapshot.snap_file import encode_snap_file, read_snap_file
from kvorum.v2store.dump import recover_json, save_json
from kvorum.v2store.event import Event
from kvorum.v2store.store import Store
from tests.support.process import Member, Program, etcd, etcd34
from tests.v2store.memory import Clock, MemoryTables

FAR: Final = 4_000_000_000_000_000_000
WRITES_OVER_THE_RING: Final = 1_010


@final
class Keys:
    """A client of ``/v2/keys`` with one connection."""

    def __init__(self, port: int) -> None:
        self._connection: Final = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(self, method: str, key: str, **form: str) -> tuple[int, bytes]:
        path, body = "/v2/keys" + quote(key), urlencode(form)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if method in ("PUT", "POST") else {}
        if not headers:
            path, body = f"{path}?{body}", ""
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        self._connection.close()


def fill(keys: Keys) -> None:
    """Every kind of event and of node, more than the ring holds."""
    for number in range(WRITES_OVER_THE_RING):
        keys.ask("PUT", f"/many/{number % 7}", value=str(number))
    keys.ask("PUT", "/text", value='<&>"\\\n\x08\x00é\u2028😀')
    keys.ask("PUT", "/öäü/😀", value="x")
    keys.ask("PUT", "/öäü/￿", value="sorted before in UTF-8, behind in UTF-16")
    keys.ask("PUT", "/_hidden/x", value="")
    keys.ask("POST", "/queue", value="job")
    keys.ask("PUT", "/dir", dir="true", ttl="86400")
    keys.ask("PUT", "/dir/in/it", value="1", ttl="90000")
    keys.ask("PUT", "/dir/in/it", prevExist="true", refresh="true", ttl="95000")
    keys.ask("PUT", "/text", value="new", prevValue="old")
    keys.ask("PUT", "/queue", dir="true", prevExist="true", ttl="100000")
    keys.ask("PUT", "/many/1", value="swapped", prevIndex="0", prevExist="true")
    keys.ask("PUT", "/gone", value="1")
    keys.ask("DELETE", "/gone", prevValue="1")
    keys.ask("DELETE", "/_hidden", recursive="true")
    for number in range(100):
        keys.ask("PUT", f"/last/{number}", value="")


def newest_snap(data_dir: Path) -> Path:
    return max((data_dir / "member" / "snap").glob("*.snap"))


def without_what_is_not_kept(data: bytes) -> bytes:
    """The ttl that events showed when they happened, and the counts of reads."""
    data = re.sub(rb'"ttl":-?\d+,', b"", data)
    return re.sub(rb'("getsSuccess"|"getsFail"|"watchers"):\d+', rb"\1:0", data)


def same(body: bytes, event: Event) -> bool:
    """Whether etcd's answer is our event."""
    return without_what_is_not_kept(body) == without_what_is_not_kept(event.to_json("/1") + b"\n")


@pytest.mark.parametrize("program", [etcd34(), etcd()], ids=lambda program: program.name)
def test_what_etcd_saved_is_recovered_and_written_again_byte_for_byte_and_by_etcd_as_well(
    program: Program, tmp_path: Path
) -> None:
    flags = ["--enable-v2=true", f"--snapshot-count={WRITES_OVER_THE_RING + 70}"]
    with Member(program, tmp_path / "data", flags=flags, env={"TZ": "UTC"}) as member:
        with closing(Keys(member.client_port)) as keys:
            fill(keys)
        member.wait_log("saved snapshot")
        member.stop()
        path = newest_snap(tmp_path / "data")
        snapshot = read_snap_file(str(path))
        tables = MemoryTables()
        recover_json(snapshot.data, tables)
        assert save_json(tables) == without_what_is_not_kept(snapshot.data)

        store = Store(tables, Clock())
        store.check_invariants()
        assert store.get("/1/öäü/😀").node.value == "x"
        changed = [
            store.set("/1/ours/text", value='<&>"\\\n\x08\x00é\u2028😀'),
            store.create("/1/ours/dir/a", True, expires=FAR),
            store.create("/1/ours/dir/a", value="in order", unique=True),
            store.update("/1/ours/text", "", FAR, refresh=True),
            store.delete("/1/dir", recursive=True),
            store.compare_and_swap("/1/ours/text", value="swapped", prev_index=0),
        ]
        path.write_bytes(encode_snap_file(Snapshot(save_json(tables), snapshot.metadata)))
        member.start()
        with closing(Keys(member.client_port)) as keys:
            status, body = keys.ask("GET", "/ours", recursive="true", sorted="true")
            assert status == 200
            assert same(body, store.get("/1/ours", True, True))
            assert keys.ask("GET", "/dir")[0] == 404
            for event in changed:
                if not event.refresh:
                    _, body = keys.ask("GET", event.node.key[2:], wait="true", waitIndex=str(event.index))
                    assert same(body, event)


def test_a_new_store_is_written_as_etcds() -> None:
    """Also where there is no table yet."""
    state = json.loads(save_json(MemoryTables()))
    assert state["Root"]["Children"].keys() == {"0", "1"}
    assert state["CurrentIndex"] == state["WatcherHub"]["EventHistory"]["LastIndex"] == 0
    assert state["WatcherHub"]["EventHistory"]["Queue"]["Events"] == [None] * 1000
    tables = MemoryTables()
    Store(tables, Clock())
    assert json.loads(save_json(tables)) == state


def test_what_cannot_be_text_is_replaced() -> None:
    tables, copy = MemoryTables(), MemoryTables()
    Store(tables, Clock()).set("/1/k", value="a\udcff\udcfe")
    recover_json(save_json(tables), copy)
    assert Store(copy, Clock()).get("/1/k").node.value == "a\ufffd\ufffd"
    assert Store(tables, Clock()).get("/1/k").node.value == "a\udcff\udcfe"


def test_directories_deeper_than_the_stack() -> None:
    tables, copy = MemoryTables(), MemoryTables()
    store = Store(tables, Clock())
    deep = "/1" + "/d" * 1_500
    store.set(deep, value="x")
    recover_json(save_json(tables), copy)
    other = Store(copy, Clock())
    other.check_invariants()
    assert other.get("/1", True, True).to_json() == store.get("/1", True, True).to_json()
    store.delete("/1/d", recursive=True)
    assert not store.get("/1", True).node.nodes


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"CurrentIndex":1}',
        b'{"Root":null,"WatcherHub":{"EventHistory":{"Queue":{"Events":[],"Size":0,"Front":0}}},"CurrentIndex":1}',
        b'{"Root":{"Children":{"1":{"CreatedIndex":1}}},"WatcherHub":{"EventHistory":{"Queue":'
        b'{"Events":[],"Size":0,"Front":0}}},"CurrentIndex":1}',
    ],
)
def test_what_is_no_store_is_refused_before_anything_is_written(broken: bytes) -> None:
    tables = MemoryTables()
    with pytest.raises(ValueError):
        recover_json(broken, tables)
    assert not any(table.rows for table in tables.tables.values())


def test_a_history_with_a_gap_begins_behind_it() -> None:
    tables = MemoryTables()
    store = Store(tables, Clock())
    for number in range(6):
        store.set("/1/k", value=str(number))
    state = json.loads(save_json(tables))
    state["WatcherHub"]["EventHistory"]["Queue"]["Events"][2] = None
    copy = MemoryTables()
    recover_json(json.dumps(state).encode(), copy)
    assert [event.index for event in Store(copy, Clock()).hub.history.events] == [4, 5, 6]
    state["CurrentIndex"] = 9
    copy = MemoryTables()
    recover_json(json.dumps(state).encode(), copy)
    recovered = Store(copy, Clock())
    assert not recovered.hub.history.events
    assert recovered.set("/1/k", value="x").index == 10
    recovered.check_invariants()


def test_a_tree_with_a_node_that_is_nowhere_is_refused() -> None:
    tables = MemoryTables()
    store = Store(tables, Clock())
    store.set("/1/a/b", value="x")
    rows = tables.table(b"v2_node").rows
    lost = next(key for key, record in rows.items() if b"/1/a" in record and b"/1/a/b" not in record)
    del rows[lost]
    with pytest.raises(AssertionError, match="not the directory it is in"):
        Store(tables, Clock())
