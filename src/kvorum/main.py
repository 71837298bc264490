"""The ``kvorum`` command: read the flags, set up the log, run the member.

Exit codes are etcd's: 0 after a clean stop, 2 for a command line that cannot be read (one line on stderr), 1
for everything else (said in the log). Source of behaviour: etcd ``server/etcdmain/etcd.go``.
"""

import os
import platform
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kvorum import ETCD_VERSION, __version__
from kvorum.config import UNSET_ADVERTISE_CLIENT_URLS, Config, ConfigError, ShadowedVariableError
from kvorum.config_sources import load
from kvorum.discovery.errors import FullClusterError
from kvorum.flag_table import DOCUMENTED, FLAGS
from kvorum.flags import CommandLine, Flag, FlagError, parse_command_line
from kvorum.log_outputs import FdOutput
from kvorum.logging import Logger, capture_standard_logging

USAGE: Final = """Usage:

  kvorum [flags]
    Start a member.

  kvorum --config-file FILE
    Start a member that reads everything from a YAML file.

  kvorum gateway start [flags]
    Pass connections on to a cluster.

  kvorum grpc-proxy start [flags]
    Stand in front of a cluster, with a cache, and with one watch for many clients.

  kvorum --version
    Print the version.

  kvorum -h | --help
    Print this help and every flag.
"""
EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
_SUBCOMMANDS: Final = ("gateway", "grpc-proxy")
_SECRET: Final = frozenset({"discovery-user", "discovery-password"})
_HIDDEN: Final = "<hidden>"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit code.

    Args:
        argv: The command line without the program's name; None for the process's own.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in _SUBCOMMANDS:
            from kvorum.proxy import command  # as below

            return command.run(arguments)
        line = parse_command_line(arguments, FLAGS)
        if line.help:
            sys.stderr.write(USAGE + "\n")
            sys.stdout.write(help_text())
            return EXIT_OK
        if _wants_version(line):
            sys.stdout.write(version_text())
            return EXIT_OK
        return _start(arguments)
    except FlagError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE


def _wants_version(line: CommandLine) -> bool:
    return not line.rest and bool(line.values.get("version"))


def version_text() -> str:
    """Return what ``--version`` prints; the first line is etcd's, which scripts read."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return (
        f"etcd Version: {ETCD_VERSION}\n"
        f"Kvorum Version: {__version__}\n"
        f"Python Version: {platform.python_implementation()} {platform.python_version()}\n"
        f"OS/Arch: {platform.system().lower()}/{machine}\n"
    )


def help_text() -> str:
    """Return what ``--help`` prints on stdout: every flag with its default, by group."""
    groups: dict[str, list[Flag]] = {}
    for flag in DOCUMENTED:
        groups.setdefault(flag.group, []).append(flag)
    parts = []
    for group, flags in groups.items():
        lines = [f"  --{flag.name} '{flag.shown_default or flag.default}'\n    {flag.help}" for flag in flags]
        parts.append(f"{group[0].upper()}{group[1:]}:\n" + "\n".join(lines))
    return "\n" + "\n\n".join(parts) + "\n"


def _start(arguments: list[str]) -> int:
    early = Logger([FdOutput(2)])  # until the flags say where the log goes
    try:
        config = load(arguments, os.environ, early, default_host=default_host)
        log = config.open_log()
    except ShadowedVariableError as error:
        early.fatal(str(error), {"environment-variable": error.variable})
        return EXIT_FAILURE
    except (ConfigError, OSError) as error:
        return _refused(early, arguments, error)
    try:
        config.validate()
    except ConfigError as error:
        return _refused(log, arguments, error)
    return _run(config, arguments, log)


def without_secrets(arguments: list[str]) -> list[str]:
    """The command line as it may be logged."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        is_secret = not hide_next and name.startswith("-") and name.lstrip("-") in _SECRET
        if hide_next:
            shown.append(_HIDDEN)
        else:
            shown.append(name + equals + _HIDDEN if is_secret and equals else argument)
        hide_next = is_secret and not equals
    return shown


def _refused(log: Logger, arguments: list[str], error: Exception) -> int:
    log.info("Running: ", args=["kvorum", *without_secrets(arguments)])
    log.warn("failed to verify flags", error=error)
    if str(error) == UNSET_ADVERTISE_CLIENT_URLS:
        log.warn("advertise client URLs are not set", error=error)
    return EXIT_FAILURE


def _run(config: Config, arguments: list[str], log: Logger) -> int:
    if config.is_given("config-file"):
        log.info(
            "loaded server configuration, other configuration command line flags and environment variables"
            " will be ignored if provided",
            path=config.value("config-file"),
        )
    log.info("Running: ", args=["kvorum", *without_secrets(arguments)])
    for name, reason in config.without_effect().items():
        log.info("flag has no effect", flag=f"--{name}", reason=reason)
    if not config.value("data-dir"):
        log.warn("'data-dir' was empty; using default", data_dir=config.data_dir)
    is_member, is_proxy = config.member_path.is_dir(), (Path(config.data_dir) / "proxy").is_dir()
    if is_member and is_proxy:
        log.fatal("invalid datadir; both member and proxy directories exist")
        return EXIT_FAILURE
    if is_member or is_proxy:
        log.info(
            "server has been already initialized",
            {"data-dir": config.data_dir, "dir-type": "member" if is_member else "proxy"},
        )
    restore = capture_standard_logging(log)
    try:
        # Imported here so that --help and a wrong flag do not wait for the server's libraries.
        if is_proxy or (config.proxy != "off" and not is_member):
            from kvorum.proxy.http import run as run_proxy

            return run_proxy(config, log)
        from kvorum.server.process import run

        try:
            return run(config, log)
        except FullClusterError as full:
            return _fall_back(config, full, log)
    finally:
        restore()


def _fall_back(config: Config, full: FullClusterError, log: Logger) -> int:
    from kvorum.proxy.http import run as run_proxy

    log.warn(
        "discovery cluster is full, falling back to proxy",
        {"fallback-proxy": config.discovery_fallback, "error": full},
    )
    return run_proxy(config, log)


def default_host() -> str:
    """Return the address of the interface with the default route; empty if there is none.

    Connecting a UDP socket sends nothing; it makes the kernel choose the address.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737)
        except OSError:
            return ""
        return str(probe.getsockname()[0])


if __name__ == "__main__":
    sys.exit(main())
