"""``snapshot save``, ``alarm`` and ``defrag``.

Source of behaviour: etcdctl ``command/{snapshot,alarm,defrag}_command.go``, ``client/v3/snapshot``.
"""

import os
from typing import Final

from kvorum.ctl.endpoints import cluster_endpoints
from kvorum.ctl.errors import EXIT_BAD_ARGUMENTS, EXIT_ERROR, EXIT_INTERRUPTED, CallError, CtlError
from kvorum.ctl.keys import Params, Words
from kvorum.ctl.session import Session
from kvorum.proto import rpc_pb2 as pb

_SECTOR_BYTES: Final = 512
_DIGEST_BYTES: Final = 32


def run_snapshot_save(session: Session, words: Words, params: Params) -> None:
    """Save a member's database; the file has its name only when it is whole."""
    if len(words) != 1:
        raise CtlError(EXIT_BAD_ARGUMENTS, "snapshot save expects one argument")
    path = os.fsdecode(words[0])
    endpoints = session.settings.endpoints
    if len(endpoints) != 1:
        raise CtlError(
            EXIT_INTERRUPTED,
            f"snapshot must be requested to one selected node, not multiple [{' '.join(endpoints)}]",
        )
    part = path + ".part"
    try:
        size = _fetch(session, part)
        if size % _SECTOR_BYTES != _DIGEST_BYTES:
            raise CtlError(EXIT_INTERRUPTED, f"sha256 checksum not found [bytes: {size}]")
        os.rename(part, path)
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise CtlError(EXIT_INTERRUPTED, f"could not open {part} (open {part}: {problem})") from None
    finally:
        if os.path.exists(part):
            os.unlink(part)
    session.printer.line(f"Snapshot saved at {path}")


def _fetch(session: Session, path: str) -> int:
    """Write the snapshot to a file, durably; returns its size in bytes."""
    _ = session.printer
    with open(path, "wb", opener=_private) as file:
        try:
            for piece in session.client.stream(
                "Maintenance/Snapshot", pb.SnapshotRequest(), pb.SnapshotResponse
            ):
                file.write(piece.blob)
        except CallError as error:
            raise CtlError(EXIT_INTERRUPTED, error.message) from None
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def run_alarm_list(session: Session, words: Words, params: Params) -> None:
    """Print the alarms that are raised."""
    _alarm(session, words, "list", pb.AlarmRequest.GET)


def run_alarm_disarm(session: Session, words: Words, params: Params) -> None:
    """Disarm every alarm, and print what was disarmed."""
    _no_words(words, "disarm")
    raised = session.call("Maintenance/Alarm", pb.AlarmRequest(action=pb.AlarmRequest.GET), pb.AlarmResponse)
    answer = pb.AlarmResponse()
    for alarm in raised.alarms:
        request = pb.AlarmRequest(
            action=pb.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm
        )
        disarmed = session.call("Maintenance/Alarm", request, pb.AlarmResponse)
        answer.alarms.extend(disarmed.alarms)
    session.printer.answer(answer)


def _alarm(session: Session, words: Words, name: str, action: pb.AlarmRequest.AlarmAction) -> None:
    _no_words(words, name)
    session.printer.answer(
        session.call("Maintenance/Alarm", pb.AlarmRequest(action=action), pb.AlarmResponse)
    )


def _no_words(words: Words, name: str) -> None:
    if words:
        raise CtlError(EXIT_BAD_ARGUMENTS, f"alarm {name} command accepts no arguments")


def run_defrag(session: Session, words: Words, params: Params) -> None:
    """Give the space of deleted data back, on each endpoint."""
    failed = False
    for endpoint in cluster_endpoints(session, params):
        try:
            session.call("Maintenance/Defragment", pb.DefragmentRequest(), pb.DefragmentResponse, endpoint)
        except CallError as error:
            failed = True
            session.streams.error(f"Failed to defragment etcd member[{endpoint}] ({error.message})\n")
        else:
            session.printer.line(f"Finished defragmenting etcd member[{endpoint}]")
    if failed:
        raise CtlError(EXIT_ERROR)
