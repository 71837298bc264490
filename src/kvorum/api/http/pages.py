"""``/version`` and ``/metrics``. Source of behaviour: etcd 3.5.1 ``etcdhttp/base.go``,
``etcdhttp/metrics.go``."""

import gzip
from collections.abc import Callable

from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_types import HttpRequest, HttpResponse, json_response

_EXPOSITION = ("Content-Type", "text/plain; version=0.0.4; charset=utf-8")


def install_version(http: HttpServer, server_version: str, cluster_version: Callable[[], str]) -> None:
    """Register ``/version``.

    Args:
        http: where to.
        server_version: this release, as ``Maintenance.Status`` says it.
        cluster_version: asked at each request; empty while the members have not agreed on one.
    """

    def version(request: HttpRequest) -> HttpResponse:
        agreed = cluster_version() or "not_decided"
        return json_response({"etcdserver": server_version, "etcdcluster": agreed})

    http.route("GET", "/version", version)


def install_metrics(http: HttpServer, render: Callable[[], bytes]) -> None:
    """Register ``/metrics``, by any method as Prometheus' own handler; gzip if the scraper takes it.

    Args:
        http: where to.
        render: makes the page, in text exposition format 0.0.4.
    """

    def metrics(request: HttpRequest) -> HttpResponse:
        page = render()
        if accepts_gzip(request.header("accept-encoding") or ""):
            return HttpResponse(200, gzip.compress(page, 1), (("Content-Encoding", "gzip"), _EXPOSITION))
        return HttpResponse(200, page, (_EXPOSITION,))

    http.route("*", "/metrics", metrics)


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding allows gzip (RFC 9110 section 12.5.3)."""
    for part in header.split(","):
        coding, _, parameters = part.strip().partition(";")
        if coding.strip().lower() == "gzip":
            return parameters.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
