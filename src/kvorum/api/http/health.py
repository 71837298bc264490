"""Is this member well? ``/health`` for the cluster's old probes, ``/livez`` and ``/readyz`` for Kubernetes'.

``/livez`` asks whether this process should be restarted (a local read works), ``/readyz`` whether it should
get traffic (no corruption, a quorum answers, no learner). ``/health`` adds alarms and the leader. Source of
behaviour: etcd ``etcdhttp/health.go`` (3.6; texts of ``/health`` as in 3.5.1 ``etcdhttp/metrics.go``).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias, final

from kvorum.errors import EtcdError
from kvorum.logging import Logger
from kvorum.rpc.http1 import HttpServer
from kvorum.rpc.http1_router import Handler
from kvorum.rpc.http1_types import NO_SNIFF, TEXT_PLAIN, HttpRequest, HttpResponse, error_response

NOSPACE: Final = "NOSPACE"
CORRUPT: Final = "CORRUPT"

SUCCESS: Final = "success"
ERROR: Final = "error"


class HealthView(Protocol):
    """What the checks ask of the member. Reads raise EtcdError if they fail."""

    @property
    def request_timeout_seconds(self) -> float:
        """How long a read may take (etcd ``ReqTimeout``)."""

    def has_leader(self) -> bool:
        """Whether this member knows a leader."""

    def is_learner(self) -> bool:
        """Whether this member is a learner."""

    def alarms(self) -> Sequence[str]:
        """Names of the alarms that are raised, one per member that raised it: ``NOSPACE``, ``CORRUPT``."""

    def serializable_read(self) -> None:
        """Read one key of this member's store."""

    async def linearizable_read(self) -> None:
        """Read one key after the quorum has confirmed how far the log goes."""


Check: TypeAlias = Callable[[], Awaitable[None]]


@final
class HealthHandlers:
    """The handlers of the three endpoints, and the counters that ``/metrics`` shows of them."""

    def __init__(self, view: HealthView, logger: Logger) -> None:
        self._view: Final = view
        self._logger: Final = logger
        self.successes = 0
        self.failures = 0
        self.last_result: Final[dict[tuple[str, str], int]] = {}
        """By (name, type), as ``etcd_server_healthcheck`` is labelled."""
        self.results: Final[dict[tuple[str, str, str], int]] = {}
        """By (name, status, type), as ``etcd_server_healthchecks_total`` is labelled."""

    def install(self, http: HttpServer) -> None:
        """Register the endpoints."""
        http.route("GET", "/health", self.health)
        self._install_checks(http, "livez", {"serializable_read": self._serializable_read})
        self._install_checks(
            http,
            "readyz",
            {
                "data_corruption": self._no_corruption,
                "serializable_read": self._serializable_read,
                "linearizable_read": self._linearizable_read,
                "non_learner": self._non_learner,
            },
        )

    async def health(self, request: HttpRequest) -> HttpResponse:
        """``/health``: ``exclude`` names alarms to overlook, ``serializable=true`` asks this member alone."""
        query = request.query()
        serializable = query.get("serializable", [""])[0] == "true"
        reason = await self._find_fault(set(query.get("exclude", ())), serializable=serializable)
        healthy = "false" if reason else "true"
        text = json.dumps({"health": healthy, "reason": reason}, separators=(",", ":"), ensure_ascii=False)
        if reason:
            self.failures += 1
            self._logger.warn("/health error", output=text, status_code=503)
            return error_response(503, text)
        self.successes += 1
        return HttpResponse(200, text.encode(), (TEXT_PLAIN,))

    async def _find_fault(self, excluded: set[str], *, serializable: bool) -> str:
        """What is wrong, in etcd's words; empty if nothing is."""
        for alarm in self._view.alarms():
            if alarm not in excluded:
                self._logger.warn("serving /health false due to an alarm", alarm=alarm)
                return f"ALARM {alarm if alarm in (NOSPACE, CORRUPT) else 'UNKNOWN'}"
        if not serializable and not self._view.has_leader():
            self._logger.warn("serving /health false; no leader")
            return "RAFT NO LEADER"
        try:
            await (self._serializable_read() if serializable else self._linearizable_read())
        except _CheckError as error:
            self._logger.warn("serving /health false; Range fails", error=error)
            return f"RANGE ERROR:{error}"
        return ""

    # --- livez, readyz --------------------------------------------------------------------------------------

    def _install_checks(self, http: HttpServer, kind: str, checks: Mapping[str, Check]) -> None:
        async def all_checks(request: HttpRequest) -> HttpResponse:
            excluded = {name for name in request.query().get("exclude", ()) if name}
            unknown = sorted(excluded.difference(checks))
            if unknown:
                quoted = ",".join(f'"{name}"' for name in unknown)
                self._logger.warn("some health checks cannot be excluded", missing_health_checks=quoted)
            chosen = {name: check for name, check in checks.items() if name not in excluded}
            return await self._run(request, kind, chosen)

        http.route("GET", f"/{kind}", all_checks)
        for name, check in checks.items():
            http.route("GET", f"/{kind}/{name}", self._single(kind, name, check))

    def _single(self, kind: str, name: str, check: Check) -> Handler:
        async def one_check(request: HttpRequest) -> HttpResponse:
            return await self._run(request, kind, {name: check})

        return one_check

    async def _run(self, request: HttpRequest, kind: str, checks: Mapping[str, Check]) -> HttpResponse:
        lines: list[str] = []
        failed = False
        for name, check in checks.items():
            try:
                await check()
            except _CheckError as error:
                failed = True
                lines.append(f"[-]{name} failed: {error}\n")
                self._record(kind, name, ERROR)
            else:
                lines.append(f"[+]{name} ok\n")
                self._record(kind, name, SUCCESS)
        reason = "".join(lines)
        if failed:
            self._logger.error("Health check error", path=request.path, reason=reason, status_code=503)
            return error_response(503, reason)
        text = reason + "ok\n" if "verbose" in request.query() else "ok\n"
        return HttpResponse(200, text.encode(), (TEXT_PLAIN, NO_SNIFF))

    def _record(self, kind: str, name: str, status: str) -> None:
        self.last_result[name, kind] = 1 if status == SUCCESS else 0
        key = (name, status, kind)
        self.results[key] = self.results.get(key, 0) + 1

    # --- the checks
    # -------------------------------------------------------------------------------------------

    async def _serializable_read(self) -> None:
        try:
            self._view.serializable_read()
        except EtcdError as error:
            raise _CheckError(error.forget().message) from None

    async def _linearizable_read(self) -> None:
        try:
            async with asyncio.timeout(self._view.request_timeout_seconds):
                await self._view.linearizable_read()
        except EtcdError as error:
            raise _CheckError(error.forget().message) from None
        except TimeoutError:
            raise _CheckError("context deadline exceeded") from None

    async def _no_corruption(self) -> None:
        if CORRUPT in self._view.alarms():
            raise _CheckError(f"alarm activated: {CORRUPT}")

    async def _non_learner(self) -> None:
        if self._view.is_learner():
            raise _CheckError("not supported for learner")


class _CheckError(Exception):
    """A check that failed; the text is what the probe sees."""
