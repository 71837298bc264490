"""What a client asks of ``/v2/keys``: the parameters, checked in etcd's order and refused in its words.

A parameter counts wherever it stands (query or form) and whatever the method; those that mean nothing to a
method are checked all the same. Source of behaviour: etcd 3.4.23 ``v2http/client.go`` ``parseKeyRequest``.
"""

import posixpath
from typing import Final

from kvorum import limits
from kvorum.api.v2.form import Form, FormError, read_form
from kvorum.golang import MAX_INT64, MAX_UINT64, GoSyntaxError, parse_bool
from kvorum.rpc.http1_types import HttpRequest
from kvorum.v2store.errors import (
    INDEX_NAN,
    INVALID_FIELD,
    INVALID_FORM,
    PREV_VALUE_REQUIRED,
    REFRESH_TTL_REQUIRED,
    REFRESH_VALUE,
    TTL_NAN,
    V2Error,
)
from kvorum.v2store.request import V2Request

PREFIX: Final = "/v2/keys"
STORE_PREFIX: Final = "/1"
"""Where the store keeps the keys that clients see (etcd ``StoreKeysPrefix``)."""

_NANOSECONDS: Final = 1_000_000_000
_LONGEST_NUMBER: Final = len(str(MAX_UINT64))
_LONG_PATH: Final = 1024
_ONLY_VALUE: Final = frozenset(("value",))


def parse_key_request(request: HttpRequest, now_ns: int) -> tuple[V2Request, bool]:
    """Read and check a request; returns it and whether ``noValueOnSuccess`` was asked for.

    ``now_ns`` is the wall clock, from which a ttl counts.

    Raises:
        V2Error: as etcd refuses it.
    """
    try:
        form = read_form(request)
    except FormError as error:
        raise V2Error(INVALID_FORM, str(error)) from None
    path = store_path(request.path)
    if len(path) > _LONG_PATH and path.count("/") * len(path) > limits.V2_PATH_COST_BYTES:
        raise V2Error(INVALID_FIELD, "the key has too many parts")
    parsed = V2Request(request.method, path, form.get("value", ""))
    if not form or form.keys() <= _ONLY_VALUE:
        return parsed, False
    return parsed, _take_parameters(parsed, form, now_ns)


def store_path(path: str) -> str:
    """The store's path for a URL's (Go ``path.Join``): the prefix changed, a slash at the end dropped."""
    key = path[len(PREFIX) :]
    if "//" in key or "/." in key:
        key = posixpath.normpath("/" + key.lstrip("/"))
    return STORE_PREFIX + key.rstrip("/")


def _take_parameters(parsed: V2Request, form: Form, now_ns: int) -> bool:
    """Put the form's parameters into the request; returns ``noValueOnSuccess``."""
    parsed.prev_index = _number(form, "prevIndex", INDEX_NAN)
    parsed.since = _number(form, "waitIndex", INDEX_NAN)
    parsed.recursive = _flag(form, "recursive")
    parsed.sorted = _flag(form, "sorted")
    parsed.wait = _flag(form, "wait")
    parsed.dir = _flag(form, "dir")
    parsed.quorum = _flag(form, "quorum")
    parsed.stream = _flag(form, "stream")
    if parsed.wait and parsed.method != "GET":
        raise V2Error(INVALID_FIELD, '"wait" can only be used with GET requests')
    parsed.prev_value = form.get("prevValue", "")
    if not parsed.prev_value and "prevValue" in form:
        raise V2Error(PREV_VALUE_REQUIRED, '"prevValue" cannot be empty')
    no_value = _flag(form, "noValueOnSuccess")
    has_ttl = bool(form.get("ttl"))
    if has_ttl:
        parsed.expiration = expiration_of(_number(form, "ttl", TTL_NAN), now_ns)
    if "prevExist" in form:
        parsed.prev_exist = _flag(form, "prevExist", "{}")
    if "refresh" in form:
        parsed.refresh = _flag(form, "refresh", "{}")
        if parsed.refresh and parsed.val:
            raise V2Error(REFRESH_VALUE, "A value was provided on a refresh")
        if parsed.refresh and not has_ttl:
            raise V2Error(REFRESH_TTL_REQUIRED, "No TTL value set")
    return no_value


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
    raise V2Error(code, f'invalid value for "{name}"')


def _flag(form: Form, name: str, quoted: str = '"{}"') -> bool:
    text = form.get(name)
    if text is None:
        return False
    try:
        return parse_bool(text)
    except GoSyntaxError:
        raise V2Error(INVALID_FIELD, f"invalid value for {quoted.format(name)}") from None
