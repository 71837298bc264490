"""What a client asks of ``/v2/keys``: the parameters, checked in etcd's order and refused in its words.

A parameter counts wherever it stands (query or form) and whatever the method; those that mean nothing to a
method are checked all the same. Source of behaviour: etcd 3.4.23 ``v2http/client.go`` ``parseKeyRequest``.
"""

import posixpath
from typing import Final, final

from kvorum.api.v2.form import Form, FormError, read_form
from kvorum.golang import MAX_INT64, MAX_UINT64, GoSyntaxError, parse_bool
from kvorum.rpc.http1_types import HttpRequest

PREFIX: Final = "/v2/keys"
STORE_PREFIX: Final = "/1"
"""Where the store keeps the keys that clients see (etcd ``StoreKeysPrefix``)."""

PREV_VALUE_REQUIRED: Final = 201
TTL_NAN: Final = 202
INDEX_NAN: Final = 203
INVALID_FIELD: Final = 209
INVALID_FORM: Final = 210
REFRESH_VALUE: Final = 211
REFRESH_TTL_REQUIRED: Final = 212

_NANOSECONDS: Final = 1_000_000_000
_LONGEST_NUMBER: Final = len(str(MAX_UINT64))
_ONLY_VALUE: Final = frozenset(("value",))


class BadRequestError(ValueError):
    """The request is refused before anything is looked up; ``code`` is etcd's."""

    def __init__(self, code: int, cause: str) -> None:
        super().__init__(cause)
        self.code: Final = code
        self.cause: Final = cause


@final
class KeyRequest:
    """One request, checked. None stands for "not given" where etcd tells that from false."""

    __slots__ = (
        "expiration",
        "is_dir",
        "method",
        "no_value_on_success",
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
        "value",
        "wait",
    )

    def __init__(self, method: str, path: str, value: str = "") -> None:
        self.method = method
        self.path = path
        self.value = value
        self.is_dir = False
        self.prev_value = ""
        self.prev_index = 0
        self.prev_exist: bool | None = None
        self.refresh: bool | None = None
        self.expiration = 0
        """Nanoseconds since 1970; 0 is never."""
        self.wait = False
        self.since = 0
        self.recursive = False
        self.sorted = False
        self.quorum = False
        self.stream = False
        self.no_value_on_success = False


def parse_key_request(request: HttpRequest, now_ns: int) -> KeyRequest:
    """Read and check a request; ``now_ns`` is the wall clock, from which a ttl counts.

    Raises:
        BadRequestError: as etcd refuses it.
    """
    try:
        form = read_form(request)
    except FormError as error:
        raise BadRequestError(INVALID_FORM, str(error)) from None
    parsed = KeyRequest(request.method, store_path(request.path), form.get("value", ""))
    if form and not form.keys() <= _ONLY_VALUE:
        _take_parameters(parsed, form, now_ns)
    return parsed


def store_path(path: str) -> str:
    """The store's path for a URL's (Go ``path.Join``): the prefix changed, a slash at the end dropped."""
    key = path[len(PREFIX) :]
    if "//" in key or "/." in key:
        key = posixpath.normpath("/" + key.lstrip("/"))
    return STORE_PREFIX + key.rstrip("/")


def _take_parameters(parsed: KeyRequest, form: Form, now_ns: int) -> None:
    parsed.prev_index = _number(form, "prevIndex", INDEX_NAN)
    parsed.since = _number(form, "waitIndex", INDEX_NAN)
    parsed.recursive = _flag(form, "recursive")
    parsed.sorted = _flag(form, "sorted")
    parsed.wait = _flag(form, "wait")
    parsed.is_dir = _flag(form, "dir")
    parsed.quorum = _flag(form, "quorum")
    parsed.stream = _flag(form, "stream")
    if parsed.wait and parsed.method != "GET":
        raise BadRequestError(INVALID_FIELD, '"wait" can only be used with GET requests')
    parsed.prev_value = form.get("prevValue", "")
    if not parsed.prev_value and "prevValue" in form:
        raise BadRequestError(PREV_VALUE_REQUIRED, '"prevValue" cannot be empty')
    parsed.no_value_on_success = _flag(form, "noValueOnSuccess")
    has_ttl = bool(form.get("ttl"))
    if has_ttl:
        parsed.expiration = expiration_of(_number(form, "ttl", TTL_NAN), now_ns)
    if "prevExist" in form:
        parsed.prev_exist = _flag(form, "prevExist", "{}")
    if "refresh" in form:
        parsed.refresh = _flag(form, "refresh", "{}")
        if parsed.refresh and parsed.value:
            raise BadRequestError(REFRESH_VALUE, "A value was provided on a refresh")
        if parsed.refresh and not has_ttl:
            raise BadRequestError(REFRESH_TTL_REQUIRED, "No TTL value set")


def expiration_of(ttl_seconds: int, now_ns: int) -> int:
    """When something with this ttl ends: Go's 64-bit arithmetic, in which very long ones wrap around."""
    lasting = _int64(ttl_seconds * _NANOSECONDS)
    return _int64(now_ns + lasting)


def _int64(number: int) -> int:
    return (number + MAX_INT64 + 1) % (MAX_UINT64 + 1) - MAX_INT64 - 1


def _number(form: Form, name: str, code: int) -> int:
    """A parameter as Go's ``ParseUint(s, 10, 64)`` reads it; 0 if it is not there."""
    text = form.get(name)
    if text is None:
        return 0
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0")
        if len(digits) <= _LONGEST_NUMBER and (number := int(digits or "0")) <= MAX_UINT64:
            return number
    raise BadRequestError(code, f'invalid value for "{name}"')


def _flag(form: Form, name: str, quoted: str = '"{}"') -> bool:
    text = form.get(name)
    if text is None:
        return False
    try:
        return parse_bool(text)
    except GoSyntaxError:
        raise BadRequestError(INVALID_FIELD, f"invalid value for {quoted.format(name)}") from None
