"""Where a configuration comes from: command line, environment, file.

As in etcd: with ``--config-file`` (or ``ETCD_CONFIG_FILE``) the file and the defaults alone; otherwise a
flag, else its ``ETCD_*`` variable, else the default. A variable beside its own flag is an error,
as nobody can say which was meant. Source of behaviour: etcd ``server/etcdmain/config.go`` and ``pkg/flags``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from kvorum.config import DEFAULT_NAME, Config, ConfigError, ShadowedVariableError, flag_of
from kvorum.config_file import ConfigFileError, parse_config_file
from kvorum.flag_table import FLAGS, TWINS
from kvorum.flags import IGNORED, Value, parse_command_line
from kvorum.golang import quote
from kvorum.logging import Logger
from kvorum.urls import Url


def load(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log: Logger,
    *,
    read_file: Callable[[str], bytes] = lambda path: Path(path).read_bytes(),
    default_host: Callable[[], str] = lambda: "",
) -> Config:
    """Return the configuration that the command line, the environment or a file asks for, not yet validated.

    Args:
        arguments: The command line without the program's name.
        environment: The process's variables.
        log: Hears which variables were used and which are unknown, as in etcd.
        read_file: Reads the configuration file.
        default_host: This machine's address, advertised for a listener on 0.0.0.0; empty if unknown.

    Raises:
        FlagError: One line for the user, exit code 2.
        ConfigError: For the log, exit code 1.
    """
    line = parse_command_line(arguments, FLAGS)
    if line.rest:
        raise ConfigError(f"'{line.rest[0]}' is not a valid flag")
    path = str(line.values.get("config-file") or environment.get("ETCD_CONFIG_FILE", ""))
    if path:
        given = _from_file(path, read_file, log)
    else:
        given = {**line.values, **_from_environment(line.values, environment, log)}
    given = _resolve_twins(given, log)
    values = {name: flag.default_value for name, flag in FLAGS.items()} | given
    _settle_defaults(values, given, from_file=bool(path))
    _advertise_default_host(values, default_host, log)
    return _build(values, frozenset(given))


def _from_file(path: str, read_file: Callable[[str], bytes], log: Logger) -> dict[str, Value]:
    def unknown(key: str) -> None:
        log.warn("unknown key in the configuration file has no effect", path=path, key=key)

    try:
        values = parse_config_file(read_file(path), unknown)
    except OSError as error:
        raise ConfigError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    except ConfigFileError as error:
        raise ConfigError(str(error)) from None
    return {**values, "config-file": path}


def _from_environment(
    line: Mapping[str, Value], environment: Mapping[str, str], log: Logger
) -> dict[str, Value]:
    values: dict[str, Value] = {}
    used = {"ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH"}  # neither sets a flag
    if environment.get("ETCD_VERSION"):
        log.warn(
            "cannot set special environment variable", key="ETCD_VERSION", value=environment["ETCD_VERSION"]
        )
    problem = ""
    for name in sorted(FLAGS):
        flag, variable = FLAGS[name], FLAGS[name].environment
        text = environment.get(variable, "")
        if name in line or not text or variable in used:
            continue
        used.add(variable)
        try:
            values[name] = flag.parse(text)
        except ValueError as error:
            problem = f"invalid value {quote(text)} for {variable}: {error}"
            continue
        log.info(
            "recognized and used environment variable",
            {"variable-name": variable, "variable-value": text},
        )
    shadowing = {FLAGS[name].environment for name in line}
    for variable, text in environment.items():
        if variable in used:
            continue
        if variable in shadowing:
            raise ShadowedVariableError(variable)
        if variable.startswith("ETCD_"):
            log.warn("unrecognized environment variable", {"environment-variable": f"{variable}={text}"})
    if problem:
        raise ConfigError(problem)
    return values


def _resolve_twins(given: Mapping[str, Value], log: Logger) -> dict[str, Value]:
    """Give the final names the values of the older ones, and ``--debug`` its meaning."""
    resolved = {name: value for name, value in given.items() if FLAGS[name].kind != IGNORED}
    for old, new in TWINS.items():
        if old in given:
            log.warn(f"--{old} is deprecated; use --{new}")
            resolved.setdefault(new, given[old])
    if given.get("debug"):
        log.warn("--debug is deprecated; use --log-level debug")
        resolved.setdefault("log-level", "debug")
    return resolved


def _settle_defaults(values: dict[str, Value], given: Mapping[str, Value], *, from_file: bool) -> None:
    """Apply the defaults that depend on other flags."""
    falls_back = values["discovery"] and values["discovery-fallback"] == "proxy"
    may_be_proxy = values["proxy"] != "off" or falls_back
    unsaid = "listen-client-urls" in given and "advertise-client-urls" not in given
    if not from_file and unsaid and not may_be_proxy:
        values["advertise-client-urls"] = ()
    discovered = any(values[name] for name in ("discovery", "discovery-srv", "discovery-srv-name"))
    if (discovered or values["discovery-endpoints"]) and "initial-cluster" not in given:
        values["initial-cluster"] = ""
    if not values["initial-cluster-state"]:
        values["initial-cluster-state"] = "new"


def _advertise_default_host(values: dict[str, Value], default_host: Callable[[], str], log: Logger) -> None:
    """Advertise this machine's address for listeners on 0.0.0.0, and name the cluster's only member.

    Source of behaviour: etcd ``embed.Config.UpdateDefaultClusterFromName``.
    """
    pairs = (
        ("listen-peer-urls", "initial-advertise-peer-urls"),
        ("listen-client-urls", "advertise-client-urls"),
    )
    host = ""
    for listen, advertise in pairs:
        listening = values[listen]
        assert isinstance(listening, tuple)
        first = listening[0] if listening else None
        if values[advertise] != FLAGS[advertise].default_value or not isinstance(first, Url):
            continue
        if first.is_unix or first.host != "0.0.0.0":  # noqa: S104 - compared, not bound
            continue
        host = host or default_host()
        if host:
            values[advertise] = (Url("http", f"{host}:{first.port}"),)
    if host:
        log.info("detected default host for advertise", host=host)
    unnamed = values["initial-cluster"] == FLAGS["initial-cluster"].default_value
    if unnamed and values["name"] != DEFAULT_NAME:
        urls = values["initial-advertise-peer-urls"]
        assert isinstance(urls, tuple)
        values["initial-cluster"] = ",".join(f"{values['name'] or DEFAULT_NAME}={url}" for url in urls)


def _build(values: Mapping[str, Value], given: frozenset[str]) -> Config:
    typed: dict[str, Any] = {
        item.name: values[flag_of(item.name)]
        for item in fields(Config)
        if item.name not in ("values", "given")
    }
    typed["data_dir"] = typed["data_dir"] or f"{values['name']}.etcd"
    return Config(**typed, values=values, given=given)
