"""``get``, ``put``, ``del``, ``compaction``: from flags and words to requests.

The builders are also used for the lines of a transaction (``txn.py``). Source of behaviour: etcdctl
``command/{get,put,del,compaction}_command.go``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from kvorum.ctl.errors import EXIT_BAD_ARGUMENTS, EXIT_BAD_FEATURE, EXIT_ERROR, CtlError
from kvorum.ctl.session import Session
from kvorum.ctl.values import BOOL, INT64, TEXT, option
from kvorum.golang import MAX_INT64, MIN_INT64, quote
from kvorum.proto import rpc_pb2 as pb

Words = Sequence[bytes]
Params = Mapping[str, Any]
ReadValue = Callable[[], bytes]

_ORDERS: Final = {
    "": pb.RangeRequest.NONE,
    "ASCEND": pb.RangeRequest.ASCEND,
    "DESCEND": pb.RangeRequest.DESCEND,
}
_TARGETS: Final = {
    "": pb.RangeRequest.KEY,
    "CREATE": pb.RangeRequest.CREATE,
    "KEY": pb.RangeRequest.KEY,
    "MODIFY": pb.RangeRequest.MOD,
    "VALUE": pb.RangeRequest.VALUE,
    "VERSION": pb.RangeRequest.VERSION,
}
_ONE_OR_TWO: Final = "{} command needs one argument as key and an optional argument as range_end"
_ONE_WITH_RANGE: Final = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
_PUT_ARGUMENTS: Final = "put command needs 1 argument and input from stdin or 2 arguments"


def get_options() -> list[click.Option]:
    """Return the flags of ``get``."""
    return [
        option("--consistency", TEXT, "l", "l: linearizable, s: serializable"),
        option("--order", TEXT, "", "ASCEND or DESCEND"),
        option("--sort-by", TEXT, "", "CREATE, KEY, MODIFY, VALUE or VERSION"),
        option("--limit", INT64, 0, "most keys to get"),
        option("--prefix", BOOL, False, "get the keys that begin so"),
        option("--from-key", BOOL, False, "get this key and all behind it"),
        option("--rev", INT64, 0, "get them as they were at this revision"),
        option("--keys-only", BOOL, False, "leave the values out"),
        option("--count-only", BOOL, False, "get their number (with -w fields)"),
        option("--print-value-only", BOOL, False, "leave the keys out (with -w simple)"),
    ]


def put_options() -> list[click.Option]:
    """Return the flags of ``put``."""
    return [
        option("--lease", TEXT, "0", "lease to attach, in hexadecimal"),
        option("--prev-kv", BOOL, False, "print what was there before"),
        option("--ignore-value", BOOL, False, "keep the value"),
        option("--ignore-lease", BOOL, False, "keep the lease"),
    ]


def del_options() -> list[click.Option]:
    """Return the flags of ``del``."""
    return [
        option("--prefix", BOOL, False, "delete the keys that begin so"),
        option("--prev-kv", BOOL, False, "print what is deleted"),
        option("--from-key", BOOL, False, "delete this key and all behind it"),
    ]


def compaction_options() -> list[click.Option]:
    """Return the flags of ``compaction``."""
    return [option("--physical", BOOL, False, "wait until the old revisions are gone from the disk")]


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key behind those that begin with ``prefix``; ``\\x00``, "to the end", if none is."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\x00"


def key_range(words: Words, params: Params) -> tuple[bytes, bytes]:
    """Return key and range_end of ``<key> [range_end]`` with ``--prefix`` and ``--from-key``."""
    key = words[0]
    if len(words) > 1:
        if params["prefix"] or params["from_key"]:
            raise CtlError(EXIT_BAD_ARGUMENTS, _ONE_WITH_RANGE)
        return key, words[1]
    if params["prefix"] and key:
        return key, prefix_end(key)
    if params["prefix"] or params["from_key"]:
        return key or b"\x00", b"\x00"
    return key, b""


def _no_two_ranges(params: Params) -> None:
    if params["prefix"] and params["from_key"]:
        raise CtlError(
            EXIT_BAD_ARGUMENTS, "`--prefix` and `--from-key` cannot be set at the same time, choose one"
        )


def range_request(words: Words, params: Params) -> pb.RangeRequest:
    """Return the request of a ``get``; raises CtlError."""
    if not words:
        raise CtlError(EXIT_BAD_ARGUMENTS, _ONE_OR_TWO.format("get"))
    _no_two_ranges(params)
    if params["keys_only"] and params["count_only"]:
        raise CtlError(
            EXIT_BAD_ARGUMENTS, "`--keys-only` and `--count-only` cannot be set at the same time, choose one"
        )
    if params["consistency"] not in ("l", "s"):
        raise CtlError(EXIT_BAD_FEATURE, f"unknown consistency flag {quote(params['consistency'])}")
    key, range_end = key_range(words, params)
    order, target = _ORDERS.get(params["order"].upper()), _TARGETS.get(params["sort_by"].upper())
    if order is None:
        raise CtlError(EXIT_BAD_FEATURE, f"bad sort order {params['order']}")
    if target is None:
        raise CtlError(EXIT_BAD_FEATURE, f"bad sort target {params['sort_by']}")
    if target == pb.RangeRequest.KEY and order == pb.RangeRequest.ASCEND:
        order = pb.RangeRequest.NONE  # the order in which the server answers anyway
    return pb.RangeRequest(
        key=key,
        range_end=range_end,
        limit=params["limit"],
        revision=max(0, params["rev"]),
        sort_order=order,
        sort_target=target,
        serializable=params["consistency"] == "s",
        keys_only=params["keys_only"],
        count_only=params["count_only"],
    )


def put_request(words: Words, params: Params, read_value: ReadValue) -> pb.PutRequest:
    """Return the request of a ``put``; a value that is not given is read; raises CtlError."""
    if not words:
        raise CtlError(EXIT_BAD_ARGUMENTS, _PUT_ARGUMENTS)
    value = b""
    if params["ignore_value"]:
        if len(words) > 1:
            raise CtlError(EXIT_BAD_ARGUMENTS, "put command needs only 1 argument when 'ignore-value' is set")
    elif len(words) > 1:
        value = words[1]
    else:
        value = read_value()
        if not value:
            raise CtlError(EXIT_BAD_ARGUMENTS, _PUT_ARGUMENTS)
    return pb.PutRequest(
        key=words[0],
        value=value,
        lease=parse_lease(params["lease"]),
        prev_kv=params["prev_kv"],
        ignore_value=params["ignore_value"],
        ignore_lease=params["ignore_lease"],
    )


def parse_lease(text: str) -> int:
    """Return the lease that ``text`` names in hexadecimal; raises CtlError."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits or not set(digits) <= _HEX_DIGITS:
        problem = "invalid syntax"
    elif not MIN_INT64 <= int(text, 16) <= MAX_INT64:
        problem = "value out of range"
    else:
        return int(text, 16)
    raise CtlError(
        EXIT_BAD_ARGUMENTS,
        f"bad lease ID (strconv.ParseInt: parsing {quote(text)}: {problem}), expecting ID in Hex",
    )


