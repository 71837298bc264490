"""The metrics page: every name, type, label and bucket as etcd has them, read by an independent parser."""

import csv
import math
import re
import time
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from kvorum.metrics import Figure, Histogram, Labels, Metrics, bind_calls, bind_process, histogram
from kvorum.metrics.catalogue import CATALOGUE, HISTOGRAM, Metric
from kvorum.metrics.registry import number
from kvorum.proto import rpc_pb2 as pb
from kvorum.rpc.observer import RpcObserver
from tests.http.test_endpoints import ask
from tests.support.client import Client
from tests.support.process import Member

FACTS = Path(__file__).parents[2] / "facts" / "metrics.csv"


def a_figure(metric: Metric) -> Figure:
    return histogram(metric.name) if metric.type == HISTOGRAM else 7


def everything() -> Metrics:
    """Every metric of the catalogue, bound to something."""
    metrics = Metrics()
    bind_process(metrics)
    observer = RpcObserver(lambda: 0)
    observer.method("/etcdserverpb.KV/Put", "unary").started = 3
    bind_calls(metrics, observer)
    for metric in CATALOGUE.values():
        if metric.name in metrics.bound():
            continue
        figures: dict[Labels, Figure] = {tuple("v" for _ in metric.labels): a_figure(metric)}
        metrics.bind(metric.name, (lambda f: lambda: f)(figures if metric.labels else figures[()]))
    return metrics


def families(page: str) -> dict[str, Family]:
    """What an independent reader makes of a page, by the name on its TYPE line."""
    names = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
    found = list(text_string_to_metric_families(page))
    assert len(found) == len(names)
    return dict(zip(names, found, strict=True))


def test_the_catalogue_is_that_of_the_facts() -> None:
    with FACTS.open() as file:
        facts = {row["metric"]: (row["type"], tuple(row["labels"].split())) for row in csv.DictReader(file)}
    ours = {m.name: (m.type, m.labels) for m in CATALOGUE.values() if m.since == "3.5" and not m.clustered}
    assert ours == facts
    assert all(list(metric.labels) == sorted(metric.labels) for metric in CATALOGUE.values())


def test_a_real_etcd_has_what_we_expose(etcd: Member) -> None:
    client = Client(etcd.endpoint)
    client.call("etcdserverpb.KV/Put", pb.PutRequest(key=b"k"), pb.PutResponse)
    client.close()
    port = int(etcd.endpoint.rpartition(":")[2])
    deadline = time.monotonic() + 30
    while True:  # the cluster's version and some vectors appear a little after the start
        page = ask(port, "/metrics")[2].decode()
        if "etcd_cluster_version" in page and "etcd_server_apply_duration_seconds" in page:
            break
        assert time.monotonic() < deadline, page
    theirs, ours = families(page), families(everything().render().decode())
    for name, family in ours.items():
        if CATALOGUE[name].since != "3.5" or CATALOGUE[name].clustered:
            continue
        assert name in theirs, name
        assert family.type == theirs[name].type, name
        assert labels_of(family) == labels_of(theirs[name]), name
        assert buckets_of(family) == buckets_of(theirs[name]), name
    assert {name for name in theirs if name.startswith(("etcd_", "grpc_", "process_", "os_"))} <= set(ours)


def labels_of(family: Family) -> set[str]:
    return {name for sample in family.samples for name in sample.labels} - {"le"}


def buckets_of(family: Family) -> list[str]:
    bounds = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
    return sorted(bounds, key=float)


@given(st.lists(st.floats(0, 20, allow_nan=False)))
def test_histograms_against_a_dumb_count(values: list[float]) -> None:
    counted = histogram("etcd_disk_wal_fsync_duration_seconds")
    for value in values:
        counted.observe(value)
    metrics = Metrics()
    metrics.bind("etcd_disk_wal_fsync_duration_seconds", counted)
    samples = families(metrics.render().decode())["etcd_disk_wal_fsync_duration_seconds"].samples
    for sample in samples:
        if "le" in sample.labels:
            assert sample.value == sum(value <= float(sample.labels["le"]) for value in values)
        elif sample.name.endswith("_count"):
            assert sample.value == len(values) == counted.count
        else:
            assert math.isclose(sample.value, sum(values), abs_tol=1e-9)
    assert len(samples) == len(counted.bounds) + 3


def test_an_observation_on_a_bound_is_inside() -> None:
    counted = Histogram([1.0, 2.0])
    for value in (1.0, 2.0, 2.5):
        counted.observe(value)
    assert counted.counts == [1, 1, 1]
    assert bisect_left(counted.bounds, 1.0) == 0


def test_label_values_are_escaped() -> None:
    hostile = 'a"b\\c\nd{}, e="'
    metrics = Metrics()
    metrics.bind("etcd_server_client_requests_total", lambda: {(hostile, "unary"): 1})
    sample = families(metrics.render().decode())["etcd_server_client_requests_total"].samples[0]
    assert sample.labels == {"client_api_version": hostile, "type": "unary"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.0, "0"), (-1, "-1"), (-2.5, "-2.5"), (999_999, "999999"), (1_000_000, "1e+06"),
        (1_048_576, "1.048576e+06"), (2_147_483_648, "2.147483648e+09"), (1 << 64, "1.8446744073709552e+19"),
        (0.0001, "0.0001"), (5.18e-05, "5.18e-05"), (13.1072, "13.1072"), (1e300, "1e+300"),
        (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"),
    ],
)  # fmt: skip
def test_numbers_as_go_prints_them(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(allow_nan=False))
def test_numbers_lose_nothing(value: float) -> None:
    assert float(number(value)) == value


def test_the_process_is_measured() -> None:
    metrics = Metrics()
    bind_process(metrics)
    found = {name: family.samples[0].value for name, family in families(metrics.render().decode()).items()}
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["process_virtual_memory_bytes"] >= found["process_resident_memory_bytes"]
    assert 0 < found["process_open_fds"] < found["process_max_fds"]
    assert abs(found["process_start_time_seconds"] - time.time()) < 86_400
    assert found["process_cpu_seconds_total"] > 0


def test_calls_show_zeros_from_the_start() -> None:
    observer = RpcObserver(lambda: 0)
    observer.method("/etcdserverpb.KV/Put", "unary")
    metrics = Metrics()
    bind_calls(metrics, observer)
    page = families(metrics.render().decode())
    assert len(page["grpc_server_handled_total"].samples) == 17
    observer.methods["/etcdserverpb.KV/Put"].handled[0] += 2
    observer.received_bytes = 9
    page = families(metrics.render().decode())
    handled = {s.labels["grpc_code"]: s.value for s in page["grpc_server_handled_total"].samples}
    assert handled["OK"] == 2
    assert sum(handled.values()) == 2
    assert page["grpc_server_msg_sent_total"].samples[0].value == 2
    assert page["etcd_network_client_grpc_received_bytes_total"].samples[0].value == 9
