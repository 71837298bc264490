"""From etcdctl's command line to one that click reads.

etcdctl's libraries (cobra, pflag) let global flags stand before and after the command, booleans take
``=false``, and a command be shortened while it stays unambiguous. This module finds the command, checks the
flags with pflag's texts, adds ``ETCDCTL_*`` variables, and writes every flag as ``--name=value`` in front of
``--`` and the words; click converts the values and calls the command.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import click

from kvorum.ctl.errors import EXIT_ERROR, CtlError
from kvorum.ctl.values import BOOL
from kvorum.logging import Logger

HELP_FLAGS = ("-h", "--help")


@dataclass
class CommandLine:
    """A command's path, its flags by name in the order given, and its words."""

    path: list[str]
    flags: list[tuple[str, str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    help: bool = False
    before_dashes: int | None = None
    """How many words stood before ``--``; None without one."""

    def for_click(self) -> list[str]:
        """Return the arguments that click parses unambiguously."""
        if self.help:
            return [*self.path, "--help"]
        return [*self.path, *(f"--{name}={value}" for name, value in self.flags), "--", *self.words]


def find_command(
    arguments: Sequence[str], root: click.Command, program: str
) -> tuple[click.Command, list[str], list[str]]:
    """Return the command, the names that lead to it, and the arguments without those names.

    Raises:
        CtlError: There is no such command.
    """
    node, path, rest = root, list[str](), list[str]()
    waiting = iter(arguments)
    for word in waiting:
        if word == "--":
            rest += [word, *waiting]
        elif word.startswith("-") and len(word) > 1:
            rest.append(word)
            if _takes_next(word, node):
                rest += [next_word for next_word in [next(waiting, None)] if next_word is not None]
        elif isinstance(node, click.Group):
            child = _child(node, word)
            if child is None:
                where = " ".join([program, *path])
                raise CtlError(
                    EXIT_ERROR, f'unknown command "{word}" for "{where}"\nRun \'{where} --help\' for usage.'
                )
            node = child
            path.append(child.name or word)
        else:
            rest.append(word)
    return node, path, rest


def _child(group: click.Group, word: str) -> click.Command | None:
    if word in group.commands:
        return group.commands[word]
    found = [command for name, command in group.commands.items() if name.startswith(word)]
    return found[0] if len(found) == 1 else None


def parse(arguments: Sequence[str], command: click.Command, path: Sequence[str] = ()) -> CommandLine:
    """Read the flags and words of one command.

    Raises:
        CtlError: In pflag's words.
    """
    line = CommandLine(list(path))
    waiting = iter(arguments)
    for word in waiting:
        if word == "--":
            line.before_dashes = len(line.words)
            line.words += waiting
        elif word in HELP_FLAGS:
            line.help = True
        elif word.startswith("--"):
            _long(word, command, waiting, line)
        elif word.startswith("-") and len(word) > 1:
            _short(word, command, waiting, line)
        else:
            line.words.append(word)
    return line


def _long(word: str, command: click.Command, waiting: Iterator[str], line: CommandLine) -> None:
    name, equals, value = word[2:].partition("=")
    if not name or name[0] in "-=":
        raise CtlError(EXIT_ERROR, f"bad flag syntax: {word}")
    option = _option(command, f"--{name}")
    if option is None:
        raise CtlError(EXIT_ERROR, f"unknown flag: --{name}")
    if not equals:
        value = "true" if option.type is BOOL else _next(waiting, f"--{name}")
    line.flags.append((name, value))


def _short(word: str, command: click.Command, waiting: Iterator[str], line: CommandLine) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        option = _option(command, f"-{letter}")
        if option is None:
            if letter == "h":
                line.help = True
                continue
            raise CtlError(EXIT_ERROR, f"unknown shorthand flag: '{letter}' in {word}")
        name = max(option.opts, key=len).removeprefix("--")
        if letters.startswith("="):
            value, letters = letters[1:], ""
        elif option.type is BOOL:
            value = "true"
        elif letters:
            value, letters = letters, ""
        else:
            value = _next(waiting, f"'{letter}' in {word}")
        line.flags.append((name, value))


def _next(waiting: Iterator[str], what: str) -> str:
    value = next(waiting, None)
    if value is None:
        raise CtlError(EXIT_ERROR, f"flag needs an argument: {what}")
    return value


def _takes_next(word: str, command: click.Command) -> bool:
    if "=" in word or (len(word) > 2 and not word.startswith("--")):
        return False
    option = _option(command, word)
    return option is not None and option.type is not BOOL


def _option(command: click.Command, name: str) -> click.Option | None:
    for param in command.params:
        if isinstance(param, click.Option) and name in param.opts:
            return param
    return None


def add_environment(
    line: CommandLine, inherited: Sequence[click.Option], environment: Mapping[str, str], log: Logger
) -> None:
    """Add the ``ETCDCTL_*`` variables of global flags that are not given; unknown ones are logged.

    Raises:
        CtlError: A variable and its flag are both given.
    """
    given = {name for name, _ in line.flags}
    known = {}
    for option in inherited:
        name = max(option.opts, key=len).removeprefix("--")
        known["ETCDCTL_" + name.upper().replace("-", "_")] = name
    for variable, value in environment.items():
        known_name = known.get(variable)
        if known_name is not None and known_name in given:
            log.fatal(
                "conflicting environment variable is shadowed by corresponding command-line flag"
                " (either unset environment variable or disable flag))",
                {"environment-variable": variable},
            )
            raise CtlError(EXIT_ERROR)
        if known_name is not None and value:
            line.flags.append((known_name, value))
        elif variable.startswith("ETCDCTL_") and known_name is None:
            log.warn("unrecognized environment variable", {"environment-variable": f"{variable}={value}"})
