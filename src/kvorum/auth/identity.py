"""Who asks: a user's name, and the revision of users and roles that it was true at."""

from typing import Final, final

from kvorum.proto.wire import read_varint, varint

_USERNAME_TAG: Final = b"\x12"
_REVISION_TAG: Final = b"\x18"


@final
class Identity:
    """A user as a request names it; ``NOBODY`` if it names none.

    ``revision`` is that of the auth store when the user was looked up, 0 for nobody. It guards against
    permissions that were taken away on the request's way through the log.
    """

    __slots__ = ("revision", "username")

    def __init__(self, username: str, revision: int) -> None:
        self.username: Final = username
        self.revision: Final = revision

    def __repr__(self) -> str:
        return f"Identity({self.username!r}, {self.revision})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and (self.username, self.revision) == (
            other.username,
            other.revision,
        )

    def __hash__(self) -> int:
        return hash((self.username, self.revision))

    def encode(self) -> bytes:
        """The fields ``username`` and ``auth_revision`` of ``etcdserverpb.RequestHeader``."""
        name = self.username.encode()
        fields = _USERNAME_TAG + varint(len(name)) + name if name else b""
        return fields + _REVISION_TAG + varint(self.revision) if self.revision else fields


NOBODY: Final = Identity("", 0)


def decode(fields: bytes) -> Identity:
    """The opposite of ``Identity.encode``.

    Raises:
        ValueError, IndexError: these are no such fields.
    """
    if not fields:
        return NOBODY
    username, revision, at = "", 0, 0
    if fields.startswith(_USERNAME_TAG):
        length, at = read_varint(fields, 1)
        username = fields[at : at + length].decode()
        at += length
    if at < len(fields):
        if fields[at : at + 1] != _REVISION_TAG:
            raise ValueError("no request header")
        revision, at = read_varint(fields, at + 1)
    if at != len(fields):
        raise ValueError("no request header")
    return Identity(username, revision)
