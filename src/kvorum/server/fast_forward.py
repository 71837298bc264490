"""The first election's wait, cut short: a member that just began has not heard of a leader, so most of the
election timeout may be skipped. All but two ticks: a leader that is there needs these to say so.

Source: etcd ``server/etcdserver/server.go`` (adjustTicks).
"""

from collections.abc import Callable
from typing import Final, final

from kvorum import limits
from kvorum.config import Config
from kvorum.logging import Logger
from kvorum.server.node import Node

_LEFT_TICKS: Final = 2


@final
class FastForward:
    """Waits for connections to others, then puts Raft's clock forward, once."""

    def __init__(self, node: Node, config: Config, log: Logger, *, active_peers: Callable[[], int]) -> None:
        self._node: Final = node
        self._config: Final = config
        self._log: Final = log
        self._active_peers: Final = active_peers
        self._deadline = 0.0

    def begin(self) -> None:
        """Look at the connections now and again until there are some, or until it has no use any more."""
        ticks = self._config.election_ticks
        if len(self._node.cluster.members) == 1:
            return  # it leads already
        if not self._config.initial_election_tick_advance:
            self._log.info("skipping initial election tick advance", {"election-ticks": ticks})
            return
        self._log.info("starting initial election tick advance", {"election-ticks": ticks})
        self._deadline = self._node.timers.time() + limits.TICK_ADVANCE_WAIT_SECONDS
        self._look()

    def _look(self) -> None:
        node, config = self._node, self._config
        active = self._active_peers()
        if active <= 1 and node.timers.time() < self._deadline:
            node.timers.call_later(limits.TICK_ADVANCE_LOOK_SECONDS, lambda: node.guard(self._look))
        elif active > 1 and not node.leader:
            ticks = config.election_ticks - _LEFT_TICKS
            self._log.info(
                "initialized peer connections; fast-forwarding election ticks",
                {
                    "forward-ticks": ticks,
                    "election-ticks": config.election_ticks,
                    "active-remote-members": active,
                },
            )
            node.fast_forward(ticks)
