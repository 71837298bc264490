"""``kvorum grpc-proxy start``: from flags to a running proxy."""

from collections.abc import Mapping

from kvorum.flags import Value
from kvorum.logging import Logger


async def start(values: Mapping[str, Value], log: Logger) -> int:
    """Run the proxy until cancelled; returns the exit code if it cannot be run."""
    log.fatal("not there", values=len(values))
    return 1
