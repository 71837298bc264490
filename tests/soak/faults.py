"""What happens to the members: one fault at a time, each with its end."""

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, final

import grpc

from tests.support.cluster import Cluster
from tests.support.process import Member


@final
class Faults:
    """Strikes at random and heals. ``counts`` says how often each was chosen.

    A fault lasts up to three election timeouts, so that some are over before anybody noticed and some outlast
    an election.
    """

    LONGEST_SECONDS: Final = 3.0

    def __init__(self, cluster: Cluster, choose: random.Random) -> None:
        self._cluster: Final = cluster
        self._choose: Final = choose
        self.counts: Final[Counter[str]] = Counter()
        self._kinds: Final[list[tuple[str, Callable[[], None], int]]] = [
            ("kill the leader", lambda: self._kill([self._leader()]), 4),
            ("kill one", lambda: self._kill(self._some(1)), 3),
            ("kill a majority", lambda: self._kill(self._some(self._majority())), 2),
            ("kill all", lambda: self._kill(list(cluster.members)), 2),
            ("pause the leader", lambda: self._pause([self._leader()]), 4),
            ("pause one", lambda: self._pause(self._some(1)), 2),
            ("pause a majority", lambda: self._pause(self._some(self._majority())), 1),
            ("kill the leader while another stands still", self._kill_beside_paused, 2),
            ("move the leader", self._move_leader, 2),
            ("restart one", self._restart, 1),
        ]

    def strike(self) -> str:
        """Choose a fault, let it last and end it; returns its name. All members run then."""
        weights = [weight for _, _, weight in self._kinds]
        ((name, act, _),) = self._choose.choices(self._kinds, weights)
        self.counts[name] += 1
        act()
        self._cluster.heal()
        return name

    def _leader(self) -> Member:
        return self._cluster.leader() or self._choose.choice(self._cluster.members)

    def _majority(self) -> int:
        return len(self._cluster.members) // 2 + 1

    def _some(self, count: int) -> list[Member]:
        return self._choose.sample(self._cluster.members, count)

    def _last(self) -> None:
        """Let a fault last. It is time itself that is awaited here."""
        time.sleep(self._choose.choice((0.05, 0.3, 1.0, self.LONGEST_SECONDS)) * self._choose.random())

    def _kill(self, members: list[Member]) -> None:
        for member in members:
            member.send_kill()
        for member in members:
            member.wait_exit()
        self._last()

    def _pause(self, members: list[Member]) -> None:
        for member in members:
            member.pause()
        self._last()

    def _kill_beside_paused(self) -> None:
        leader = self._leader()
        other = self._choose.choice([member for member in self._cluster.members if member is not leader])
        other.pause()
        self._last()
        self._kill([leader])

    def _move_leader(self) -> None:
        leader, target = self._leader(), self._some(1)[0]
        try:
            with self._cluster.fresh_client(leader, 5.0) as client:
                client.move_leader(self._cluster.id_of(target))
        except grpc.RpcError:
            pass  # it was not the leader, or the move took too long: nothing is promised

    def _restart(self) -> None:
        self._some(1)[0].stop()
