"""Passwords of v2 users: bcrypt, off the loop, and what has been found right lately.

A check takes some 60 ms of a processor by design. It is done in a thread, which gives up the interpreter
while bcrypt works. Since clients of the v2 API show their password with every request, pairs that were found
right are remembered, as keyed hashes that are good for this process only; a new password is a new hash in the
store and so a new pair. Source of behaviour: etcd 3.4.23 ``v2auth/auth.go`` (passwordStore).
"""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Final, final

import bcrypt

from kvorum import limits

_COST: Final = 10
"""Go's ``bcrypt.DefaultCost``."""
_LONGEST: Final = 72
"""Bytes of a password that bcrypt looks at; Go's, as of etcd 3.4, leaves out the others without a word."""


@final
class Passwords:
    """Hashes and checks passwords. Invariant: at most ``limits.V2_PASSWORDS_REMEMBERED`` are remembered."""

    def __init__(self) -> None:
        self._threads: Final = ThreadPoolExecutor(limits.V2_PASSWORD_THREADS, "kvorum-bcrypt")
        self._secret: Final = secrets.token_bytes(32)
        self._right: Final[dict[bytes, None]] = {}

    async def hashed(self, password: str) -> str:
        """The hash to store."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _hash, _bytes_of(password))

    async def match(self, password: str, hashed: str) -> bool:
        """Whether this is the password of that hash."""
        raw = _bytes_of(password)
        pair = blake2b(hashed.encode("utf-8", "replace") + b"\0" + raw, key=self._secret).digest()
        if pair in self._right:
            return True
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._threads, _check, raw, hashed):
            return False
        if len(self._right) >= limits.V2_PASSWORDS_REMEMBERED:
            del self._right[next(iter(self._right))]
        self._right[pair] = None
        return True

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _bytes_of(password: str) -> bytes:
    return password.encode("utf-8", "surrogateescape")[:_LONGEST]


def _hash(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(_COST, b"2a")).decode()


def _check(password: bytes, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password, hashed.encode("utf-8", "replace"))
    except ValueError:
        return False  # what is stored is no hash
