"""Passwords: bcrypt, off the loop, in turns, and at a low priority.

Looking at a password takes some 60 ms of a processor by design. It is done in threads (bcrypt gives the
interpreter up while it works) that step back where others want the processor too; whose turn it is
says ``auth/fair_queue.py``. Pairs that were found right are remembered, as keyed hashes that are good for
this process only: a client that logs in again and again costs one check. A new password is a new hash in the
store and so a new pair. Source of behaviour: etcd ``server/auth/store.go`` (CheckPassword), Go's
``golang.org/x/crypto/bcrypt``.
"""

import asyncio
import os
import secrets
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Final, TypeVar, final

import bcrypt

from kvorum import limits
from kvorum.auth.fair_queue import FairQueue
from kvorum.errors import ERR_REQUEST_TOO_MANY_REQUESTS
from kvorum.logging import Logger

DEFAULT_COST: Final = 10
"""Go's ``bcrypt.DefaultCost``."""
MIN_COST: Final = 4
MAX_COST: Final = 31

_LONGEST: Final = 72
"""Bytes of a password that bcrypt looks at; Go's, as of etcd 3.5.1, leaves out the others without a word."""
_LOW_PRIORITY: Final = 10
"""A tenth of a normal process's share where both want the same processor (Linux ``sched_prio_to_weight``)."""

R = TypeVar("R")


def checked_cost(cost: int, log: Logger) -> int:
    """``--bcrypt-cost`` if it is one, else the default, with a warning as etcd's."""
    if MIN_COST <= cost <= MAX_COST:
        return cost
    log.warn(
        "use default bcrypt cost instead of the invalid given cost",
        {"min-cost": MIN_COST, "max-cost": MAX_COST, "default-cost": DEFAULT_COST, "given-cost": cost},
    )
    return DEFAULT_COST


def hash_now(password: bytes, cost: int = DEFAULT_COST) -> bytes:
    """The hash of a password as Go writes it; takes long."""
    return bcrypt.hashpw(password[:_LONGEST], bcrypt.gensalt(cost, b"2a"))


def matches_now(password: bytes, hashed: bytes) -> bool:
    """Whether this is the password of that hash; takes long."""
    try:
        return bcrypt.checkpw(password[:_LONGEST], hashed)
    except ValueError:
        return False  # what is stored is no hash


def _step_back() -> None:
    """Let everything else of the machine go first (on Linux a priority is a thread's)."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)
    except OSError:
        pass  # not permitted here: passwords then have their share, as everything has


class _Waiting:
    """A call whose password waits to be looked at."""

    __slots__ = ("answer", "work")

    def __init__(self, work: Callable[[], object], answer: "asyncio.Future[object]") -> None:
        self.work: Final = work
        self.answer: Final = answer


@final
class Passwords:
    """Hashes and checks passwords.

    Invariants: no more than ``limits.PASSWORD_THREADS`` are looked at at a time; at most
    ``limits.PASSWORDS_REMEMBERED`` are remembered.
    """

    def __init__(self, cost: int = DEFAULT_COST) -> None:
        self._cost: Final = cost
        self._threads: Final = ThreadPoolExecutor(
            limits.PASSWORD_THREADS, "kvorum-bcrypt", initializer=_step_back
        )
        self._queue: Final[FairQueue[_Waiting]] = FairQueue(
            limits.MAX_PASSWORDS_WAITING, limits.MAX_PASSWORDS_WAITING_PER_CONNECTION
        )
        self._busy = 0
        self._closed = False
        self._secret: Final = secrets.token_bytes(32)
        self._right: Final[dict[bytes, None]] = {}

    async def hashed(self, password: bytes, user: str, connection: Hashable) -> bytes:
        """The hash to store.

        Raises:
            EtcdError: ERR_REQUEST_TOO_MANY_REQUESTS.
        """
        return await self._take_turn(lambda: hash_now(password, self._cost), user, connection)

    async def match(self, password: bytes, hashed: bytes, user: str, connection: Hashable) -> bool:
        """Whether this is the password of that hash.

        Raises:
            EtcdError: ERR_REQUEST_TOO_MANY_REQUESTS.
        """
        raw = password[:_LONGEST]
        pair = blake2b(len(hashed).to_bytes(4, "big") + hashed + raw, key=self._secret).digest()
        if pair in self._right:
            return True
        if not await self._take_turn(lambda: matches_now(raw, hashed), user, connection):
            return False
        if len(self._right) >= limits.PASSWORDS_REMEMBERED:
            del self._right[next(iter(self._right))]
        self._right[pair] = None
        return True

    async def _take_turn(self, work: Callable[[], R], user: str, connection: Hashable) -> R:
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(work, answer)  # type: ignore[arg-type]
        if self._closed:
            raise ERR_REQUEST_TOO_MANY_REQUESTS
        out = self._queue.put(user, connection, waiting)
        if out is not None and not out.answer.done():
            out.answer.set_exception(ERR_REQUEST_TOO_MANY_REQUESTS)
        self._go_on()
        return await answer

    def _go_on(self) -> None:
        """Begin with those whose turn it is; whoever has gone meanwhile costs nothing."""
        while self._busy < limits.PASSWORD_THREADS and not self._closed:
            waiting = self._queue.take()
            if waiting is None:
                return
            if waiting.answer.cancelled():
                continue
            self._busy += 1
            working = asyncio.get_running_loop().run_in_executor(self._threads, waiting.work)
            working.add_done_callback(lambda done, waiting=waiting: self._done(waiting, done))  # type: ignore[misc]

    def _done(self, waiting: _Waiting, working: "asyncio.Future[object]") -> None:
        self._busy -= 1
        if not waiting.answer.done() and not working.cancelled():
            error = working.exception()
            if error is None:
                waiting.answer.set_result(working.result())
            else:
                waiting.answer.set_exception(error)
        self._go_on()

    def close(self) -> None:
        """Look at no more; whoever waits is cancelled with its call."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
