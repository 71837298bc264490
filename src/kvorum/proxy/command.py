"""``kvorum gateway start`` and ``kvorum grpc-proxy start``: which one, and with which flags.

Exit codes are those of etcd's commands: 0 for help, 1 for anything wrong. Source of behaviour: etcd
``server/etcdmain/gateway.go``, ``grpc_proxy.go``.
"""

import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

from kvorum.flags import Flag, FlagError, Value, parse_command_line
from kvorum.log_outputs import FdOutput
from kvorum.logging import Logger, capture_standard_logging, parse_level
from kvorum.proxy.process import serve

NAMES: Final = ("gateway", "grpc-proxy")


def run(arguments: Sequence[str]) -> int:
    """Run ``gateway`` or ``grpc-proxy`` (the first argument); returns the process's exit code."""
    name, rest = arguments[0], list(arguments[1:])
    table = _flags(name)
    if not rest or rest[0] != "start":
        known = not rest or rest[0] in ("help", "-h", "--help")
        sys.stderr.write("" if known else f'Error: unknown command "{rest[0]}" for "kvorum {name}"\n')
        sys.stdout.write(_usage(name, {}))
        return 0 if known else 1
    try:
        line = parse_command_line(rest[1:], table)
    except FlagError as error:
        sys.stderr.write(f"Error: {error}\n{_usage(name, table)}\n")
        return 1
    if line.help:
        sys.stdout.write(_usage(name, table))
        return 0
    values = {flag.name: flag.default_value for flag in table.values()} | dict(line.values)
    level = parse_level("debug") if values.get("debug") else parse_level("info")
    log = Logger([FdOutput(2)], level=level)
    log.info("Running: ", args=["kvorum", *arguments])
    restore = capture_standard_logging(log)
    try:
        return serve(lambda: _start(name, values, log), log)
    finally:
        restore()


def _flags(name: str) -> Mapping[str, Flag]:
    if name == "gateway":
        from kvorum.proxy import gateway

        return gateway.FLAGS
    from kvorum.proxy.grpc import flags  # not before it is asked for: gRPC's library takes a while

    return flags.FLAGS


def _start(name: str, values: Mapping[str, Value], log: Logger) -> Coroutine[Any, Any, int]:
    if name == "gateway":
        from kvorum.proxy import gateway

        return gateway.start(values, log)
    from kvorum.proxy.grpc import front

    return front.start(values, log)


def _usage(name: str, table: Mapping[str, Flag]) -> str:
    lines = [f"Usage:\n  kvorum {name} start [flags]\n"]
    if table:
        lines.append("Flags:")
        lines += [f"  --{flag.name} '{flag.default}'\n    {flag.help}" for flag in table.values()]
    return "\n".join(lines) + "\n"
