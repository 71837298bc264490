"""The header of every response: who answers, at which revision, in which term."""

from typing import Final, final

from kvorum.proto.wire import varint


@final
class Header:
    """Encodes response headers as the field 1 that they are in every response.

    Cluster and member never change and the term rarely, so a header is a few joined bytes; the last one is
    kept, because reads between two writes all carry the same. Fields that are 0 are left out, as proto3 has
    it.
    """

    __slots__ = ("_fixed", "_last", "_revision", "_term", "_term_field")

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self._fixed: Final = b"\x08" + varint(cluster_id) + b"\x10" + varint(member_id)
        self._term = 0
        self._term_field = b""
        self._revision = -1
        self._last = b""

    def encode(self, revision: int, term: int) -> bytes:
        """The header field for a response made at ``revision``; ``term`` is Raft's current one.

        Revision 0 leaves the field out, as the Cluster service does.
        """
        if revision == self._revision and term == self._term:
            return self._last
        if term != self._term:
            self._term = term
            self._term_field = b"\x20" + varint(term)
        payload = self._fixed + (b"\x18" + varint(revision) if revision else b"") + self._term_field
        self._revision = revision
        self._last = b"\x0a" + varint(len(payload)) + payload
        return self._last
