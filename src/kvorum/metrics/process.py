"""The process as its operating system sees it: ``process_*`` and ``os_fd_*``, read from ``/proc`` at each
scrape.

Source of behaviour: the Go client library's process collector and etcd's ``pkg/runtime`` (Linux). Elsewhere,
or without ``/proc``, only what ``resource`` knows is bound.
"""

import os
import resource
from typing import Final

from kvorum.metrics.registry import Metrics

_UNLIMITED: Final = 1 << 64
# Fields of /proc/self/stat counted from behind the command's closing parenthesis (proc(5): field number less
# 3).
_STAT_START: Final = 19
_STAT_VIRTUAL: Final = 20
_STAT_RESIDENT: Final = 21


def bind_process(metrics: Metrics) -> None:
    """Expose the process's own figures."""
    metrics.bind("process_cpu_seconds_total", _cpu_seconds)
    metrics.bind("process_virtual_memory_max_bytes", lambda: _limit(resource.RLIMIT_AS))
    for name in ("process_max_fds", "os_fd_limit"):
        metrics.bind(name, lambda: _limit(resource.RLIMIT_NOFILE))
    if not os.path.exists("/proc/self/stat"):
        return
    for name in ("process_open_fds", "os_fd_used"):
        metrics.bind(name, _open_descriptors)
    metrics.bind("process_virtual_memory_bytes", lambda: _stat(_STAT_VIRTUAL))
    metrics.bind("process_resident_memory_bytes", lambda: _stat(_STAT_RESIDENT) * os.sysconf("SC_PAGE_SIZE"))
    started = _boot_time() + _stat(_STAT_START) / os.sysconf("SC_CLK_TCK")
    metrics.bind("process_start_time_seconds", lambda: started)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _limit(what: int) -> int:
    soft, _ = resource.getrlimit(what)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) - 1  # the listing holds one itself


def _stat(field: int) -> int:
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[field])


def _boot_time() -> int:
    with open("/proc/stat", "rb") as file:
        for line in file:
            if line.startswith(b"btime "):
                return int(line.split()[1])
    return 0
