"""The ``kvorumutl`` command. Exit codes: 0 all well, 1 something is wrong, 2 the command line is."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from kvorum import ETCD_VERSION, __version__
from kvorum.golang import human_bytes
from kvorum.log_outputs import FdOutput
from kvorum.logging import CONSOLE, Logger, capture_standard_logging
from kvorum.mvcc.backend import BackendError
from kvorum.mvcc.store import CompactedError, FutureRevisionError
from kvorum.server.takeover import TakeoverError
from kvorum.utl.backup import BackupError, BackupStatus, Restore, read_backup
from kvorum.utl.convert import convert_directory
from kvorum.utl.datadir import DataDir, DataDirError
from kvorum.utl.dump_keys import Selection, dump_history, dump_keys
from kvorum.utl.dump_wal import ENTRY_TYPES, Filter, dump_wal
from kvorum.utl.status import read_status
from kvorum.utl.verify import Verdict, verify_data_dir
from kvorum.wal.errors import WalError

PROGRAM: Final = "kvorumutl"
_TROUBLE: Final = (DataDirError, BackupError, TakeoverError, BackendError, WalError, OSError)
_Command = Callable[..., Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code.

    Args:
        argv: The command line without the program's name; None for the process's own.
    """
    restore = capture_standard_logging(Logger([FdOutput(2)], format=CONSOLE))
    try:
        result = COMMANDS.main(argv, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CompactedError:
        return _failed("that revision has been compacted")
    except FutureRevisionError:
        return _failed("that revision has not been made yet")
    except _TROUBLE as error:
        return _failed(str(error))
    finally:
        restore()


def _failed(text: str) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"Error: {text}\n")
    return 1


def _of_directory(command: _Command) -> _Command:
    """Add what every command takes: the data directory, and where its log is if elsewhere."""
    decorated = click.option("--wal-dir", default="", help="The member's --wal-dir, if it had one.")(command)
    return click.argument("data-dir", type=click.Path(path_type=Path))(decorated)


def _write_out(*formats: str) -> Callable[[_Command], _Command]:
    return click.option(
        "-w", "--write-out", type=click.Choice(formats), default=formats[0], show_default=True
    )


@click.group(help="Look into the data directory of a member that does not run.")
def COMMANDS() -> None:  # noqa: N802 - the group is a constant
    """Hold the commands."""


@COMMANDS.command(help="Show where a member stands: revision, keys, size, hash, log.")
@_of_directory
@_write_out("table", "json")
def status(data_dir: Path, wal_dir: str, write_out: str) -> None:
    """Print the status."""
    data = DataDir(data_dir, wal_dir)
    with data.locked():
        shown = asdict(read_status(data))
    if write_out == "json":
        click.echo(json.dumps(shown))
    else:
        _print_table(shown)


def _print_table(values: dict[str, Any]) -> None:
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in values.items():
        table.add_row(name.replace("_", " "), str(value))
    Console(file=sys.stdout).print(table)


@COMMANDS.command(help="Read everything and say what is wrong, in which file, and what to do.")
@_of_directory
@_write_out("simple", "json")
def verify(data_dir: Path, wal_dir: str, write_out: str) -> int:
    """Print the findings; the result is the exit code."""
    data = DataDir(data_dir, wal_dir)
    with data.locked():
        verdict = verify_data_dir(data)
    if write_out == "json":
        click.echo(json.dumps(asdict(verdict)))
    else:
        _print_verdict(verdict)
    return 1 if verdict.findings else 0


def _print_verdict(verdict: Verdict) -> None:
    for finding in verdict.findings:
        click.echo(click.style(f"{finding.file}: {finding.problem}", fg="red"))
        click.echo(f"  what to do: {finding.remedy}")
    if not verdict.findings:
        click.echo(
            f"all is well: {verdict.records} records of {verdict.keys} keys, revision {verdict.revision};"
            f" log up to index {verdict.last_index}, of which the database has {verdict.consistent_index};"
            f" {verdict.snapshots} snapshots"
        )


@COMMANDS.group(help="Print what is in the files.")
def dump() -> None:
    """Hold the dumps."""


@dump.command("wal", help="Print the log, also of an etcd member.")
@_of_directory
@click.option("--start-index", type=int, default=0, help="Begin at this entry.")
@click.option(
    "--entry-type",
    default="Normal,ConfigChange",
    show_default=True,
    help=f"Some of {', '.join(ENTRY_TYPES)}.",
)
@click.option("--records", is_flag=True, help="Print every record with its place, not only entries.")
@click.option("--full", is_flag=True, help="Do not shorten long entries.")
def dump_the_wal(
    data_dir: Path, wal_dir: str, start_index: int, entry_type: str, records: bool, full: bool
) -> None:
    """Print the log."""
    types = frozenset(filter(None, entry_type.split(",")))
    unknown = types - frozenset(ENTRY_TYPES)
    if unknown:
        raise click.UsageError(f"{sorted(unknown)[0]} is no entry type; there are {', '.join(ENTRY_TYPES)}")
    data = DataDir(data_dir, wal_dir)
    with data.locked():
        dump_wal(data.wal, Filter(start_index, types, records, full), _write)


