"""``verify``: whether a member's files are sound, and if not, which one, what is wrong and what to do.

Three parts are read whole, each by a reader that believes nothing: the database (``mvcc/check.py``, then the
store's own invariants), every record of the log, every ``.snap`` file. Then they are held against each other:
the database must lie between the newest snapshot that the log names and the log's end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kvorum.mvcc.backend import BackendError
from kvorum.mvcc.check import Report, check_database
from kvorum.snapshot.snap_file import SnapFileError, read_snap_file, snap_name
from kvorum.utl.datadir import DataDir
from kvorum.utl.scan import LogScan
from kvorum.v2store.store import Store as V2Store
from kvorum.wal.errors import REMEDY, CorruptWalError, WalError
from kvorum.wal.record import WalSnapshot
from kvorum.wal.recovery import verify

DATABASE_REMEDY: Final = (
    "the database cannot be trusted: restore the member from a snapshot, or, in a cluster, remove the member,"
    " clear its data directory and add it again"
)
SNAP_REMEDY: Final = (
    "move the file away: the member starts from an older one if the log still reaches back to it"
)
TOGETHER_REMEDY: Final = "restore the member's directory as a whole, from one moment, or from a snapshot"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    file: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class Verdict:
    """What was read, and what is wrong with it."""

    records: int
    keys: int
    revision: int
    consistent_index: int
    last_index: int
    snapshots: int
    findings: tuple[Finding, ...]


def verify_data_dir(data: DataDir) -> Verdict:
    """Read everything; raises DataDirError if there is no database at all."""
    findings: list[Finding] = []
    report = _database(data, findings)
    scan = _log(data, findings)
    names = data.snap_names()
    findings += _snapshots(data, names)
    if report is not None and scan is not None and not findings:
        findings += _together(data, report, scan)
    return Verdict(
        records=report.records if report else 0,
        keys=report.keys if report else 0,
        revision=report.revision if report else 0,
        consistent_index=report.consistent_index if report else 0,
        last_index=scan.last_index if scan else 0,
        snapshots=len(names),
        findings=tuple(findings),
    )


def _database(data: DataDir, findings: list[Finding]) -> Report | None:
    file = str(data.database)
    report = None
    try:
        if data.database.is_file():
            report = check_database(file)
            findings += [Finding(file, problem, DATABASE_REMEDY) for problem in report.problems]
        if not findings:
            with data.store() as store:
                store.check_invariants()
                V2Store(store, lambda: 0).check_invariants()
    except (BackendError, AssertionError) as error:
        findings.append(Finding(file, str(error), DATABASE_REMEDY))
    return report


def _log(data: DataDir, findings: list[Finding]) -> LogScan | None:
    folder = str(data.wal)
    try:
        scan = LogScan(data.wal)
        scan.reader.finish(folder)
        committed = scan.committed_markers()
        # From the newest snapshot on, nothing that is committed may be missing.
        start = committed[-1] if committed else WalSnapshot()
        verify(folder, start)
    except CorruptWalError as error:
        findings.append(Finding(error.path, f"{error.reason} at byte offset {error.offset}", REMEDY))
    except WalError as error:
        findings.append(Finding(folder, str(error), REMEDY))
    except OSError as error:
        findings.append(Finding(error.filename or folder, error.strerror or str(error), REMEDY))
    else:
        return scan
    return None


def _snapshots(data: DataDir, names: list[str]) -> Iterator[Finding]:
    for name in names:
        path = str(data.snap / name)
        try:
            metadata = read_snap_file(path).metadata
        except (SnapFileError, OSError) as error:
            yield Finding(path, str(error), SNAP_REMEDY)
            continue
        if snap_name(metadata.term, metadata.index) != name:
            yield Finding(path, "it holds another snapshot than its name says", SNAP_REMEDY)


def _together(data: DataDir, report: Report, scan: LogScan) -> Iterator[Finding]:
    applied, newest = report.consistent_index, scan.snapshot_index
    if newest and not _has_snap_file(data.snap, newest):
        problem = f"there is no snapshot at index {newest}, which the log names"
        yield Finding(str(data.snap), problem, SNAP_REMEDY)
    if not newest <= applied <= scan.last_index:
        problem = f"it stands at log index {applied}, but the log covers {newest} to {scan.last_index}"
        yield Finding(str(data.database), problem, TOGETHER_REMEDY)


def _has_snap_file(folder: Path, index: int) -> bool:
    return any(folder.glob(f"*-{index:016x}.snap"))
