"""A member's users: what the rooms of auth and apply are joined to, and who is root in here.

What the member itself puts into the log (leases that have expired) is root's, as in etcd
(``auth.AuthStore.WithRoot``). A call may come with a token whose entry this member has not applied yet,
because another member answered Authenticate: it waits here until it has.
"""

import secrets
from collections.abc import Callable
from typing import Final, Protocol, final

from kvorum import limits
from kvorum.apply.auth import AuthApplier, Keyed
from kvorum.auth.identity import Identity
from kvorum.auth.store import ROOT, AuthStore
from kvorum.auth.tokens import PREFIX_LENGTH, PREFIX_LETTERS, SimpleTokens, TokenProvider
from kvorum.logging import Logger
from kvorum.mvcc.store import Store
from kvorum.server.options import NodeOptions
from kvorum.server.passwords import hash_now
from kvorum.server.timers import Timers

_LOOK_SECONDS: Final = 0.005


class Applying(Protocol):
    """Where the member stands in the log (``node.Node``)."""

    applied_index: int


@final
class Auth:
    """The users of one member, and the tokens that it knows.

    Invariant: while anybody waits for a token, a look is scheduled.
    """

    def __init__(
        self, member: Applying, store: Store, leases: Keyed, timers: Timers, log: Logger, options: NodeOptions
    ) -> None:
        self.store: Final = AuthStore(store)
        self.tokens: Final[TokenProvider] = options.tokens or SimpleTokens(
            timers.time, options.token_ttl_seconds
        )
        self.applier: Final = AuthApplier(
            self.store,
            self.tokens,
            leases,
            revision=lambda: store.revision,
            index=lambda: store.consistent_index,
            hash_password=hash_now,
            log=log,
        )
        self._member: Final = member
        self._timers: Final = timers
        self._waiting: Final[list[tuple[int, float, Callable[[], None]]]] = []

    def reload(self) -> None:
        """A snapshot's database has taken the place of the store."""
        self.store.reload()
        if not self.store.enabled:
            self.tokens.forget_all()

    def root(self) -> bytes:
        """The member itself as who asks, encoded; empty while nothing is checked."""
        return Identity(ROOT, self.store.revision).encode() if self.store.enabled else b""

    def new_prefix(self) -> str:
        """What begins the next token, if tokens begin with anything that nobody may guess."""
        if not self.tokens.needs_prefix:
            return ""
        return "".join(secrets.choice(PREFIX_LETTERS) for _ in range(PREFIX_LENGTH))

    def when_applied(self, index: int, work: Callable[[], None]) -> bool:
        """Do ``work`` when the entry at ``index`` is applied, or after a while, whichever is first.

        False: too many wait already, and nothing will be done.
        """
        if len(self._waiting) >= limits.MAX_CALLS_WAITING_FOR_TOKEN:
            return False
        if not self._waiting:
            self._timers.call_later(_LOOK_SECONDS, self._look)
        self._waiting.append((index, self._timers.time() + limits.TOKEN_WAIT_SECONDS, work))
        return True

    def _look(self) -> None:
        now, applied = self._timers.time(), self._member.applied_index
        ready = [each for each in self._waiting if each[0] <= applied or each[1] <= now]
        self._waiting[:] = [each for each in self._waiting if each[0] > applied and each[1] > now]
        if self._waiting:
            self._timers.call_later(_LOOK_SECONDS, self._look)
        for _, _, work in ready:
            work()
