"""How far away a peer is, and whether its clock agrees: a small GET every few seconds.

The round-trip time is smoothed as TCP does it (RFC 6298 section 2: seven eighths of the old, one of the new)
and recorded every half a minute while the peer is well. Source of behaviour: etcd
``rafthttp/probing_status.go`` and the ``probing`` package that it uses.
"""

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Final, final

from kvorum import limits
from kvorum.duration import Duration
from kvorum.peer.connection import PeerConnectionError
from kvorum.peer.link import Link

PROBING_PATH: Final = "/raft/probing"
ROUND_TRIPPER: Final = "ROUND_TRIPPER_RAFT_MESSAGE"


@final
class Prober:
    """Probes one peer until it is stopped."""

    def __init__(self, link: Link) -> None:
        self._link: Final = link
        self._round_trip_seconds = 0.0
        self._drift_seconds = 0.0
        self._failure: Exception | None = None
        self._task: Final = link.tasks.spawn(self._run())

    @property
    def round_trip_seconds(self) -> float:
        """The smoothed round-trip time; 0.0 before the first answer."""
        return self._round_trip_seconds

    def stop(self) -> None:
        """Probe no more."""
        self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        report_at = loop.time() + limits.PEER_PROBE_TROUBLE_SECONDS
        while True:
            await self._probe()
            if loop.time() >= report_at:
                report_at = loop.time() + self._report()
            await asyncio.sleep(limits.PEER_PROBE_SECONDS)

    async def _probe(self) -> None:
        link = self._link
        url = link.picker.pick()
        started = time.monotonic()
        try:
            response = await link.posts.request(
                "GET",
                url,
                PROBING_PATH,
                timeout_seconds=limits.PEER_READ_SECONDS,
                max_bytes=limits.PEER_PROBE_BYTES,
            )
            seconds = time.monotonic() - started
            theirs = _their_clock(response.body)
        except (OSError, ValueError, OverflowError, RecursionError) as error:
            self._failure = error
            return
        self._failure = None
        before = self._round_trip_seconds
        self._round_trip_seconds = before * 0.875 + seconds * 0.125 if before else seconds
        self._drift_seconds = time.time() - seconds / 2 - theirs

    def _report(self) -> float:
        """Record, and complain if something is wrong; returns when to do so again, in seconds."""
        link, seconds = self._link, self._round_trip_seconds
        fields: dict[str, object] = {"round-tripper-name": ROUND_TRIPPER, "remote-peer-id": link.name}
        rtt = Duration(round(seconds * 1e9))
        link.figures.round_trip_seconds[link.name].observe(seconds)
        if self._drift_seconds > limits.PEER_CLOCK_DRIFT_SECONDS:
            drift = Duration(round(self._drift_seconds * 1e9))
            link.log.warn("prober found high clock drift", {**fields, "clock-drift": drift, "rtt": rtt})
        if self._failure is None:
            return limits.PEER_PROBE_REPORT_SECONDS
        fields |= {"rtt": rtt, "error": self._failure}
        link.log.warn("prober detected unhealthy status", fields)
        return limits.PEER_PROBE_TROUBLE_SECONDS


def _their_clock(body: bytes) -> float:
    """The time in a probe's answer, in seconds since 1970. Raises ValueError if it is none."""
    answer = json.loads(body)
    if not isinstance(answer, dict) or answer.get("OK") is not True or not isinstance(answer.get("Now"), str):
        raise PeerConnectionError("unexpected probing answer")
    text: str = answer["Now"]
    # Go prints nanoseconds, Python reads microseconds.
    head, dot, rest = text.partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        text = f"{head}.{rest[: min(digits, 6)].ljust(6, '0')}{rest[digits:]}"
    return datetime.fromisoformat(text).timestamp()


def health(now_seconds: float) -> bytes:
    """What a probe is answered: all is well, and what our clock says."""
    nanoseconds = int(now_seconds * 1e9)
    stamp = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanoseconds % 1_000_000_000:09d}".rstrip("0").rstrip(".")
    return f'{{"OK":true,"Now":"{stamp}{fraction}Z"}}\n'.encode()
