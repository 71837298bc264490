"""Loads by h2load of which it is checked that they did what was asked."""

from bench import h2load, messages
from bench.h2load import Load, LoadError, Report
from bench.model import Bench, Sample


def read(bench: Bench, load: Load, body: bytes) -> Report:
    """Send ranges, and check that each brought the whole answer."""
    size = bench.answer(messages.RANGE_PATH, body)
    report = h2load.run(load, bench.member.url, messages.RANGE_PATH, body, bench.scratch)
    if report.data_bytes != size * load.requests:
        raise LoadError(f"{report.data_bytes} bytes came, {size} x {load.requests} were expected")
    return report


def write(bench: Bench, load: Load, path: str, body: bytes) -> Report:
    """Send writes, and check that each made one revision."""
    bench.answer(path, body)
    before = bench.revision()
    report = h2load.run(load, bench.member.url, path, body, bench.scratch)
    check_revision(bench, before, load.requests)
    return report


def check_revision(bench: Bench, before: int, writes: int) -> None:
    """Raise LoadError unless each write since ``before`` made one revision."""
    grown = bench.revision() - before
    if grown != writes:
        raise LoadError(f"{writes} writes were answered, the revision grew by {grown}")


def rate(report: Report, factor: int = 1) -> Sample:
    """Return a rate, of ``factor`` things in each request."""
    return Sample(report.per_second * factor, report.p50_ms, report.p99_ms)


def latency(report: Report) -> Sample:
    """Return the p50."""
    return Sample(report.p50_ms, report.p50_ms, report.p99_ms)


def many(bench: Bench) -> Load:
    """Return the load of 1,024 in flight."""
    return Load(bench.sizes.many, clients=16, streams=64)
