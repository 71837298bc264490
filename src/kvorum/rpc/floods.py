"""What a peer may spend before it is sent away.

HTTP/2 has many frames that cost the receiver work and the sender nothing. Each attack on it was one more of
them, so they are not counted one by one: everything useless draws on one credit, which grows back with time
and with useful work, so that honest clients never see its end. Time comes in as an argument, in seconds.
"""

from typing import Final, final

from kvorum import limits


@final
class Credit:
    """A bucket of ``size`` that refills at ``per_second`` and with what ``earn`` adds.

    Invariant: ``left`` is never above ``size``.
    """

    __slots__ = ("left", "per_second", "size", "updated")

    def __init__(self, size: int, per_second: int, now: float) -> None:
        self.size: Final = size
        self.per_second: Final = per_second
        self.left = float(size)
        self.updated = now

    def spend(self, amount: int, earned: int, now: float) -> bool:
        """Take ``amount``; ``earned`` is what useful work gave since the last time. False: overdrawn."""
        grown = self.left + earned + (now - self.updated) * self.per_second
        self.updated = now
        self.left = (grown if grown < self.size else self.size) - amount
        return self.left >= 0


@final
class PingPolicy:
    """grpc-go's keepalive enforcement (``http2_server.go``, ``handlePing``) as etcd sets it up.

    A ping is a strike if it comes sooner than ``min_seconds`` after the one before, or, while no stream is
    open, sooner than two hours. Response headers or data sent since the last ping clear the strikes.
    ``min_seconds`` of zero or less leaves grpc-go's own default of five minutes, as in etcd.
    """

    __slots__ = ("last_ping", "min_seconds", "seen_answers", "strikes")

    def __init__(self, min_seconds: float) -> None:
        self.min_seconds: Final = min_seconds if min_seconds > 0 else 300.0
        self.last_ping = float("-inf")
        self.seen_answers = 0
        self.strikes = 0

    def allows(self, open_streams: int, answers: int, now: float) -> bool:
        """Judge a ping; ``answers`` counts what was sent. False: too many pings."""
        last, self.last_ping = self.last_ping, now
        if answers != self.seen_answers:
            self.seen_answers = answers
            self.strikes = 0
            return True
        if now - last < (self.min_seconds if open_streams else limits.PING_WITHOUT_STREAM_SECONDS):
            self.strikes += 1
        return self.strikes <= limits.MAX_PING_STRIKES
