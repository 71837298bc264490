"""``V2Request``: what a client asks of the v2 store, and how it lies in the log.

The bytes are ``etcdserverpb.Request`` (facts/wire.json). They stand in field 2 of an InternalRaftRequest, or,
as members of etcd up to 3.5 propose them, are the whole data of an entry (``decode_raw``). They are read by
hand because text need not be UTF-8 here (Go's strings are bytes; kept by surrogateescape), and because a raw
request and an InternalRaftRequest can only be told apart by a reader as strict as Go's: etcd tries the
latter first and takes what fails for the former.
"""

from collections.abc import Callable
from typing import Final, final

from kvorum.proto.wire import int64, read_varint, varint

_VARINT: Final = 0
_FIXED64: Final = 1
_DELIMITED: Final = 2
_FIXED32: Final = 5

_RAW_METHODS: Final = frozenset((b"POST", b"PUT", b"DELETE", b"QGET", b"SYNC", b"GET", b"HEAD"))


class MalformedRequestError(ValueError):
    """The bytes are no etcdserverpb.Request."""


@final
class V2Request:
    """A request: ``method`` is POST, PUT, DELETE, QGET or SYNC in the log; GET and HEAD never get there.

    ``expiration`` and ``time`` are nanoseconds since 1970 (0: none); ``prev_exist`` and ``refresh`` are None
    when not given; ``since`` is the index to watch from. ``id`` is set by members that propose raw requests.
    """

    __slots__ = (
        "dir",
        "expiration",
        "id",
        "method",
        "path",
        "prev_exist",
        "prev_index",
        "prev_value",
        "quorum",
        "recursive",
        "refresh",
        "since",
        "sorted",
        "stream",
        "time",
        "val",
        "wait",
    )

    def __init__(self, method: str, path: str = "", val: str = "") -> None:
        self.id = 0
        self.method = method
        self.path = path
        self.val = val
        self.dir = False
        self.prev_value = ""
        self.prev_index = 0
        self.prev_exist: bool | None = None
        self.expiration = 0
        self.wait = False
        self.since = 0
        self.recursive = False
        self.sorted = False
        self.quorum = False
        self.time = 0
        self.stream = False
        self.refresh: bool | None = None

    def encode(self) -> bytes:
        """The bytes of an etcdserverpb.Request; what is zero is left out."""
        parts: list[bytes] = []
        if self.id:
            parts.append(b"\x08" + varint(self.id))
        for tag, text in ((b"\x12", self.method), (b"\x1a", self.path), (b"\x22", self.val)):
            if text:
                raw = text.encode("utf-8", "surrogateescape")
                parts += (tag, varint(len(raw)), raw)
        if self.dir:
            parts.append(b"\x28\x01")
        if self.prev_value:
            raw = self.prev_value.encode("utf-8", "surrogateescape")
            parts += (b"\x32", varint(len(raw)), raw)
        if self.prev_index:
            parts.append(b"\x38" + varint(self.prev_index))
        if self.prev_exist is not None:
            parts.append(b"\x40\x01" if self.prev_exist else b"\x40\x00")
        if self.expiration:
            parts.append(b"\x48" + varint(self.expiration))
        if self.recursive:
            parts.append(b"\x60\x01")
        if self.sorted:
            parts.append(b"\x68\x01")
        if self.time:
            parts.append(b"\x78" + varint(self.time))
        if self.refresh is not None:
            parts.append(b"\x88\x01\x01" if self.refresh else b"\x88\x01\x00")
        return b"".join(parts)

    @staticmethod
    def decode(data: bytes) -> "V2Request":
        """Read an etcdserverpb.Request.

        Raises:
            MalformedRequestError: it is none, by Go's rules.
        """
        request = V2Request("")
        at = 0
        try:
            while at < len(data):
                tag, at = read_varint(data, at)
                number, kind = tag >> 3, tag & 7
                field = _FIELDS.get(number)
                if field is None:
                    at = _skip(data, at, kind)
                elif field[1] != kind:
                    raise MalformedRequestError(f"wrong wire type {kind} of field {number}")
                elif kind == _DELIMITED:
                    size, start = read_varint(data, at)
                    at = start + size
                    if at > len(data):
                        raise MalformedRequestError("the data ends inside a field")
                    setattr(request, field[0], data[start:at].decode("utf-8", "surrogateescape"))
                else:
                    value, at = read_varint(data, at)
                    setattr(request, field[0], field[2](value))
        except IndexError:
            raise MalformedRequestError("the data ends inside a number") from None
        return request


def _unsigned(value: int) -> int:
    return value


_FIELDS: Final[dict[int, tuple[str, int, Callable[[int], int | bool]]]] = {
    1: ("id", _VARINT, _unsigned),
    2: ("method", _DELIMITED, _unsigned),
    3: ("path", _DELIMITED, _unsigned),
    4: ("val", _DELIMITED, _unsigned),
    5: ("dir", _VARINT, bool),
    6: ("prev_value", _DELIMITED, _unsigned),
    7: ("prev_index", _VARINT, _unsigned),
    8: ("prev_exist", _VARINT, bool),
    9: ("expiration", _VARINT, int64),
    10: ("wait", _VARINT, bool),
    11: ("since", _VARINT, _unsigned),
    12: ("recursive", _VARINT, bool),
    13: ("sorted", _VARINT, bool),
    14: ("quorum", _VARINT, bool),
    15: ("time", _VARINT, int64),
    16: ("stream", _VARINT, bool),
    17: ("refresh", _VARINT, bool),
}
"""Slot and wire type of each field, and how a number in it is read."""


def _skip(data: bytes, at: int, kind: int) -> int:
    """Pass over a field that is not known."""
    if kind == _VARINT:
        return read_varint(data, at)[1]
    if kind == _DELIMITED:
        length, at = read_varint(data, at)
        at += length
    elif kind in (_FIXED64, _FIXED32):
        at += 8 if kind == _FIXED64 else 4
    else:
        raise MalformedRequestError(f"wire type {kind}")
    if at > len(data):
        raise MalformedRequestError("the data ends inside a field")
    return at


def decode_raw(data: bytes) -> V2Request | None:
    """The request, if an entry's data is one by itself and no InternalRaftRequest; None otherwise.

    Both begin with an ID in field 1; field 2 is the method here and a whole V2 request there. Go's reader
    takes no method for a request, because their letters are groups and wrong wire types (etcd
    ``applyEntryNormal``, ``pbutil.MaybeUnmarshal``), so a known method decides.
    """
    if data[:1] != b"\x08":
        return None
    try:
        _, at = read_varint(data, 1)
        if data[at : at + 1] != b"\x12" or data[at + 2 : at + 2 + data[at + 1]] not in _RAW_METHODS:
            return None
        return V2Request.decode(data)
    except (IndexError, MalformedRequestError):
        return None
