"""``txn``: a transaction written on standard input.

Three blocks, each ended by an empty line: comparisons (``mod("key") > "0"``), what to do if all of them hold,
what to do otherwise (``put key value``, ``get key --prefix``, ``del key``). Source of behaviour: etcdctl
``command/txn_command.go``.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

import click

from kvorum.ctl import keys
from kvorum.ctl.arguments import find_command, parse
from kvorum.ctl.errors import EXIT_BAD_ARGUMENTS, EXIT_INVALID_INPUT, CtlError
from kvorum.ctl.session import Session
from kvorum.ctl.values import BOOL, TEXT, option
from kvorum.golang import MAX_INT64, MIN_INT64, GoSyntaxError, quote, unquote
from kvorum.proto import rpc_pb2 as pb

ReadLine = Callable[[], bytes]

_WORDS: Final = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|[^'"\s]\S*[^'"\s]?""", re.ASCII)
_RESULTS: Final = {
    "=": pb.Compare.EQUAL,
    "!=": pb.Compare.NOT_EQUAL,
    ">": pb.Compare.GREATER,
    "<": pb.Compare.LESS,
}
_NUMBERS: Final = {
    "ver": (pb.Compare.VERSION, "version"),
    "version": (pb.Compare.VERSION, "version"),
    "c": (pb.Compare.CREATE, "create_revision"),
    "create": (pb.Compare.CREATE, "create_revision"),
    "m": (pb.Compare.MOD, "mod_revision"),
    "mod": (pb.Compare.MOD, "mod_revision"),
}


def txn_options() -> list[click.Option]:
    """Return the flags of ``txn``."""
    return [option(("-i", "--interactive"), BOOL, False, "ask for the parts")]


def read_transaction(read_line: ReadLine, prompt: Callable[[str], None]) -> pb.TxnRequest:
    """Return the transaction that the lines describe.

    Args:
        read_line: Returns the next line with its newline; without one at the end.
        prompt: Called with what is read next.

    Raises:
        CtlError: A line cannot be read, in etcdctl's words.
    """
    request = pb.TxnRequest()
    prompt("compares:")
    request.compare.extend(parse_compare(line) for line in _block(read_line))
    prompt("success requests (get, put, del):")
    request.success.extend(parse_operation(line) for line in _block(read_line))
    prompt("failure requests (get, put, del):")
    request.failure.extend(parse_operation(line) for line in _block(read_line))
    return request


def _block(read_line: ReadLine) -> Iterator[str]:
    while True:
        raw = read_line()
        if not raw.endswith(b"\n"):
            raise CtlError(EXIT_INVALID_INPUT, "EOF")
        line = raw.decode("utf-8", "surrogateescape").strip()
        if not line:
            return
        yield line


def parse_compare(line: str) -> pb.Compare:
    """Return the comparison ``target("key") op "value"``; raises CtlError."""
    target, bracket, rest = line.partition("(")
    if not bracket:
        raise CtlError(EXIT_INVALID_INPUT, f"malformed comparison: {line}")
    key, result, value = _scan(line, target, rest)
    compare = pb.Compare(key=_bytes(key))
    if target in ("val", "value"):
        compare.target, compare.value = pb.Compare.VALUE, _bytes(value)
    elif target == "lease":
        compare.target, compare.lease = pb.Compare.LEASE, _number(line, value, 16)
    elif target in _NUMBERS:
        compare.target, name = _NUMBERS[target]
        setattr(compare, name, _number(line, value, 10))
    else:
        raise CtlError(EXIT_INVALID_INPUT, f"malformed comparison: {line} (unknown target {target})")
    if result not in _RESULTS:
        raise CtlError(EXIT_INVALID_INPUT, f"malformed comparison: {line} (unknown operator {result})")
    compare.result = _RESULTS[result]
    return compare


def _scan(line: str, target: str, rest: str) -> tuple[str, str, str]:
    """Read ``"key") op "value"`` as Go's ``Sscanf("%q) %s %q")`` does."""
    found = ["", "", ""]
    try:
        rest = rest.lstrip(" \t")
        found[0], end = unquote(rest)
        rest = rest[end:]
        if rest[:1] != ")":
            raise GoSyntaxError(line)
        if rest[1:2] not in (" ", "\t"):
            raise GoSyntaxError(line)
        found[1], _, rest = rest[1:].lstrip(" \t").partition(" ")
        found[2], _ = unquote(rest.lstrip(" \t"))
    except GoSyntaxError:
        key, result, value = found
        got = f"{target}({quote(key)}) {result} {quote(value)}"
        raise CtlError(EXIT_INVALID_INPUT, f"malformed comparison: {line}; got {got}") from None
    return found[0], found[1], found[2]


def _number(line: str, text: str, base: int) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits.isascii() and digits.isalnum():
        try:
            number = int(text, base)
        except ValueError:
            number = MAX_INT64 + 1
        if MIN_INT64 <= number <= MAX_INT64:
            return number
    raise CtlError(EXIT_INVALID_INPUT, f"invalid txn compare request: {line}")


def split_words(line: str) -> list[str]:
    """Return the words of a line; quoted ones may hold spaces; raises CtlError for a broken quotation."""
    words = []
    for word in _WORDS.findall(line):
        if word[0] == "'":
            words.append(word[1:-1])
        elif word[0] == '"':
            try:
                words.append(unquote(word)[0])
            except GoSyntaxError:
                raise CtlError(EXIT_INVALID_INPUT, "invalid syntax") from None
        else:
            words.append(word)
    return words


def _no_value() -> bytes:
    return b""  # standard input is the transaction itself


def _operation_group() -> click.Group:
    group = click.Group("txn")
    words = click.Argument(["words"], nargs=-1, type=TEXT)
    for name, options in (
        ("get", keys.get_options()),
        ("put", keys.put_options()),
        ("del", keys.del_options()),
    ):
        group.add_command(click.Command(name, params=[*options, words], add_help_option=False))
    return group


_OPERATIONS: Final = _operation_group()


def parse_operation(line: str) -> pb.RequestOp:
    """Return the request of one line; raises CtlError."""
    words = split_words(line)
    if len(words) < 2:
        raise CtlError(EXIT_INVALID_INPUT, f"invalid txn compare request: {line}")
    try:
        command, path, rest = find_command(words, _OPERATIONS, "txn")
        arguments = parse(rest, command).for_click()
        params = command.make_context(None, arguments).params
    except (CtlError, click.ClickException):
        raise CtlError(EXIT_INVALID_INPUT, f"invalid txn request: {line}") from None
    raw = [_bytes(word) for word in params["words"]]
    if path == ["get"]:
        return pb.RequestOp(request_range=keys.range_request(raw, params))
    if path == ["put"]:
        return pb.RequestOp(request_put=keys.put_request(raw, params, _no_value))
    if path == ["del"]:
        return pb.RequestOp(request_delete_range=keys.delete_request(raw, params))
    raise CtlError(EXIT_INVALID_INPUT, f"invalid txn request: {line}")


def run_txn(session: Session, words: keys.Words, params: keys.Params) -> None:
    """Read a transaction, commit it, print what came of it."""
    if words:
        raise CtlError(EXIT_BAD_ARGUMENTS, "txn command does not accept argument")
    printer = session.printer

    def prompt(text: str) -> None:
        if params["interactive"]:
            printer.line(text)
            printer.writer.flush()

    request = read_transaction(session.streams.read_line, prompt)
    printer.answer(session.call("KV/Txn", request, pb.TxnResponse))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
