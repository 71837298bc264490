"""Sources and precedence, defaults that depend on others, and the checks."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from kvorum.config import Config, ConfigError, ShadowedVariableError
from kvorum.config_sources import load
from kvorum.duration import HOUR, MILLISECOND, MINUTE, SECOND
from kvorum.flag_support import NOT_THERE_YET
from kvorum.flag_table import FLAGS
from kvorum.flags import BOOL, DURATION, INT, UINT, FlagError
from kvorum.logging import Logger


class Lines:
    """An output that keeps what is written."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def write(self, level: int, line: bytes) -> None:
        self.lines.append(json.loads(line))


def read(*arguments: str, environment: Mapping[str, str] | None = None, host: str = "") -> Config:
    return load(arguments, environment or {}, Logger([]), default_host=lambda: host)


def test_defaults() -> None:
    config = read()
    config.validate()
    config.verify_bootstrap()
    assert config.name == "default"
    assert config.data_dir == "default.etcd"
    assert config.wal_path == Path("default.etcd/member/wal")
    assert config.database_path == Path("default.etcd/member/snap/kvorum.lmdb")
    assert (config.heartbeat_interval_ms, config.election_timeout_ms, config.election_ticks) == (
        100,
        1000,
        10,
    )
    assert [str(url) for url in config.listen_client_urls] == ["http://localhost:2379"]
    assert config.initial_cluster == "default=http://localhost:2380"
    assert config.quota_bytes == 2 << 30
    assert config.backend_batch_interval == 100 * MILLISECOND
    assert config.grpc_keepalive_interval == 2 * HOUR
    assert config.max_concurrent_streams == (1 << 32) - 1
    assert config.request_timeout == 7 * SECOND
    assert config.compaction_retention() == 0
    assert config.cors == config.host_whitelist == ("*",)
    assert not config.given
    assert not config.without_effect()
    config.open_log()


def test_flag_over_default_and_environment_over_default() -> None:
    config = read("--name=a", environment={"ETCD_SNAPSHOT_COUNT": "7", "ETCD_PRE_VOTE": "f", "PATH": "x"})
    assert (config.name, config.snapshot_count, config.pre_vote) == ("a", 7, False)
    assert config.given == {"name", "snapshot-count", "pre-vote"}
    assert config.is_given("name")
    assert config.data_dir == "a.etcd"
    assert config.initial_cluster == "a=http://localhost:2380"


def test_a_variable_beside_its_flag_is_refused() -> None:
    with pytest.raises(ShadowedVariableError) as caught:
        read("--name=a", environment={"ETCD_NAME": "b"})
    assert caught.value.variable == "ETCD_NAME"


def test_an_empty_variable_counts_as_unset() -> None:
    assert read(environment={"ETCD_NAME": ""}).name == "default"


def test_variables_are_reported() -> None:
    lines = Lines()
    load([], {"ETCD_NAME": "b", "ETCD_FOO": "1", "ETCD_VERSION": "3", "FOO": "2"}, Logger([lines]))
    said = [(line["level"], line["msg"]) for line in lines.lines]
    assert said == [
        ("warn", "cannot set special environment variable"),
        ("info", "recognized and used environment variable"),
        ("warn", "unrecognized environment variable"),
    ]
    assert lines.lines[1]["variable-name"] == "ETCD_NAME"
    assert lines.lines[2]["environment-variable"] == "ETCD_FOO=1"


def test_a_wrong_variable() -> None:
    with pytest.raises(ConfigError, match=r'^invalid value "x" for ETCD_HEARTBEAT_INTERVAL: parse error$'):
        read(environment={"ETCD_HEARTBEAT_INTERVAL": "x"})


def test_every_flag_reads_its_default_from_the_environment() -> None:
    environment = {
        flag.environment: flag.default for flag in FLAGS.values() if flag.default and flag.name != "version"
    }
    config = read(environment=environment)
    for name, flag in FLAGS.items():
        if flag.default:
            assert config.value(name) == flag.default_value, name


