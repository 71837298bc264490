"""The flags that every command has, and what they come to."""

import getpass
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import click

from kvorum.ctl.discovered import discovered_endpoints
from kvorum.ctl.errors import EXIT_BAD_ARGUMENTS, EXIT_ERROR, CtlError
from kvorum.ctl.values import BOOL, DURATION, TEXT, option
from kvorum.duration import SECOND, Duration

FORMATS: Final = ("fields", "json", "protobuf", "simple", "table")


_TWO_SECONDS: Final = Duration(2 * SECOND)
_FIVE_SECONDS: Final = Duration(5 * SECOND)
_SIX_SECONDS: Final = Duration(6 * SECOND)


@dataclass(frozen=True)
class Settings:
    """Where to connect, how long to wait, how to print."""

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    write_out: str = "simple"
    hex: bool = False
    debug: bool = False
    dial_timeout: Duration = _TWO_SECONDS
    command_timeout: Duration = _FIVE_SECONDS
    keepalive_time: Duration = _TWO_SECONDS
    keepalive_timeout: Duration = _SIX_SECONDS
    insecure_transport: bool = True
    cert: str = ""
    key: str = ""
    cacert: str = ""
    user: str = ""
    password: str = ""
    server_name: str = ""
    """Whom a certificate must be for; empty: the endpoint."""

    @property
    def wants_tls(self) -> bool:
        """Whether endpoints without a scheme are spoken to in TLS."""
        return bool(self.cert or self.key or self.cacert) or not self.insecure_transport


def global_options() -> list[click.Option]:
    """Return fresh options of etcdctl's global flags."""
    return [
        click.Option(
            ["--endpoints"], type=TEXT, multiple=True, help="gRPC endpoints, by comma  [127.0.0.1:2379]"
        ),
        option("--debug", BOOL, False, "print the flags in use"),
        option(("-w", "--write-out"), TEXT, "simple", "output: fields, json, protobuf, simple or table"),
        option("--hex", BOOL, False, "print byte strings in hexadecimal"),
        option("--dial-timeout", DURATION, "2s", "longest time to connect"),
        option("--command-timeout", DURATION, "5s", "longest time for a short command"),
        option("--keepalive-time", DURATION, "2s", "time between pings"),
        option("--keepalive-timeout", DURATION, "6s", "time to wait for a ping's answer"),
        option("--insecure-transport", BOOL, True, "speak without TLS unless certificates are given"),
        option("--insecure-discovery", BOOL, True, "take endpoints without TLS from SRV records"),
        option("--insecure-skip-tls-verify", BOOL, False, "trust any server (not possible here)"),
        option("--cert", TEXT, "", "certificate of this client"),
        option("--key", TEXT, "", "key of that certificate"),
        option("--cacert", TEXT, "", "authorities to trust"),
        option("--user", TEXT, "", "name[:password]"),
        option("--password", TEXT, "", "password of --user"),
        option(("-d", "--discovery-srv"), TEXT, "", "domain whose SRV records name the endpoints"),
        option("--discovery-srv-name", TEXT, "", "suffix of the SRV service's name"),
    ]


GLOBAL_NAMES: Final = frozenset(item.name for item in global_options())


def settings_of(params: Mapping[str, Any], given: frozenset[str]) -> Settings:
    """Return the settings that the parsed global flags make.

    Args:
        params: click's values by parameter name.
        given: Names of the flags that were given.

    Raises:
        CtlError: A flag asks for what is not there, or is empty.
    """
    for name in ("cert", "key", "cacert"):
        if not params[name] and name in given:
            raise CtlError(EXIT_BAD_ARGUMENTS, f"empty string is passed to --{name} option")
    if params["insecure_skip_tls_verify"]:
        raise CtlError(EXIT_ERROR, "--insecure-skip-tls-verify cannot be used: it is not there yet")
    domain, insecure = params["discovery_srv"], params["insecure_discovery"]
    endpoints = discovered_endpoints(domain, params["discovery_srv_name"], insecure) if domain else []
    if not endpoints:
        endpoints = [part.strip() for item in params["endpoints"] for part in item.split(",")]
    user, password = _credentials(params["user"], params["password"])
    kept = {name: params[name] for name in Settings.__dataclass_fields__ if name in params}
    kept |= {"user": user, "password": password}
    kept["endpoints"] = tuple(endpoints) or Settings.endpoints
    kept["server_name"] = "" if insecure else domain
    return Settings(**kept)


def _credentials(user: str, password: str) -> tuple[str, str]:
    if not user or password:
        return user, password
    name, colon, rest = user.partition(":")
    if colon:
        return name, rest
    return name, getpass.getpass("Password: ", stream=sys.stderr)
