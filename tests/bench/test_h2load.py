"""Reading what h2load prints (version 1.52)."""

import math

import pytest
from bench.h2load import LoadError

from bench import h2load

OUTPUT = """starting benchmark...
spawning thread #0: 16 total client(s). 50000 total requests
Application protocol: h2c

finished in 1.28s, 38972.22 req/s, 2.23MB/s
requests: 50000 total, 50000 started, 50000 done, 50000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 50000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 2.86MB (3001234) total, 97.7KB (100032) headers (space savings 97.50%), 1.57MB (1650000) data
                     min         max         mean         sd        +/- sd
time for request:      180us     95.44ms     25.79ms     10.73ms    74.37%
"""


def test_a_summary_and_its_log() -> None:
    log = "".join(
        f"16372805{at:08}\t200\t{duration}\n" for at, duration in enumerate(range(1000, 101_000, 1000))
    )
    report = h2load.parse(OUTPUT, log)
    assert (report.requests, report.succeeded, report.data_bytes) == (50_000, 50_000, 1_650_000)
    assert (report.seconds, report.per_second) == (1.28, 38_972.22)
    assert (report.p50_ms, report.p99_ms) == (50.5, 100.0)


@pytest.mark.parametrize(("text", "seconds"), [("649.44ms", 0.64944), ("90us", 9e-5), ("2.00m", 120.0)])
def test_units_of_time(text: str, seconds: float) -> None:
    assert math.isclose(h2load.parse(OUTPUT.replace("1.28s", text), "").seconds, seconds)


def test_failures_are_seen() -> None:
    report = h2load.parse(OUTPUT.replace("50000 succeeded, 0 failed", "49000 succeeded, 1000 failed"), "")
    assert (report.requests, report.succeeded) == (50_000, 49_000)
    with pytest.raises(LoadError, match="cannot read"):
        h2load.parse("h2load: connection refused", "")


def test_percentiles() -> None:
    assert h2load.percentiles([3.0]) == (3.0, 3.0)
    assert h2load.percentiles([float(value) for value in range(1, 201)]) == (100.5, 199.0)
    assert all(math.isnan(value) for value in h2load.percentiles([]))
