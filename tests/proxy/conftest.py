"""Clusters of three that a module's tests share, each program's own."""

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, forming
from tests.support.process import etcd, kvorum


@pytest.fixture(scope="package")
def kvorums(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three Kvorum members; whoever kills one starts it again."""
    with forming(tmp_path_factory.mktemp("kvorums"), [kvorum()] * 3, ["--enable-v2=true"]) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def etcds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three etcd members."""
    with forming(tmp_path_factory.mktemp("etcds"), [etcd()] * 3, ["--enable-v2=true"]) as cluster:
        yield cluster