@dump.command("keys", help="Print the keys and values.")
@_of_directory
@click.option("--prefix", default="", help="Only keys that begin so.")
@click.option("--rev", type=int, default=0, help="As they were at this revision.")
@click.option("--limit", type=int, default=0, help="At most so many.")
@click.option("--keys-only", is_flag=True, help="Leave the values out.")
@click.option("--history", is_flag=True, help="Print every change that is still there instead.")
@_write_out("simple", "json")
def dump_the_keys(
    data_dir: Path,
    wal_dir: str,
    prefix: str,
    rev: int,
    limit: int,
    keys_only: bool,
    history: bool,
    write_out: str,
) -> None:
    """Print the keys."""
    if history and write_out == "json":
        raise click.UsageError("--history has no JSON form")
    data = DataDir(data_dir, wal_dir)
    chosen = Selection(prefix.encode("utf-8", "surrogateescape"), rev, limit, keys_only, write_out == "json")
    with data.locked(), data.store() as store:
        (dump_history if history else dump_keys)(store, chosen, _write)


@COMMANDS.command(help="Print the hash of the keys up to a revision, as endpoint hashkv does.")
@_of_directory
@click.option("--rev", type=int, default=0, help="Up to this revision (default: the current one).")
@_write_out("simple", "json")
def hashkv(data_dir: Path, wal_dir: str, rev: int, write_out: str) -> None:
    """Print hash, revision and compact revision."""
    data = DataDir(data_dir, wal_dir)
    with data.locked(), data.store() as store:
        result = store.hash_kv(rev)
    revision = rev or result.revision
    if write_out == "json":
        shown = {"hash": result.hash, "hash_revision": revision, "compact_revision": result.compact_revision}
        click.echo(json.dumps(shown))
    else:
        click.echo(f"{result.hash}, {revision}, {result.compact_revision}")


@COMMANDS.group(help="Work on a backup, as etcdctl snapshot save writes it.")
def snapshot() -> None:
    """Hold the commands for backups."""


@snapshot.command("status", help="Show what is in a backup: hash, revision, total keys, total size.")
@click.argument("filename", type=click.Path(path_type=Path))
@_write_out("simple", "json", "fields", "table")
def snapshot_status(filename: Path, write_out: str) -> None:
    """Print it as etcdutl does."""
    shown = read_backup(filename)
    if write_out == "json":
        click.echo(json.dumps(asdict(shown), separators=(",", ":")))
    elif write_out == "fields":
        click.echo(f'"Hash" : {shown.hash}\n"Revision" : {shown.revision}')
        click.echo(f'"Keys" : {shown.totalKey}\n"Size" : {shown.totalSize}')
    elif write_out == "table":
        _print_table(dict(zip(("hash", "revision", "total keys", "total size"), _row(shown), strict=True)))
    else:
        click.echo(", ".join(_row(shown)))


def _row(shown: BackupStatus) -> tuple[str, str, str, str]:
    return f"{shown.hash:x}", str(shown.revision), str(shown.totalKey), human_bytes(shown.totalSize)


@snapshot.command("restore", help="Make a member's directory, of a new cluster, from a backup.")
@click.argument("filename", type=click.Path(path_type=Path))
@click.option("--data-dir", type=click.Path(path_type=Path), help="The directory to make.  [NAME.etcd]")
@click.option("--wal-dir", default="", help="Where its log shall be, if elsewhere.")
@click.option("--name", default="default", show_default=True, help="This member's name.")
@click.option("--initial-cluster", default="default=http://localhost:2380", show_default=True)
@click.option("--initial-cluster-token", default="etcd-cluster", show_default=True)
@click.option("--initial-advertise-peer-urls", default="http://localhost:2380", show_default=True)
@click.option("--skip-hash-check", is_flag=True, help="For a file without a checksum: a member's db.")
def restore(
    filename: Path,
    data_dir: Path | None,
    wal_dir: str,
    name: str,
    initial_cluster: str,
    initial_cluster_token: str,
    initial_advertise_peer_urls: str,
    skip_hash_check: bool,
) -> None:
    """Restore, and say what is there now."""
    target = data_dir or Path(f"{name}.etcd")
    member = Restore(
        filename,
        target,
        wal_dir,
        name,
        initial_cluster,
        initial_cluster_token,
        initial_advertise_peer_urls,
        skip_hash_check,
    ).run()
    click.echo(f"restored {filename} to {target} for member {member.id:x}")


@COMMANDS.command(help="Make a Kvorum member's directory of a stopped etcd member's, which stays as it is.")
@click.option("--data-dir", required=True, type=click.Path(path_type=Path), help="The etcd member's.")
@click.option("--wal-dir", default="", help="The etcd member's --wal-dir, if it had one.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The directory to make.")
@click.option("--out-wal-dir", default="", help="Where its log shall be, if elsewhere.")
def convert(data_dir: Path, wal_dir: str, out: Path, out_wal_dir: str) -> None:
    """Convert, and say what is there now."""
    done = convert_directory(data_dir, wal_dir, out, out_wal_dir)
    for bucket in done.left_out:
        click.echo(f"left out the bucket {bucket}, which is unknown here", err=True)
    click.echo(
        f"converted member {done.member_id:x} of cluster {done.cluster_id:x}: {done.records} records,"
        f" revision {done.revision}, log up to index {done.origin.last_index}"
    )


@COMMANDS.command(help="Print the version.")
def version() -> None:
    """Print the version."""
    click.echo(f"etcdutl version: {ETCD_VERSION}\n{PROGRAM} version: {__version__}")


def _write(text: str) -> None:
    sys.stdout.write(text)


if __name__ == "__main__":
    sys.exit(main())
