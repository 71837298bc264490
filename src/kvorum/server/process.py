"""A member as a process: a loop of its own, signals, exit codes and last words.

Log messages are etcd's: scripts wait for them. Source: etcd ``server/etcdmain/etcd.go``.
"""

import asyncio
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final, NoReturn

from kvorum import limits
from kvorum.auth.tokens import TokenOptionsError
from kvorum.config import Config, ConfigError
from kvorum.discovery.errors import DiscoveryError, FullClusterError
from kvorum.discovery.say import say_failed
from kvorum.flags import FlagError
from kvorum.logging import Logger
from kvorum.mvcc.backend import BackendError
from kvorum.raft.log import LogLostError
from kvorum.rpc.sockets import ListenError
from kvorum.server.bootstrap import BootstrapError
from kvorum.server.member import Member
from kvorum.server.security import SecurityError
from kvorum.server.takeover import TakeoverError
from kvorum.systemd import notify_ready
from kvorum.wal.errors import WalError

START_ERRORS: Final = (
    TokenOptionsError,
    TokenOptionsError,
    BootstrapError,
    TakeoverError,
    BackendError,
    WalError,
    LogLostError,
    ConfigError,
    ListenError,
    SecurityError,
    DiscoveryError,
    OSError,
)
"""What a start can fail with for reasons outside the program; each text is one line."""


def run(config: Config, log: Logger) -> int:
    """Run a member until a signal or a failure; returns the exit code.

    After a signal the process ends by that signal, as etcd does, so that its parent sees what happened.

    Raises:
        FullClusterError: others have come first, and ``--discovery-fallback`` asks for a proxy then.
    """
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:  # not on this platform: asyncio's own loop serves as well, only slower
        factory = None
    faulthandler.enable()  # a page of the database that cannot be read ends the process, but not in silence
    sys.setswitchinterval(limits.SWITCH_INTERVAL_SECONDS)
    with asyncio.Runner(loop_factory=factory) as runner:
        code, received = runner.run(_run(config, log))
    if received is not None and threading.current_thread() is threading.main_thread():
        signal.signal(received, signal.SIG_DFL)
        os.kill(os.getpid(), received)
    return code


async def _run(config: Config, log: Logger) -> tuple[int, signal.Signals | None]:
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[signal.Signals] = loop.create_future()

    def ask(number: signal.Signals) -> None:
        if not asked.done():
            asked.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)
    member = Member(config, log)
    names = {
        "name": config.name,
        "data-dir": config.data_dir,
        "advertise-peer-urls": [str(url) for url in config.advertise_peer_urls],
        "advertise-client-urls": [str(url) for url in config.advertise_client_urls],
    }
    starting = loop.create_task(member.start())
    await asyncio.wait((starting, asked, member.removed), return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and (failure := starting.exception()) is not None:
        if isinstance(failure, FullClusterError) and config.discovery_fallback == "proxy":
            await member.stop()
            raise failure
        return _failed_to_start(config, log, failure), None
    if starting.done():
        notify_ready()
    await asyncio.wait((asked, member.failed, member.removed), return_when=asyncio.FIRST_COMPLETED)
    if member.failed.done():
        _end_at_once(log, member.failed.result())
    received = asked.result() if asked.done() else None
    if received is not None:
        log.info("received signal; shutting down", signal=_signal_name(received))
    starting.cancel()
    log.info("closing etcd server", names)
    stopping = loop.create_task(member.stop())
    await asyncio.wait((stopping, member.failed), return_when=asyncio.FIRST_COMPLETED)
    error = member.failed.result() if member.failed.done() else stopping.exception()
    if error is not None:
        _end_at_once(log, error)
    log.info("closed etcd server", names)
    return 0, received


def _failed_to_start(config: Config, log: Logger, error: BaseException | None) -> int:
    if isinstance(error, FlagError):
        sys.stderr.write(f"{error}\n")
        return 2
    if not isinstance(error, START_ERRORS):
        assert error is not None
        raise error
    if isinstance(error, SecurityError):
        log.fatal(error.message, error=error)
        return 1
    if isinstance(error, DiscoveryError):
        say_failed(config, error, log)
        return 1
    # etcd's words for a configuration that cannot be had, whether or not anything was to be discovered
    is_configuration = isinstance(error, (ConfigError, ListenError))
    log.fatal("discovery failed" if is_configuration else "failed to start etcd", error=error)
    return 1


def _end_at_once(log: Logger, error: BaseException) -> NoReturn:
    """No clean end: what is buffered must not be written to a disk or by a program that failed."""
    if isinstance(error, (OSError, BackendError, WalError)):
        log.fatal(
            "the disk failed; stopping without acknowledging anything that may not be on it", error=error
        )
    else:
        log.fatal("stopping: the program contradicts itself", error=error)
    sys.stderr.flush()
    os._exit(1)


def _signal_name(number: signal.Signals) -> str:
    """Go's name of a signal."""
    return {signal.SIGTERM: "terminated", signal.SIGINT: "interrupt"}[number]