def write(path: Path, text: str) -> str:
    file = path / "etcd.yaml"
    file.write_text(text)
    return str(file)


def test_a_file_over_everything(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        Name: 7
        heartbeat-interval: 50
        pre-vote: false
        backend-batch-interval: 5000000
        grpc-keepalive-min-time: 7s
        listen-client-urls: http://127.0.0.1:1, http://127.0.0.1:2
        log-outputs: [stderr, stdout]
        host-whitelist: b,a
        wal-dir:
        """,
    )
    lines = Lines()
    config = load(
        ["--config-file", file, "--name=flag", "--max-wals=9"], {"ETCD_MAX_WALS": "8"}, Logger([lines])
    )
    config.validate()
    assert (config.name, config.heartbeat_interval_ms, config.pre_vote) == ("7", 50, False)
    assert (config.backend_batch_interval, config.grpc_keepalive_min_time) == (5 * MILLISECOND, 7 * SECOND)
    assert config.max_wals == 5
    assert config.log_outputs == ("stderr", "stdout")
    assert config.host_whitelist == ("a", "b")
    assert [str(url) for url in config.listen_client_urls] == ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    # in a file, unlike on the command line, etcd keeps the default
    assert [str(url) for url in config.advertise_client_urls] == ["http://localhost:2379"]
    assert config.value("config-file") == file
    assert not lines.lines


def test_the_file_may_come_from_the_environment(tmp_path: Path) -> None:
    assert read(environment={"ETCD_CONFIG_FILE": write(tmp_path, "name: x")}).name == "x"


def test_transport_security_sections(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "client-transport-security: {cert-file: a, auto-tls: true}\npeer-transport-security: {key-file: b}",
    )
    config = read("--config-file", file)
    assert config.value("cert-file") == "a"
    assert config.value("auto-tls") is True
    assert config.value("peer-key-file") == "b"


def test_unknown_keys_are_reported(tmp_path: Path) -> None:
    lines = Lines()
    load(["--config-file", write(tmp_path, "nmae: x\n")], {}, Logger([lines]))
    assert [line["key"] for line in lines.lines] == ["nmae"]


GO = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "heartbeat-interval: abc",
            GO + "string into Go struct field configYAML.heartbeat-interval of type uint",
        ),
        ("max-wals: -1", GO + "number -1 into Go struct field configYAML.max-wals of type uint"),
        ("pre-vote: 1", GO + "number into Go struct field configYAML.pre-vote of type bool"),
        ("name: [a]", GO + "array into Go struct field configYAML.name of type string"),
        ("log-outputs: a", GO + "string into Go struct field configYAML.log-outputs of type []string"),
        ("listen-peer-urls: a", "unexpected error setting up listen-peer-urls: URL scheme must be"),
        ("- a", GO + "array into Go value of type embed.configYAML"),
        ("a: [", "error converting YAML to JSON: yaml: line 1:"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read("--config-file", write(tmp_path, text))
    assert str(caught.value).startswith(message)


def test_a_missing_file() -> None:
    with pytest.raises(ConfigError, match=r"^open no/such: no such file or directory$"):
        read("--config-file=no/such")


def test_older_names_set_the_final_ones() -> None:
    assert read("--experimental-compaction-batch-limit=5").compaction_batch_limit == 5
    both = read("--experimental-compaction-batch-limit=5", "--compaction-batch-limit=6")
    assert both.compaction_batch_limit == 6
    assert read("--debug").log_level == "debug"
    assert read("--debug", "--log-level=warn").log_level == "warn"


def test_the_machines_address_is_advertised() -> None:
    listen = ["--listen-peer-urls=http://0.0.0.0:7"]
    config = read(*listen, "--name=n", host="10.0.0.1")
    assert [str(url) for url in config.advertise_peer_urls] == ["http://10.0.0.1:7"]
    assert config.initial_cluster == "n=http://10.0.0.1:7"
    assert [str(url) for url in read(*listen).advertise_peer_urls] == ["http://localhost:2380"]
    given = read(*listen, "--initial-advertise-peer-urls=http://a:1", host="10.0.0.1")
    assert [str(url) for url in given.advertise_peer_urls] == ["http://a:1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--initial-cluster=a=http://localhost:2380"], 'couldn\'t find local name "default" in the initial'),
        (
            ["--initial-advertise-peer-urls=http://a:1"],
            "--initial-cluster has default=http://localhost:2380 but missing from"
            " --initial-advertise-peer-urls=http://a:1",
        ),
        (
            ["--initial-advertise-peer-urls=http://a:1,http://localhost:2380"],
            "--initial-advertise-peer-urls has http://a:1 but missing from"
            " --initial-cluster=default=http://a:1,default=http://localhost:2380",
        ),
        (
            ["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"],
            "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url",
        ),
        (["--initial-cluster=default=x"], "error setting up initial cluster: URL scheme"),
    ],
)
def test_bootstrap(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(*arguments).verify_bootstrap()
    assert str(caught.value).startswith(message)


def test_who_joins_need_not_repeat_its_urls() -> None:
    """A member that joins announced its peer URLs to the cluster before it started."""
    config = read("--initial-cluster-state=existing", "--initial-cluster=default=http://a:1,b=http://b:2380")
    config.validate()
    config.verify_join_existing()
    with pytest.raises(ConfigError, match="missing from"):
        config.verify_bootstrap()


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ("b=http://b:2380", 'couldn\'t find local name "default" in the initial cluster configuration'),
        (
            "default=http://a:1,b=http://a:1",
            "initial cluster b=http://a:1,default=http://a:1 has duplicate url",
        ),
    ],
)
def test_who_joins_is_listed_once(cluster: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read("--initial-cluster-state=existing", f"--initial-cluster={cluster}").verify_join_existing()
    assert str(caught.value) == message


def other_value(name: str) -> str:
    flag = FLAGS[name]
    if flag.kind == BOOL:
        return "false" if flag.default == "true" else "true"
    if flag.kind in (UINT, INT):
        return "77"
    if flag.kind == DURATION:
        return "77s"
    if flag.choices:
        return next(choice for choice in flag.choices if choice != flag.default)
    return "http://127.0.0.1:77" if flag.kind == "urls" else "77"


@pytest.mark.parametrize("name", sorted(NOT_THERE_YET))
def test_what_is_not_there_is_refused(name: str) -> None:
    config = read(f"--{name}={other_value(name)}")
    with pytest.raises(FlagError, match=f"^--{name} cannot be used: "):
        config.validate()


def test_harmless_flags_are_reported() -> None:
    config = read("--backend-bbolt-freelist-type=array", "--raft-read-timeout=5s", "--logger=zap")
    config.validate()
    assert set(config.without_effect()) == {"backend-bbolt-freelist-type"}


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--auto-compaction-retention=5m"], 5 * MINUTE),
        (["--auto-compaction-retention=2"], 2 * HOUR),
        (["--auto-compaction-retention=1000", "--auto-compaction-mode=revision"], 1000),
        (["--auto-compaction-retention="], 0),
    ],
)
def test_compaction_retention(arguments: list[str], value: int) -> None:
    assert read(*arguments).compaction_retention() == value


def test_quota() -> None:
    assert read("--quota-backend-bytes=-1").quota_bytes == 0
    assert read("--quota-backend-bytes=5").quota_bytes == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--logger=capnslog"], "--logger=capnslog is removed in v3.5"),
        (["--logger=x"], 'unknown logger option "x"'),
        (["--log-outputs=a,default"], 'multi logoutput for "default" is not supported yet'),
        (["--log-format=x"], "unknown log format: x, supported values json, console"),
        (["--enable-log-rotation"], "--log-outputs requires a single file path when"),
        (
            ["--enable-log-rotation", "--log-outputs=a", "--log-rotation-config-json={"],
            "improperly formatted",
        ),
    ],
)
def test_wrong_logs(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(*arguments).open_log()
    assert str(caught.value).startswith(message)
