"""``dump wal``: the log, one record a line, also of an etcd member.

Entries print as etcd's ``etcd-dump-logs`` has them: term, index, ``norm`` or ``conf``, and what they ask for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from kvorum.golang import quote
from kvorum.proto.etcdserver_pb2 import Metadata, Request
from kvorum.proto.raft_internal_pb2 import InternalRaftRequest
from kvorum.raft.codec import CodecError, decode_conf_change, decode_conf_change_v2, decode_entry
from kvorum.raft.types import ENTRY_CONF_CHANGE, ENTRY_NORMAL, Entry
from kvorum.wal.reader import decode_marker
from kvorum.wal.record import CRC_TYPE, ENTRY_TYPE, METADATA_TYPE, SNAPSHOT_TYPE, STATE_TYPE, decode_state
from kvorum.wal.recovery import read_log

NORMAL: Final = "Normal"
CONFIG_CHANGE: Final = "ConfigChange"
REQUEST: Final = "Request"
INTERNAL: Final = "InternalRaftRequest"
_BY_FIELD: Final = {
    "IRRRange": "range",
    "IRRPut": "put",
    "IRRDeleteRange": "delete_range",
    "IRRTxn": "txn",
    "IRRCompaction": "compaction",
    "IRRLeaseGrant": "lease_grant",
    "IRRLeaseRevoke": "lease_revoke",
    "IRRLeaseCheckpoint": "lease_checkpoint",
}
ENTRY_TYPES: Final = (CONFIG_CHANGE, NORMAL, REQUEST, INTERNAL, *_BY_FIELD)
_EXCERPT_CHARS: Final = 1000
_CHANGE_NAMES: Final = (
    "ConfChangeAddNode",
    "ConfChangeRemoveNode",
    "ConfChangeUpdateNode",
    "ConfChangeAddLearnerNode",
)
_RECORD_NAMES: Final = {
    METADATA_TYPE: "metadata",
    STATE_TYPE: "state",
    CRC_TYPE: "crc",
    SNAPSHOT_TYPE: "snapshot",
}


@dataclass(frozen=True)
class Filter:
    """Which records to print, and how long."""

    start_index: int = 0
    entry_types: frozenset[str] = frozenset((NORMAL, CONFIG_CHANGE))
    all_records: bool = False
    """Also what is no entry: metadata, hard states, markers, checksums, each with its place in the file."""
    full: bool = False
    """Do not shorten long entries."""


def dump_wal(folder: Path, chosen: Filter, write: Callable[[str], None]) -> None:
    """Print the log's records; raises WalError or OSError when it cannot be read on."""

    def record(path: str, offset: int, kind: int, data: bytes) -> None:
        place = f"{Path(path).name}:{offset}\t" if chosen.all_records else ""
        if kind == ENTRY_TYPE:
            entry = decode_entry(data)
            if entry.index >= chosen.start_index and entry_types(entry) & chosen.entry_types:
                write(f"{place}{entry_line(entry, full=chosen.full)}\n")
        elif chosen.all_records:
            write(f"{place}{_RECORD_NAMES[kind]}\t{_record_text(kind, data)}\n")

    if not chosen.all_records:
        write("term\t     index\ttype\tdata\n")
    read_log(str(folder), on_record=record)


def entry_types(entry: Entry) -> frozenset[str]:
    """Return the names of ``--entry-type`` that an entry goes by."""
    if entry.type != ENTRY_NORMAL:
        return frozenset((CONFIG_CHANGE,))
    request = _request(entry.data)
    if isinstance(request, InternalRaftRequest):
        asked = {name for name, field in _BY_FIELD.items() if request.HasField(field)}
        return frozenset((NORMAL, INTERNAL, *asked))
    return frozenset((NORMAL, REQUEST))


def entry_line(entry: Entry, *, full: bool) -> str:
    """Return an entry as one line."""
    head = f"{entry.term:4d}\t{entry.index:10d}\t"
    if entry.type != ENTRY_NORMAL:
        return f"{head}conf\t{_conf_change(entry)}"
    request = _request(entry.data)
    if request is None:
        text = "???"
    elif not entry.data:
        text = "empty"  # what a new leader begins its term with
    else:
        text = text_format.MessageToString(request, as_one_line=True)
    if len(text) > _EXCERPT_CHARS and not full:
        text = f"{text[:_EXCERPT_CHARS]}... ({len(entry.data)} bytes)"
    return f"{head}norm\t{text}"


def _request(data: bytes) -> Message | None:
    for kind in (InternalRaftRequest, Request):
        try:
            return kind.FromString(data)
        except DecodeError:
            continue
    return None


def _conf_change(entry: Entry) -> str:
    try:
        if entry.type == ENTRY_CONF_CHANGE:
            change = decode_conf_change(entry.data)
            text = f"method={_change_name(change.type)} id={change.node_id:x}"
            return f"{text} context={quote(change.context)}" if change.context else text
        changes = decode_conf_change_v2(entry.data)
    except CodecError:
        return "???"
    steps = " ".join(f"{_change_name(item.type)}({item.node_id:x})" for item in changes.changes)
    return f"transition={changes.transition} changes=[{steps}]"


def _change_name(kind: int) -> str:
    return _CHANGE_NAMES[kind] if kind < len(_CHANGE_NAMES) else str(kind)


def _record_text(kind: int, data: bytes) -> str:
    if kind == METADATA_TYPE:
        metadata = Metadata.FromString(data)
        return f"nodeID={metadata.NodeID:x} clusterID={metadata.ClusterID:x}"
    if kind == STATE_TYPE:
        state = decode_state(data)
        return f"term={state.term} vote={state.vote:x} commit={state.commit}"
    if kind == SNAPSHOT_TYPE:
        marker = decode_marker(data)
        return f"term={marker.term} index={marker.index}"
    return ""
