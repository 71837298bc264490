"""Whatever is given, the answer is a configuration or one of the declared errors, in one line."""

import contextlib

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kvorum.config import Config, ConfigError
from kvorum.config_file import ConfigFileError, parse_config_file
from kvorum.config_sources import load
from kvorum.flag_table import FLAGS
from kvorum.flags import FlagError, parse_command_line
from kvorum.log_outputs import RotationConfig
from kvorum.logging import Logger
from kvorum.urls import parse_cluster, parse_url

NAMES = st.sampled_from(sorted(FLAGS))
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["0", "-1", "1h", "true", "http://a:1", "http://[::1]:2", "x=http://b:1", "*", "new", "{}"]
    ),
)
WORDS = st.one_of(
    TEXTS,
    st.builds("--{}={}".format, NAMES, TEXTS),
    st.builds("--{}".format, NAMES),
)


def checked(config: Config) -> None:
    """Ask the configuration everything that can be refused."""
    config.validate()
    config.compaction_retention()
    config.verify_bootstrap()


@given(st.lists(WORDS, max_size=6))
@example(["--listen-client-urls=http://%zz:1"])
def test_any_command_line(words: list[str]) -> None:
    words = [word for word in words if not word.lstrip("-").startswith("config-file")]
    with contextlib.suppress(FlagError, ConfigError):
        if not parse_command_line(words, FLAGS).help:
            checked(load(words, {}, Logger([])))


@given(st.dictionaries(NAMES, TEXTS, max_size=4))
def test_any_environment(variables: dict[str, str]) -> None:
    environment = {FLAGS[name].environment: text for name, text in variables.items() if name != "config-file"}
    with contextlib.suppress(FlagError, ConfigError):
        checked(load([], environment, Logger([])))


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
KEYS = st.one_of(NAMES, st.sampled_from(["client-transport-security", "peer-transport-security", "other"]))


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_file(document: dict[str, object]) -> None:
    with contextlib.suppress(FlagError, ConfigError):
        checked(
            load(
                ["--config-file=f"],
                {},
                Logger([]),
                read_file=lambda _: yaml.safe_dump(document).encode(),
            )
        )


@given(st.binary(max_size=60))
@example(b"\xff")
@example(b"? a\n: b")
@example(b"2001-01-01: x")
@example(b"name: 2001-01-01")
def test_any_bytes_as_a_file(data: bytes) -> None:
    with contextlib.suppress(ConfigFileError):
        parse_config_file(data, lambda key: None)


@given(st.text(max_size=30))
@example("http://a:1?x")
@example("http://[")
@example("://")
def test_any_url(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_url(str(parse_url(text))) == parse_url(text)
    with contextlib.suppress(ValueError):
        parse_cluster(text)


@given(st.text(max_size=30))
@example("[[[[[[")
@example('{"maxsize": true}')
def test_any_rotation(text: str) -> None:
    with contextlib.suppress(ValueError):
        RotationConfig.parse(text)
