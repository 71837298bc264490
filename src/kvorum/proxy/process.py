"""A proxy as a process: a loop of its own, signals, exit codes.

``serve`` runs one until it fails or a signal comes; by that signal the process then ends, as etcd's proxies
do. Source of behaviour: etcd ``server/etcdmain/etcd.go``, ``gateway.go``, ``grpc_proxy.go``.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

from kvorum.logging import Logger

_SIGNALS: Final = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupt"}
"""With Go's names."""


def serve(serving: Callable[[], Coroutine[Any, Any, int]], log: Logger, *, fast_loop: bool = True) -> int:
    """Run ``serving`` in a loop until it returns the exit code or a signal cancels it.

    Args:
        serving: cleans up when it is cancelled.
        log: told about the signal.
        fast_loop: uvloop's, where there is one.
    """
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if fast_loop:
        try:
            import uvloop

            factory = uvloop.new_event_loop
        except ImportError:  # not on this platform: asyncio's own loop serves as well, only slower
            pass
    with asyncio.Runner(loop_factory=factory) as runner:
        code, received = runner.run(_serve(serving, log))
    if received is not None and threading.current_thread() is threading.main_thread():
        signal.signal(received, signal.SIG_DFL)
        os.kill(os.getpid(), received)
    return code


async def _serve(
    serving: Callable[[], Coroutine[Any, Any, int]], log: Logger
) -> tuple[int, signal.Signals | None]:
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[signal.Signals] = loop.create_future()

    def ask(number: signal.Signals) -> None:
        if not asked.done():
            asked.set_result(number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, ask, number)
    task = loop.create_task(serving())
    await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        return task.result(), None
    log.info("received signal; shutting down", signal=_SIGNALS[asked.result()])
    task.cancel()
    await asyncio.wait((task,))
    return 0, asked.result()
