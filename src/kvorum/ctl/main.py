"""The ``kvorumctl`` command: find the command, read its flags, run it, turn its end into an exit code."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from kvorum import ETCD_VERSION, __version__
from kvorum.ctl import endpoints, keys, leases, locks, maintenance, members, txn, watching
from kvorum.ctl.arguments import CommandLine, add_environment, find_command, parse
from kvorum.ctl.errors import EXIT_ERROR, CtlError
from kvorum.ctl.session import Session, StandardStreams
from kvorum.ctl.settings import GLOBAL_NAMES, Settings, global_options, settings_of
from kvorum.ctl.values import TEXT
from kvorum.log_outputs import FdOutput
from kvorum.logging import Logger

PROGRAM: Final = "kvorumctl"

Body = Callable[[Session, keys.Words, keys.Params], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code.

    Args:
        argv: The command line without the program's name; None for the process's own.
    """
    try:
        _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except CtlError as error:
        _say(f"Error: {error.message}\n" if error.message else "")
        return error.code
    except click.ClickException as error:
        _say(f"Error: {error.format_message()}\n")
        return EXIT_ERROR
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read has gone; say nothing at exit either
        return EXIT_ERROR
    except KeyboardInterrupt:
        return 130
    return 0


def _say(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(text)


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    command, path, rest = find_command(arguments, COMMANDS, PROGRAM)
    line = parse(rest, command, path)
    line.help = line.help or isinstance(command, click.Group)
    if not line.help and path != ["version"]:
        add_environment(line, global_options(), os.environ, Logger([FdOutput(2)]))
    COMMANDS.main(line.for_click(), prog_name=PROGRAM, standalone_mode=False, obj=line)


def _command(
    name: str, words: str, help_text: str, options: Sequence[click.Option], body: Body
) -> click.Command:
    """Return a command whose body gets a session, its words and its own flags."""

    @click.pass_context
    def callback(context: click.Context, /, **params: Any) -> None:
        line: CommandLine = context.obj
        given = frozenset(name.replace("-", "_") for name, _ in line.flags)
        settings = settings_of({key: params.pop(key) for key in GLOBAL_NAMES}, given)
        raw = [os.fsencode(word) for word in params.pop("words")]
        if settings.debug:
            _print_flags(settings)
        session = Session(settings, StandardStreams(), line.before_dashes)
        try:
            body(session, raw, params)
        finally:
            session.close()

    arguments = click.Argument(["words"], nargs=-1, type=TEXT, metavar=words)
    return click.Command(
        name, params=[*options, *global_options(), arguments], callback=callback, help=help_text
    )


def _print_flags(settings: Settings) -> None:
    for name in sorted(Settings.__dataclass_fields__):
        _say(f"ETCDCTL_{name.upper()}={getattr(settings, name)}\n")


def _print_version(session: Session, words: keys.Words, params: keys.Params) -> None:
    sys.stdout.write(f"etcdctl version: {ETCD_VERSION}\n")
    sys.stdout.write(f"API version: {ETCD_VERSION.rpartition('.')[0]}\n")
    sys.stdout.write(f"{PROGRAM} version: {__version__}\n")


def _commands() -> click.Group:
    root = click.Group(PROGRAM, help="Talk to an etcd or Kvorum cluster.", params=[*global_options()])
    for command in (
        _command("get", "KEY [RANGE_END]", "Get a key or a range of keys.", keys.get_options(), keys.run_get),
        _command(
            "put",
            "KEY [VALUE]",
            "Put a key; a value not given is read from stdin.",
            keys.put_options(),
            keys.run_put,
        ),
        _command(
            "del", "KEY [RANGE_END]", "Delete a key or a range of keys.", keys.del_options(), keys.run_del
        ),
        _command("txn", "", "Commit a transaction read from stdin.", txn.txn_options(), txn.run_txn),
        _command(
            "compaction",
            "REVISION",
            "Forget the history before a revision.",
            keys.compaction_options(),
            keys.run_compaction,
        ),
        _command("version", "", "Print the version.", [], _print_version),
    ):
        root.add_command(command)
    endpoint = click.Group(
        "endpoint",
        help="Ask endpoints about themselves.",
        params=[*endpoints.endpoint_options(), *global_options()],
    )
    ask = endpoints.endpoint_options
    endpoint.add_command(_command("health", "", "Check that endpoints serve.", ask(), endpoints.run_health))
    endpoint.add_command(_command("status", "", "Print endpoints' status.", ask(), endpoints.run_status))
    endpoint.add_command(
        _command(
            "hashkv",
            "",
            "Print the hash of endpoints' keys.",
            endpoints.hashkv_options(),
            endpoints.run_hashkv,
        )
    )
    for group in (endpoint, *_groups()):
        root.add_command(group)
    for command in _long_commands():
        root.add_command(command)
    return root


def _long_commands() -> list[click.Command]:
    """Commands that wait for something, and those of one word about the cluster."""
    ask = endpoints.endpoint_options
    return [
        _command(
            "watch",
            "[KEY] [RANGE_END] [-- COMMAND]",
            "Print events as they come.",
            watching.watch_options(),
            watching.run_watch,
        ),
        _command("lock", "NAME [COMMAND]", "Take a lock and hold it.", locks.lock_options(), locks.run_lock),
        _command(
            "elect",
            "ELECTION [PROPOSAL]",
            "Stand for an election, or watch it.",
            locks.elect_options(),
            locks.run_elect,
        ),
        _command("move-leader", "MEMBER", "Hand leadership over.", [], members.run_move_leader),
        _command("defrag", "", "Give back the space of deleted data.", ask(), maintenance.run_defrag),
    ]


def _groups() -> list[click.Group]:
    """Commands of two words."""
    return [
        _group(
            "member",
            "The cluster's members.",
            _command("add", "NAME", "Add a member.", members.add_options(), members.run_add),
            _command("remove", "MEMBER", "Remove a member.", [], members.run_remove),
            _command(
                "update",
                "MEMBER",
                "Give a member other peer URLs.",
                members.update_options(),
                members.run_update,
            ),
            _command("promote", "MEMBER", "Give a learner its vote.", [], members.run_promote),
            _command("list", "", "Print the members.", [], members.run_list),
        ),
        _group(
            "lease",
            "Leases.",
            _command("grant", "TTL", "Grant a lease.", [], leases.run_grant),
            _command("revoke", "LEASE", "Revoke a lease, and with it its keys.", [], leases.run_revoke),
            _command(
                "timetolive",
                "LEASE",
                "Print what is left of a lease.",
                leases.time_to_live_options(),
                leases.run_time_to_live,
            ),
            _command("list", "", "Print the leases.", [], leases.run_list),
            _command(
                "keep-alive",
                "LEASE",
                "Renew a lease until it is gone.",
                leases.keep_alive_options(),
                leases.run_keep_alive,
            ),
        ),
        _group(
            "alarm",
            "Alarms.",
            _command("list", "", "Print the alarms.", [], maintenance.run_alarm_list),
            _command("disarm", "", "Disarm all alarms.", [], maintenance.run_alarm_disarm),
        ),
        _group(
            "snapshot",
            "Backups of a member.",
            _command("save", "FILENAME", "Save a member's database.", [], maintenance.run_snapshot_save),
        ),
    ]


def _group(name: str, help_text: str, *commands: click.Command) -> click.Group:
    group = click.Group(name, help=help_text, params=[*global_options()])
    for command in commands:
        group.add_command(command)
    return group


COMMANDS: Final = _commands()


if __name__ == "__main__":
    sys.exit(main())
