"""Tokens: what a client shows instead of its password, and simple ones in particular.

A simple token is ``<16 letters>.<index>``. The letters are chosen by the member that checked the password;
the index is that of the log entry that carries them, so every member knows the token once it has applied that
entry, and one that has not knows what to wait for. It is good until it has not been used for its time to
live. Tokens are kept in memory: a member that starts anew knows those of the entries it applies again.
Source of behaviour: etcd ``server/auth/simple_token.go``.
"""

from collections.abc import Callable
from typing import Final, Protocol, final

from kvorum import errors
from kvorum.auth.identity import Identity
from kvorum.limits import MAX_SIMPLE_TOKENS

PREFIX_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
PREFIX_LENGTH: Final = 16
_MAX_INDEX: Final = (1 << 64) - 1


class TokenProvider(Protocol):
    """A kind of tokens (etcd ``auth.TokenProvider``)."""

    needs_prefix: bool
    """Whether the member that checks a password chooses random letters for the token."""

    def identify(self, token: str, revision: int) -> Identity | None:
        """Whose token it is; ``revision`` is the auth store's now. None: no valid token."""

    def index_of(self, token: str) -> int:
        """The log index at which the token was given, 0 if it says none."""

    def assign(self, username: str, revision: int, prefix: str, index: int, *, asked_here: bool) -> str:
        """Give a user a token, when the entry at ``index`` is applied; ``asked_here``: somebody waits for it.

        Raises:
            EtcdError: tokens cannot be made here.
        """

    def forget_user(self, username: str) -> None:
        """The user was deleted or has another password."""

    def forget_all(self) -> None:
        """Permissions are not checked any more."""


@final
class SimpleTokens:
    """Simple tokens by their text; ``clock`` is monotonic seconds.

    Invariant: ``_tokens`` is in the order of the times at which they expire, since all have the same time to
    live and a use moves one to the end.
    """

    needs_prefix = True

    def __init__(
        self, clock: Callable[[], float], ttl_seconds: float, max_tokens: int = MAX_SIMPLE_TOKENS
    ) -> None:
        self._clock: Final = clock
        self._ttl_seconds: Final = ttl_seconds
        self._max_tokens: Final = max_tokens
        self._tokens: Final[dict[str, tuple[str, float]]] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def identify(self, token: str, revision: int) -> Identity | None:
        """Whose token it is; it is good for its whole time to live again."""
        found = self._tokens.pop(token, None)
        if found is None:
            return None
        username, expires_at = found
        now = self._clock()
        if expires_at < now:
            return None
        self._tokens[token] = (username, now + self._ttl_seconds)
        return Identity(username, revision)

    def index_of(self, token: str) -> int:
        """The log index in a token, 0 if it has not the form of one."""
        _, dot, index = token.partition(".")
        if not dot or not index.isascii() or not index.isdigit() or len(index) > 20:
            return 0
        number = int(index)
        return number if number <= _MAX_INDEX else 0

    def assign(self, username: str, revision: int, prefix: str, index: int, *, asked_here: bool) -> str:
        """Give a user the token of an entry."""
        token = f"{prefix}.{index}"
        self._sweep()
        if len(self._tokens) >= self._max_tokens:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[token] = (username, self._clock() + self._ttl_seconds)
        return token

    def forget_user(self, username: str) -> None:
        """Forget all tokens of a user."""
        for token in [token for token, (owner, _) in self._tokens.items() if owner == username]:
            del self._tokens[token]

    def forget_all(self) -> None:
        """Forget all tokens."""
        self._tokens.clear()

    def _sweep(self) -> None:
        """Forget those whose time is up; in the time of what there is to forget."""
        now = self._clock()
        expired = []
        for token, (_, expires_at) in self._tokens.items():
            if expires_at >= now:
                break
            expired.append(token)
        for token in expired:
            del self._tokens[token]


@final
class NoTokens:
    """``--auth-token=''``: nobody gets one, so only certificates identify (etcd ``nop.go``)."""

    needs_prefix = False

    def identify(self, token: str, revision: int) -> Identity | None:
        """Nobody's."""
        return None

    def index_of(self, token: str) -> int:
        """It says none."""
        return 0

    def assign(self, username: str, revision: int, prefix: str, index: int, *, asked_here: bool) -> str:
        """Refuse.

        Raises:
            EtcdError: ERR_AUTH_FAILED.
        """
        raise errors.ERR_AUTH_FAILED

    def forget_user(self, username: str) -> None:
        """There is nothing."""

    def forget_all(self) -> None:
        """There is nothing."""


class TokenOptionsError(ValueError):
    """``--auth-token`` says what it cannot (etcd ``ErrInvalidAuthOpts``). The text has no key in it."""


SIMPLE: Final = "simple"
JWT: Final = "jwt"


def parse_token_options(text: str) -> tuple[str, dict[str, str]]:
    """The kind of tokens and its options, of ``kind,name=value,…``.

    Raises:
        TokenOptionsError: an option is no pair, or is there twice, or the kind is unknown.
    """
    kind, *pairs = text.split(",")
    options: dict[str, str] = {}
    for pair in pairs:
        name, *values = pair.split("=")
        if len(values) != 1 or name in options:
            raise TokenOptionsError("auth: invalid auth options")
        options[name] = values[0]
    if kind not in (SIMPLE, JWT, ""):
        raise TokenOptionsError("auth: invalid auth options")
    return kind, options
