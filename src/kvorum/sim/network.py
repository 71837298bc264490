"""Messages between members: lost, late, twice, out of order, or in one direction only.

They travel as the bytes of ``raft/codec.py``. One thing never happens to them: a proposal that a follower
passes on is not delivered twice. etcd's peers speak over connections that don't do that, and Raft's promise
is about entries, not about requests: a proposal that is repeated is a second request.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final, final

from kvorum.raft.codec import decode_message, encode_message
from kvorum.raft.types import MSG_PROP, MSG_SNAP, Message
from kvorum.sim.loop import SimulatedLoop


@final
class Network:
    """The links between members, by ``(sender, receiver)``."""

    def __init__(
        self,
        loop: SimulatedLoop,
        dice: random.Random,
        deliver: Callable[[Message], None],
        lost: Callable[[Message], None],
        send_snapshot: Callable[[Message], None],
    ) -> None:
        self._loop: Final = loop
        self._dice: Final = dice
        self._deliver: Final = deliver
        self._lost: Final = lost
        self._send_snapshot: Final = send_snapshot
        self.cuts: set[tuple[int, int]] = set()
        self.loss = 0.0
        self.duplication = 0.0
        self.delay_seconds = 0.001
        self.in_order = True
        self._last_arrival: Final[dict[tuple[int, int], float]] = {}
        self.sent_total = 0

    def is_cut(self, sender: int, receiver: int) -> bool:
        """Whether nothing gets from one to the other."""
        return (sender, receiver) in self.cuts

    def send(self, messages: Sequence[Message]) -> None:
        """Take messages on their way."""
        for message in messages:
            self.sent_total += 1
            link = message.from_, message.to
            if link in self.cuts or (self.loss and self._dice.random() < self.loss):
                self._lost(message)
            elif message.type == MSG_SNAP:
                self._send_snapshot(message)
            else:
                self._start(link, message)
                if self.duplication and message.type != MSG_PROP and self._dice.random() < self.duplication:
                    self._start(link, message)

    def delay(self) -> float:
        """How long a message takes that leaves now."""
        return self.delay_seconds * (0.2 + self._dice.expovariate(1.0))

    def _start(self, link: tuple[int, int], message: Message) -> None:
        at = self._loop.now + self.delay()
        if self.in_order:
            at = self._last_arrival[link] = max(at, self._last_arrival.get(link, 0.0))
        self._loop.call_at(at, self._arrive, link, encode_message(message))

    def _arrive(self, link: tuple[int, int], data: bytes) -> None:
        if link not in self.cuts:
            self._deliver(decode_message(data))
