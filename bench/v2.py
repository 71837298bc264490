"""Rows of the v2 API, against etcd 3.4.23 (Debian's, ``--enable-v2``): loaded by wrk, which costs little.

Values are 256 bytes, on one key. The long polls are ours: 1,000 connections that wait for one key, and the
time from sending a put to the last of them having its event.
"""

import re
import select
import shutil
import socket
import statistics
import subprocess
import time
from pathlib import Path
from typing import Final

from bench.h2load import LoadError
from bench.model import COST, FULL, RATE, Bench, Row, Sample

FLAGS: Final = ("--enable-v2",)
MISSING: Final = (
    "bench: the v2 rows need wrk and etcd 3.4 from Debian: run `make peers` as root. They are left out."
)
POLLS: Final = 1_000
_WAKES: Final = 15
_WAIT_SECONDS: Final = 30.0
_KEY: Final = "/v2/keys/bench"
_PUT: Final = """wrk.method = "PUT"
wrk.body = "value=" .. string.rep("x", 256)
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
"""
_RATE: Final = re.compile(r"Requests/sec:\s+([\d.]+)")
_POLL: Final = f"GET {_KEY}?wait=true HTTP/1.1\r\nHost: x\r\n\r\n".encode()
_WAKE: Final = (
    f"PUT {_KEY} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    "Content-Length: 10\r\n\r\nvalue=wake"
).encode()


def available() -> bool:
    """Whether what the rows need is installed."""
    return shutil.which("wrk") is not None and shutil.which("etcd") is not None


def _put(connections: int, bench: Bench) -> Sample:
    script = bench.scratch / "put.lua"
    script.write_text(_PUT)
    return _wrk(connections, bench, script)


def _get(connections: int, bench: Bench) -> Sample:
    return _wrk(connections, bench, None)


def _wrk(connections: int, bench: Bench, script: Path | None) -> Sample:
    seconds = 5 if bench.sizes.many >= FULL.many else 2
    scripted = () if script is None else ("-s", str(script))
    command = (
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        *scripted,
        f"http://{bench.member.endpoint}{_KEY}",
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_WAIT_SECONDS)
    rate = _RATE.search(done.stdout)
    if rate is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise LoadError(f"wrk was answered with errors:\n{done.stdout}")
    return Sample(float(rate[1]))


def _woken(bench: Bench) -> Sample:
    polls = [socket.create_connection(bench.address, _WAIT_SECONDS) for _ in range(POLLS)]
    writer = socket.create_connection(bench.address, _WAIT_SECONDS)
    try:
        times = [_wake(polls, writer) for _ in range(_WAKES)]
    finally:
        for one in (*polls, writer):
            one.close()
    return Sample(statistics.median(times) * 1000)


def _wake(polls: list[socket.socket], writer: socket.socket) -> float:
    for poll in polls:
        poll.sendall(_POLL)
    for poll in polls:
        if not poll.recv(4096).startswith(b"HTTP/1.1 200"):
            raise LoadError("a long poll was refused")
    began = time.perf_counter()
    writer.sendall(_WAKE)
    left = {poll.fileno(): poll for poll in polls}
    events = select.epoll()
    for number in left:
        events.register(number, select.EPOLLIN)
    answers = dict.fromkeys(left, b"")
    while left:
        ready = events.poll(_WAIT_SECONDS)
        if not ready:
            raise LoadError(f"{len(left)} of {POLLS} long polls were not told")
        for number, _ in ready:
            answers[number] += left[number].recv(4096)
            if answers[number].endswith(b"0\r\n\r\n"):
                events.unregister(number)
                del left[number]
    seconds = time.perf_counter() - began
    events.close()
    if not writer.recv(4096).startswith(b"HTTP/1.1 20"):
        raise LoadError("the put was refused")
    return seconds


V2: Final = (
    Row("v2-put-64", "v2 put, 64 connections (etcd 3.4)", RATE, "/s", 0.7, lambda bench: _put(64, bench)),
    Row("v2-get-64", "v2 get, 64 connections (etcd 3.4)", RATE, "/s", 0.5, lambda bench: _get(64, bench)),
    Row("v2-put-1", "v2 put, 1 connection (etcd 3.4)", RATE, "/s", 0.8, lambda bench: _put(1, bench)),
    Row("v2-get-1", "v2 get, 1 connection (etcd 3.4)", RATE, "/s", 0.8, lambda bench: _get(1, bench)),
    Row("v2-wake", "v2: one put wakes 1,000 long polls, until the last (etcd 3.4)", COST, "ms", None, _woken),
)
"""Rows on a fresh store, every round, in this order (the gets read what the puts wrote)."""
