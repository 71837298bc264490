"""The benchmark as a program: the order of things, and what it says when it cannot run."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.__main__ import _chosen
from bench.model import QUICK
from bench.rows import PARTS, ROWS
from bench.run import run, turns

ROOT: Final = Path(__file__).parents[2]


def test_turns_alternate() -> None:
    assert list(turns(["a", "b"], 3)) == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]


def test_a_large_store_is_loaded_and_started_again(tmp_path: Path) -> None:
    rows = [row for row in ROWS if row.name in ("load", "rss", "start")]
    said: list[str] = []
    work = tmp_path / "work"
    samples = run(rows, ["etcd"], 2, replace(QUICK, keys=1000), work, said.append)
    assert {name: len(servers["etcd"]) for name, servers in samples.items()} == {
        "load": 1,
        "rss": 1,
        "start": 2,
    }
    assert all(sample.value > 0 for servers in samples.values() for sample in servers["etcd"])
    assert "large store, round 2: etcd" in said
    assert not work.exists()


def _bench(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_unknown_row_is_refused() -> None:
    done = _bench("--only", "put-1,nonsense")
    assert done.returncode == 2
    assert "no such row or server: nonsense" in done.stderr


def test_without_h2load_it_says_how_to_get_it(tmp_path: Path) -> None:
    done = _bench("--quick", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "make peers" in done.stderr


def test_a_part_is_chosen_by_its_name(tmp_path: Path) -> None:
    chosen = [row.name for row in _chosen(["cluster", "put-1"])]
    assert chosen == ["put-1", *(row.name for row in PARTS["cluster"])]
    assert len(_chosen([])) == len(ROWS)


def test_three_members_are_loaded_and_lose_their_leader(tmp_path: Path) -> None:
    wanted = ("cluster-put-1024-leader", "cluster-get-1-follower", "cluster-failover")
    rows = [row for row in ROWS if row.name in wanted]
    sizes = replace(QUICK, cluster_many=2000, cluster_single=20, failovers=1)
    samples = run(rows, ["etcd"], 1, sizes, tmp_path / "work", lambda _: None)
    values = {name: [sample.value for sample in servers["etcd"]] for name, servers in samples.items()}
    assert {name: len(each) for name, each in values.items()} == dict.fromkeys(wanted, 1)
    assert 50 < values["cluster-failover"][0] < 60_000
