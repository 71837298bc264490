"""The tokens that ``--auth-token`` asks for, and the files their keys are in.

Key files are looked at every second: when one has changed its keys are used from then on, so that they can be
exchanged without a restart. What is in a file that cannot be used is said once, and the old keys stay. Source
of behaviour: etcd ``server/auth/store.go`` (NewTokenProvider), ``jwt.go``, ``options.go``, which read the
files once.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from kvorum import limits
from kvorum.auth.tokens import SIMPLE, NoTokens, TokenOptionsError, TokenProvider, parse_token_options
from kvorum.logging import Logger

if TYPE_CHECKING:
    from kvorum.auth.jwt_tokens import JwtKeys, JwtTokens

_NAMES: Final = ("pub-key", "priv-key")

Stamp = tuple[tuple[int, int, int], ...]
"""What says that files have changed: time, size and inode of each."""


@final
class Tokens:
    """The provider of tokens that a member's flags ask for; ``provider`` is None for simple ones."""

    def __init__(self, option: str, log: Logger) -> None:
        """Read what ``--auth-token`` names.

        Raises:
            TokenOptionsError: it cannot be used. OSError: a file cannot be read.
        """
        kind, options = parse_token_options(option)
        self._log: Final = log
        self._options: Final = options
        self._task: asyncio.Task[None] | None = None
        self._jwt: JwtTokens | None = None
        self.provider: TokenProvider | None = None
        if kind == SIMPLE:
            log.warn("simple token is not cryptographically signed")
        elif not kind:
            self.provider = NoTokens()
        else:
            # with what signs and verifies, which members with simple tokens do without
            from kvorum.auth.jwt_tokens import KNOWN_OPTIONS, JwtTokens, parse_ttl

            unknown = sorted(set(options) - KNOWN_OPTIONS)
            if unknown:
                log.warn("unknown JWT options", keys=unknown)
            self._warn_of_readers()
            self._stamp = self._look()
            self.provider = self._jwt = JwtTokens(self._read(), parse_ttl(options), time.time)

    def start(self) -> None:
        """Look at the files from now on."""
        if self._jwt is not None:
            self._task = asyncio.get_running_loop().create_task(self._follow(self._jwt))

    def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()

    def _paths(self) -> list[str]:
        return [self._options[name] for name in _NAMES if self._options.get(name)]

    def _look(self) -> Stamp:
        looked = map(os.stat, self._paths())
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in looked)

    def _warn_of_readers(self) -> None:
        path = self._options.get("priv-key")
        if path and os.stat(path).st_mode & stat.S_IROTH:
            self._log.warn("the private key of tokens can be read by everybody", path=path)

    def _read(self) -> JwtKeys:
        from kvorum.auth.jwt_tokens import make_keys  # as above

        public, private = (
            Path(self._options[name]).read_bytes() if self._options.get(name) else b"" for name in _NAMES
        )
        keys = make_keys(self._options.get("sign-method", ""), public, private)
        if keys.weak:
            self._log.warn("the key of tokens is shorter than its method asks for", method=keys.method)
        return keys

    async def _follow(self, tokens: JwtTokens) -> None:
        while True:
            await asyncio.sleep(limits.JWT_KEY_CHECK_SECONDS)
            try:
                stamp = self._look()
                if stamp == self._stamp:
                    continue
                self._stamp = stamp
                tokens.keys = self._read()
            except (OSError, TokenOptionsError) as error:
                self._log.warn("cannot use the changed keys of tokens; the old ones stay", error=error)
            else:
                self._log.info("took the changed keys of tokens", method=tokens.keys.method)
