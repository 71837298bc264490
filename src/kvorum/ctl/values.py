"""Types of flags as etcdctl's flag library (pflag) reads them, with its error texts."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from kvorum.ctl.errors import EXIT_ERROR, CtlError
from kvorum.duration import parse_duration
from kvorum.golang import GoRangeError, GoSyntaxError, parse_bool, parse_int, quote


class GoType(click.ParamType[Any]):
    """A value in Go's notation; ``reader`` names the function that Go's error text mentions."""

    def __init__(self, name: str, read: Callable[[str], Any], reader: str) -> None:
        self.name = name
        self._read: Final = read
        self._reader: Final = reader

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value; a text that is none ends the command as etcdctl would."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except GoSyntaxError:
            problem = f"{self._reader}: parsing {quote(value)}: invalid syntax"
        except GoRangeError:
            problem = f"{self._reader}: parsing {quote(value)}: value out of range"
        except ValueError as error:
            problem = str(error)
        assert param is not None
        raise CtlError(EXIT_ERROR, f"invalid argument {quote(value)} for {flag_names(param)} flag: {problem}")


BOOL: Final = GoType("", parse_bool, "strconv.ParseBool")
INT64: Final = GoType("int", parse_int, "strconv.ParseInt")
DURATION: Final = GoType("duration", parse_duration, "")
TEXT: Final = click.UNPROCESSED


def flag_names(param: click.Parameter) -> str:
    """Return the flag as pflag names it in errors: ``"-w, --write-out"``."""
    return quote(", ".join(sorted(param.opts, key=len)))


def option(
    declaration: Sequence[str] | str, kind: click.ParamType[Any], default: Any, help_text: str
) -> click.Option:
    """Return an option; booleans may be given without a value, which ``arguments.py`` puts in."""
    names = [declaration] if isinstance(declaration, str) else list(declaration)
    return click.Option(
        names, type=kind, default=default, help=help_text, show_default=default not in ("", False)
    )
