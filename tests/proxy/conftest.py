"""Clusters of three that a module's tests share, each program's own."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.cluster import Cluster, forming
from tests.support.process import etcd, kvorum

FLAGS: Final = ("--enable-v2=true", "--heartbeat-interval=50", "--election-timeout=500")
"""Members that die are missed sooner than by default, which is most of the time that these tests take."""


@pytest.fixture(scope="package")
def kvorums(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three Kvorum members; whoever kills one starts it again."""
    with forming(tmp_path_factory.mktemp("kvorums"), [kvorum()] * 3, FLAGS) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def etcds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three etcd members."""
    with forming(tmp_path_factory.mktemp("etcds"), [etcd()] * 3, FLAGS) as cluster:
        yield cluster
