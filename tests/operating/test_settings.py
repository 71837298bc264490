"""What a member makes of flags, variables and a file, and which of them counts, beside etcd 3.5.1."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import process
from tests.support.ports import free_port
from tests.support.process import Program, clean_environment

FIELDS: Final = (
    "name",
    "data-dir",
    "heartbeat-interval",
    "election-timeout",
    "snapshot-count",
    "initial-advertise-peer-urls",
    "listen-client-urls",
    "advertise-client-urls",
    "listen-metrics-urls",
    "cors",
    "host-whitelist",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "quota-size-bytes",
    "pre-vote",
)

VARIABLES: Final = {
    "ETCD_NAME": "from-variables",
    "ETCD_LISTEN_CLIENT_URLS": "http://127.0.0.1:{client}",
    "ETCD_ADVERTISE_CLIENT_URLS": "http://127.0.0.1:{client}",
    "ETCD_LISTEN_PEER_URLS": "http://127.0.0.1:{peer}",
    "ETCD_INITIAL_ADVERTISE_PEER_URLS": "http://127.0.0.1:{peer}",
    "ETCD_INITIAL_CLUSTER": "from-variables=http://127.0.0.1:{peer}",
    "ETCD_HEARTBEAT_INTERVAL": "50",
    "ETCD_SNAPSHOT_COUNT": "88",  # the default is that of etcd 3.6 here
    "ETCD_QUOTA_BACKEND_BYTES": "100000000",
}
FILE: Final = """
name: from-file
data-dir: file.etcd
heartbeat-interval: 60
election-timeout: 700
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: from-file=http://127.0.0.1:{peer}
initial-cluster-token: a-token
snapshot-count: 77
cors: http://example.org:80
"""


@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [
        ([], VARIABLES, "from-variables"),
        (["--max-wals=9", "--pre-vote=false"], VARIABLES, "from-variables"),
        (["--config-file=x.yaml"], {}, "from-file"),
        (["--config-file=x.yaml", "--name=from-flag"], VARIABLES, "from-file"),
        ([], {"ETCD_CONFIG_FILE": "x.yaml", "ETCD_NAME": "from-variables"}, "from-file"),
        (
            ["--snapshot-count=99", "--listen-client-urls=http://127.0.0.1:{client}", "--advertise-client-urls=http://127.0.0.1:{client}",
             "--listen-peer-urls=http://127.0.0.1:{peer}", "--name=from-flag"],
            {},
            "from-flag",
        ),
    ],
    ids=["variables", "variables and flags", "file", "all", "a file named by a variable", "only --name"],
)  # fmt: skip
def test_what_counts(
    arguments: Sequence[str], variables: Mapping[str, str], named: str, tmp_path: Path
) -> None:
    client, peer = free_port(), free_port()
    shown = [
        _shown(
            program,
            [word.format(client=client, peer=peer) for word in arguments],
            {name: value.format(client=client, peer=peer) for name, value in variables.items()},
            FILE.format(client=client, peer=peer),
            tmp_path / program.name,
        )
        for program in (process.etcd(), process.kvorum())
    ]
    assert shown[1] == shown[0]
    assert shown[1]["name"] == named


def _shown(
    program: Program, arguments: Sequence[str], variables: Mapping[str, str], file: str, directory: Path
) -> dict[str, Any]:
    """What a member says it starts with."""
    directory.mkdir()
    (directory / "x.yaml").write_text(file)
    environment = clean_environment(variables)
    with subprocess.Popen(
        [*program.command, *arguments],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as member:
        assert member.stderr is not None
        try:
            for line in member.stderr:
                record = json.loads(line) if line.startswith(b"{") else {}
                if record.get("msg") == "starting an etcd server":
                    return {name: record.get(name) for name in FIELDS}
        finally:
            member.kill()
    raise AssertionError(f"{program.name} did not say what it starts with")
