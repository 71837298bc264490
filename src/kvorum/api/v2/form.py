"""Query and form as Go's ``net/http`` reads them: which pairs count, and in what words it refuses.

The v2 API takes each parameter from the query or from the body of a PUT or POST; where a name is given more
than once, the body's first value counts. etcd shows Go's own error texts as an error's cause, so they are
here. Source of behaviour: Go 1.19 ``net/http`` ``Request.ParseForm``, ``net/url`` ``ParseQuery``, ``mime``
``ParseMediaType``.
"""

import re
from binascii import a2b_qp
from typing import Final, TypeAlias

from kvorum import limits
from kvorum.golang import quote
from kvorum.rpc.http1_types import HttpRequest

Form: TypeAlias = dict[str, str]
"""The first value of each name; no v2 parameter has a second one that counts."""

_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_WITH_FORM: Final = frozenset(("POST", "PUT", "PATCH"))
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9a-fA-F]{2})")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SPACE: Final = " \t\n\r\v\f\x85\xa0"


class FormError(ValueError):
    """The form cannot be read; the text is Go's."""


def read_form(request: HttpRequest) -> Form:
    """Return the request's parameters.

    Raises:
        FormError: a pair, an escape or the content type is broken, or there are too many pairs.
    """
    form: Form = {}
    fault = ""
    if request.method in _WITH_FORM:
        kind = request.header("content-type") or ""
        if kind != _FORM_TYPE:
            kind, fault = media_type(kind) if kind else ("", "")
        if kind == _FORM_TYPE:
            fault = fault or _parse_pairs(request.body, form)
    if request.query_string:
        query_fault = _parse_pairs(request.query_string.encode("utf-8", "surrogateescape"), form)
        fault = fault or query_fault
    if fault:
        raise FormError(fault)
    return form


def _parse_pairs(data: bytes, form: Form) -> str:
    """Add what is not there yet; returns what was wrong, if anything."""
    if data.count(b"&") >= limits.V2_FORM_PAIRS:
        return f"more than {limits.V2_FORM_PAIRS} form values"
    fault = ""
    for pair in data.split(b"&"):
        if b";" in pair:
            fault = "invalid semicolon separator in query"
        elif pair:
            raw_name, _, raw_value = pair.partition(b"=")
            try:
                name, value = _unescape(raw_name), _unescape(raw_value)
            except FormError as error:
                fault = fault or str(error)
            else:
                form.setdefault(name, value)
    return fault


def _unescape(raw: bytes) -> str:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        broken = _BROKEN_ESCAPE.search(raw)
        if broken:
            at = broken.start()
            raise FormError(f"invalid URL escape {quote(raw[at : at + 3])}")
        # Quoted-printable has the same escapes behind another sign, and a decoder in C.
        raw = a2b_qp(raw.replace(b"=", b"=3D").replace(b"%", b"="))
    return raw.decode("utf-8", "surrogateescape")


def media_type(header: str) -> tuple[str, str]:
    """The media type a Content-Type names, in small letters, and what is wrong with the header, if anything.

    Source: Go ``mime.ParseMediaType``; both can be non-empty when only the parameters are broken.
    """
    base, semicolon, parameters = header.partition(";")
    kind = base.strip(_SPACE).lower()
    fault = _fault_of_type(kind)
    if fault:
        return "", fault
    rest = semicolon + parameters
    seen: dict[str, str] = {}
    while rest := rest.lstrip(_SPACE):
        name, value, after = _parameter(rest)
        if not name:
            return (kind, "") if rest.strip(_SPACE) == ";" else (kind, "mime: invalid media parameter")
        if seen.setdefault(name, value) != value:
            return "", "mime: duplicate parameter name"
        rest = after
    return kind, ""


def _fault_of_type(kind: str) -> str:
    major = _TOKEN.match(kind)
    if major is None:
        return "mime: no media type"
    rest = kind[major.end() :]
    if not rest:
        return ""
    if rest[0] != "/":
        return "mime: expected slash after first token"
    minor = _TOKEN.match(rest, 1)
    if minor is None:
        return "mime: expected token after slash"
    return "mime: unexpected content after media subtype" if minor.end() < len(rest) else ""


def _parameter(text: str) -> tuple[str, str, str]:
    """Name, value and rest of ``; name=value``; no name if it is none."""
    none = ("", "", text)
    name = _TOKEN.match(text[1:].lstrip(_SPACE)) if text[0] == ";" else None
    if name is None:
        return none
    rest = name.string[name.end() :].lstrip(_SPACE)
    if rest[:1] != "=":
        return none
    rest = rest[1:].lstrip(_SPACE)
    if rest[:1] != '"':
        value = _TOKEN.match(rest)
        return none if value is None else (name[0].lower(), value[0], rest[value.end() :])
    quoted = re.match(r'"((?:[^"\\\r\n]|\\[^\r\n])*)"', rest)
    if quoted is None:
        return none
    return name[0].lower(), re.sub(r"\\(.)", r"\1", quoted[1]), rest[quoted.end() :]