def delete_request(words: Words, params: Params) -> pb.DeleteRangeRequest:
    """Return the request of a ``del``; raises CtlError."""
    if not 1 <= len(words) <= 2:
        raise CtlError(EXIT_BAD_ARGUMENTS, _ONE_OR_TWO.format("del"))
    _no_two_ranges(params)
    key, range_end = key_range(words, params)
    return pb.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=params["prev_kv"])


def run_get(session: Session, words: Words, params: Params) -> None:
    """Get and print."""
    response = session.call("KV/Range", range_request(words, params), pb.RangeResponse)
    printer = session.printer
    if params["count_only"] and printer.format != "fields":
        raise CtlError(EXIT_BAD_ARGUMENTS, "--count-only is only for `--write-out=fields`")
    if params["print_value_only"]:
        if printer.format != "simple":
            raise CtlError(EXIT_BAD_ARGUMENTS, "print-value-only is only for `--write-out=simple`")
        printer.value_only = True
    printer.answer(response)


def run_put(session: Session, words: Words, params: Params) -> None:
    """Put and print."""
    request = put_request(words, params, session.streams.read)
    session.printer.answer(session.call("KV/Put", request, pb.PutResponse))


def run_del(session: Session, words: Words, params: Params) -> None:
    """Delete and print."""
    request = delete_request(words, params)
    session.printer.answer(session.call("KV/DeleteRange", request, pb.DeleteRangeResponse))


def run_compaction(session: Session, words: Words, params: Params) -> None:
    """Compact up to a revision."""
    if len(words) != 1:
        raise CtlError(EXIT_BAD_ARGUMENTS, "compaction command needs 1 argument")
    revision = _revision(words[0].decode("utf-8", "surrogateescape"))
    request = pb.CompactionRequest(revision=revision, physical=params["physical"])
    session.call("KV/Compact", request, pb.CompactionResponse)
    session.printer.line(f"compacted revision {revision}")


def _revision(text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdecimal():
        raise CtlError(EXIT_ERROR, f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
    if not MIN_INT64 <= int(text) <= MAX_INT64:
        raise CtlError(EXIT_ERROR, f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    return int(text)
