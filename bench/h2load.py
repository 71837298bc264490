"""Running h2load and reading what it says."""

import re
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HEADERS: Final = ("content-type: application/grpc", "te: trailers", "user-agent: h2load")
RUN_SECONDS: Final = 600.0
MISSING: Final = (
    "bench: h2load is missing. It is in Debian's package nghttp2-client: run `make peers` as root, "
    "or `apt-get install nghttp2-client`."
)

_FINISHED: Final = re.compile(r"finished in ([\d.]+)(us|ms|s|m|h), ([\d.]+) req/s")
_REQUESTS: Final = re.compile(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded")
_DATA: Final = re.compile(r"\((\d+)\) data")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class LoadError(Exception):
    """The load did not do what was measured: a request failed or an answer was not the expected one."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one run of h2load says. Latencies are in milliseconds, NaN where they were not logged."""

    requests: int
    succeeded: int
    seconds: float
    per_second: float
    data_bytes: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """How to load: ``clients`` connections with ``streams`` requests in flight on each."""

    requests: int
    clients: int
    streams: int


def available() -> bool:
    """Return whether h2load is installed."""
    return shutil.which("h2load") is not None


def run(load: Load, url: str, path: str, body: bytes, scratch: Path) -> Report:
    """Send one body many times; raises LoadError unless every request got a 2xx."""
    body_file, log_file = scratch / "body", scratch / "h2load.log"
    body_file.write_bytes(body)
    log_file.unlink(missing_ok=True)
    command = ["h2load", f"-n{load.requests}", f"-c{load.clients}", f"-m{load.streams}", "-t1"]
    command += [f"--data={body_file}", f"--log-file={log_file}", *(f"-H{header}" for header in HEADERS)]
    done = subprocess.run(
        [*command, url + path], capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    if done.returncode:
        raise LoadError(f"h2load ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    report = parse(done.stdout, log_file.read_text())
    if not report.requests == report.succeeded == load.requests:
        raise LoadError(f"{load.requests} requests, {report.succeeded} succeeded")
    return report


def parse(output: str, log: str) -> Report:
    """Read h2load's summary and its log (a line a request: start in µs, status, duration in µs)."""
    finished, requests, data = _FINISHED.search(output), _REQUESTS.search(output), _DATA.search(output)
    if finished is None or requests is None or data is None:
        raise LoadError(f"cannot read h2load's output: {output!r}")
    p50, p99 = percentiles([int(line.split("\t")[2]) / 1000 for line in log.splitlines()])
    return Report(
        requests=int(requests[1]),
        succeeded=int(requests[2]),
        seconds=float(finished[1]) * _SECONDS[finished[2]],
        per_second=float(finished[3]),
        data_bytes=int(data[1]),
        p50_ms=p50,
        p99_ms=p99,
    )


def percentiles(values: list[float]) -> tuple[float, float]:
    """Return the 50th and the 99th percentile (nearest rank), NaN for none."""
    if not values:
        return float("nan"), float("nan")
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
