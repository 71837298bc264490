"""What flags about discovery go together, and what is said about the others."""

import asyncio
from collections.abc import Sequence

import pytest

from kvorum.config import Config, ConfigError
from kvorum.config_sources import load
from kvorum.discovery import find
from kvorum.discovery.channels import credentials, open_channel
from kvorum.logging import Logger

V3 = ("--discovery-token=t", "--discovery-endpoints=a:1,b:2")
BOTH_KINDS = (
    "both v2 discovery settings (discovery, discovery-proxy) and v3 discovery settings (discovery-token,"
    " discovery-endpoints, discovery-cert, discovery-key, discovery-cacert, discovery-user,"
    " discovery-password) are set"
)
SEVERAL = (
    "multiple discovery or bootstrap flags are set."
    ' Choose one of "initial-cluster", "discovery" or "discovery-srv"'
)


def config_of(*flags: str, file: bytes = b"") -> Config:
    arguments = ["--config-file=x"] if file else list(flags)
    return load(arguments, {}, Logger([]), read_file=lambda _: file)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--discovery-token=t",), "both --discovery-token and --discovery-endpoints must be set"),
        (("--discovery-endpoints=a:1",), "both --discovery-token and --discovery-endpoints must be set"),
        ((*V3, "--discovery=http://d/t"), SEVERAL),
        ((*V3, "--discovery-srv=example.com"), SEVERAL),
        (("--discovery=http://d/t", "--initial-cluster=a=http://a:1"), SEVERAL),
        ((*V3, "--discovery-proxy=p:1"), BOTH_KINDS),
        (("--discovery-user=u", "--discovery-proxy=p:1"), BOTH_KINDS),
        (("--discovery-service-ttl=10ms",), "--discovery-service-ttl must be at least 1s (10ms)"),
    ],
)
def test_what_does_not_go_together(flags: Sequence[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(*flags).validate()
    assert str(caught.value) == problem


def test_from_a_file() -> None:
    config = config_of(file=b"discovery-token: t\ndiscovery-endpoints: [b:2, a:1]\n")
    config.validate()
    assert config.discovery_endpoints == ("a:1", "b:2")
    assert config.initial_cluster == ""
    assert config.discovery_request_timeout.seconds == 5


def assumed(*flags: str) -> Config:
    return asyncio.run(find.assume(config_of(*flags), Logger([])))


def test_at_first_it_is_alone() -> None:
    """Its ID comes of its own URLs and the token: the others must be able to make it, too."""
    own = ("--name=m", "--initial-advertise-peer-urls=http://h:1,http://g:2")
    for flags, token in ((("--discovery=http://d/t",), "http://d/t"), (V3, "t")):
        config = assumed(*own, *flags)
        assert config.initial_cluster == "m=http://g:2,m=http://h:1"
        assert config.initial_cluster_token == token
    plain = config_of(*own)
    assert asyncio.run(find.assume(plain, Logger([]))) is plain


@pytest.mark.parametrize("flags", [("--discovery=http://d/t",), V3])
def test_who_joins_does_not_discover(flags: Sequence[str]) -> None:
    with pytest.raises(ConfigError, match=r"^discovery URL should not be set when joining existing"):
        assumed(*flags, "--initial-cluster-state=existing")


def test_users() -> None:
    assert credentials(config_of("--discovery-user=u:p:q")) == ("u", "p:q")
    assert credentials(config_of("--discovery-user=u", "--discovery-password=p")) == ("u", "p")
    assert credentials(config_of("--discovery-user=u")) == ("u", "")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--discovery-cert=c",), "KeyFile and CertFile must both be present[key: , cert: c]"),
        (("--discovery-cacert=/nowhere",), "open /nowhere: no such file or directory"),
    ],
)
def test_tls_files(flags: Sequence[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asyncio.run(open_channel(config_of(*flags), "127.0.0.1:1"))
    assert str(caught.value) == problem
