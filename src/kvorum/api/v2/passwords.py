"""Passwords of v2 users: the member's own room for passwords, as v2 spells them.

They take their turns among those of v3's users and are remembered like them, which counts here, since clients
of the v2 API show their password with every request. Source of behaviour: etcd 3.4.23 ``v2auth/auth.go``
(passwordStore).
"""

from collections.abc import Hashable
from typing import Final, final

from kvorum.server.passwords import Passwords as Room


@final
class Passwords:
    """Hashes and checks passwords.

    Errors: EtcdError, ERR_REQUEST_TOO_MANY_REQUESTS.
    """

    def __init__(self, room: Room) -> None:
        self._room: Final = room

    async def hashed(self, password: str, user: str) -> str:
        """The hash to store."""
        return (await self._room.hashed(_bytes_of(password), user, None)).decode()

    async def match(self, password: str, hashed: str, user: str, connection: Hashable) -> bool:
        """Whether this is the password of that hash; ``connection`` waits for it."""
        return await self._room.match(
            _bytes_of(password), hashed.encode("utf-8", "replace"), user, connection
        )


def _bytes_of(password: str) -> bytes:
    return password.encode("utf-8", "surrogateescape")
