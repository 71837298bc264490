"""What a command prints, in etcdctl's five formats.

``simple`` is for eyes and shells, ``fields`` names everything, ``json`` and ``protobuf`` are the answer
itself, ``table`` is for lists. Not every format knows every answer; the others end with etcdctl's "not
supported". Printers write bytes: keys and values need not be text. Source of behaviour: etcdctl
``command/printer*.go``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, final

from google.protobuf.message import Message

from kvorum.ctl import shown, table
from kvorum.ctl.errors import EXIT_BAD_FEATURE, CtlError
from kvorum.ctl.gojson import dumps, to_plain
from kvorum.golang import human_bytes, quote
from kvorum.proto import kv_pb2 as mvccpb
from kvorum.proto import rpc_pb2 as pb


class Writer(Protocol):
    """Where a printer writes: the process's stdout, as bytes, and its stderr, as text."""

    def out(self, data: bytes) -> None:
        """Write to stdout."""

    def error(self, text: str) -> None:
        """Write to stderr."""

    def flush(self) -> None:
        """Bring out what was written."""


@dataclass(frozen=True)
class Health:
    """One endpoint's health; ``took`` is a duration's text."""

    endpoint: str
    healthy: bool
    took: str
    error: str = ""


Statuses = Sequence[tuple[str, pb.StatusResponse]]
Hashes = Sequence[tuple[str, pb.HashKVResponse]]


class Printer:
    """The base: every answer is refused until a format knows it."""

    format: str = ""

    def __init__(self, writer: Writer, *, hexadecimal: bool = False) -> None:
        self.writer: Final = writer
        self.hexadecimal: Final = hexadecimal
        self.value_only = False

    def line(self, text: str = "") -> None:
        """Write one line of text."""
        self.writer.out(text.encode("utf-8", "surrogateescape") + b"\n")

    def answer(self, response: Message) -> None:
        """Print an answer of KV."""
        raise self._unsupported()

    def events(self, response: pb.WatchResponse) -> None:
        """Print the events of a watch."""
        raise self._unsupported()

    def members(self, response: pb.MemberListResponse) -> None:
        """Print the members of the cluster."""
        self.answer(response)

    def health(self, healths: Sequence[Health]) -> None:
        """Print which endpoints are healthy."""
        raise self._unsupported()

    def statuses(self, statuses: Statuses) -> None:
        """Print the status of endpoints."""
        raise self._unsupported()

    def hashes(self, hashes: Hashes) -> None:
        """Print the hashes of endpoints' keys."""
        raise self._unsupported()

    def _unsupported(self) -> CtlError:
        return CtlError(EXIT_BAD_FEATURE, f"{self.format} not supported as output format")


@final
class SimplePrinter(Printer):
    """Keys and values on lines of their own."""

    format = "simple"

    def answer(self, response: Message) -> None:
        """Print an answer of KV."""
        if isinstance(response, pb.RangeResponse):
            self._pairs(response.kvs)
        elif isinstance(response, pb.PutResponse):
            self.line("OK")
            self._pairs([response.prev_kv] if response.HasField("prev_kv") else [])
        elif isinstance(response, pb.DeleteRangeResponse):
            self.line(str(response.deleted))
            self._pairs(response.prev_kvs)
        elif isinstance(response, pb.TxnResponse):
            self.line("SUCCESS" if response.succeeded else "FAILURE")
            for part in operations(response):
                self.line()
                self.answer(part)
        else:
            for line in shown.simple_lines(response):
                self.line(line)

    def events(self, response: pb.WatchResponse) -> None:
        """Print the events of a watch."""
        for event in response.events:
            self.line(mvccpb.Event.EventType.Name(event.type))
            self._pairs([event.prev_kv] if event.HasField("prev_kv") else [])
            self._pairs([event.kv])

    def _pairs(self, pairs: Sequence[mvccpb.KeyValue]) -> None:
        form = _hexadecimal if self.hexadecimal else bytes
        for pair in pairs:
            if not self.value_only:
                self.writer.out(form(pair.key) + b"\n")
            self.writer.out(form(pair.value) + b"\n")

    def members(self, response: pb.MemberListResponse) -> None:
        """Print one line per member."""
        self._rows(_member_rows(response))

    def health(self, healths: Sequence[Health]) -> None:
        """Print one line per endpoint, the unhealthy ones on stderr."""
        for item in healths:
            if item.error:
                self.writer.error(f"{item.endpoint} is unhealthy: failed to commit proposal: {item.error}\n")
            else:
                self.line(f"{item.endpoint} is healthy: successfully committed proposal: took = {item.took}")

    def statuses(self, statuses: Statuses) -> None:
        """Print one line per endpoint."""
        self._rows(_status_rows(statuses))

    def hashes(self, hashes: Hashes) -> None:
        """Print one line per endpoint."""
        self._rows(_hash_rows(hashes))

    def _rows(self, rows: Sequence[Sequence[str]]) -> None:
        for row in rows:
            self.line(", ".join(row))


@final
class FieldsPrinter(Printer):
    """Every field on a line, name and value."""

    format = "fields"

    def field(self, name: str, value: object) -> None:
        """Print a field; text and bytes are quoted."""
        if isinstance(value, bool):
            text = "true" if value else "false"
        else:
            text = quote(value) if isinstance(value, (str, bytes)) else str(value)
        self.line(f'"{name}" : {text}')

    def answer(self, response: Message) -> None:
        """Print an answer of KV."""
        if isinstance(response, shown.WITHOUT_FIELDS):
            raise self._unsupported()
        header = getattr(response, "header", None)
        if isinstance(header, pb.ResponseHeader):
            self._header(header)
        if isinstance(response, pb.RangeResponse):
            for pair in response.kvs:
                self._pair("", pair)
            self.field("More", response.more)
            self.field("Count", response.count)
        elif isinstance(response, pb.PutResponse) and response.HasField("prev_kv"):
            self._pair("Prev", response.prev_kv)
        elif isinstance(response, pb.DeleteRangeResponse):
            self.field("Deleted", response.deleted)
            for pair in response.prev_kvs:
                self._pair("Prev", pair)
        elif isinstance(response, pb.TxnResponse):
            self.field("Succeeded", response.succeeded)
            for part in operations(response):
                self.answer(part)
        else:
            for name, value in shown.fields(response):
                self.line(f'"{name}" : {value}' if name else "")

    def events(self, response: pb.WatchResponse) -> None:
        """Print the events of a watch."""
        self._header(response.header)
        for event in response.events:
            self.line(f'"Type" : {mvccpb.Event.EventType.Name(event.type)}')
            if event.HasField("prev_kv"):
                self._pair("Prev", event.prev_kv)
            self._pair("", event.kv)

    def _header(self, header: pb.ResponseHeader) -> None:
        self.field("ClusterID", header.cluster_id)
        self.field("MemberID", header.member_id)
        self.field("Revision", header.revision)
        self.field("RaftTerm", header.raft_term)

    def _pair(self, prefix: str, pair: mvccpb.KeyValue) -> None:
        self.field(f"{prefix}Key", pair.key)
        self.field(f"{prefix}CreateRevision", pair.create_revision)
        self.field(f"{prefix}ModRevision", pair.mod_revision)
        self.field(f"{prefix}Version", pair.version)
        self.field(f"{prefix}Value", pair.value)
        self.field(f"{prefix}Lease", pair.lease)

    def members(self, response: pb.MemberListResponse) -> None:
        """Print every member's fields."""
        self._header(response.header)
        for member in response.members:
            self.field("ID", member.ID)
            self.field("Name", member.name)
            for url in member.peerURLs:
                self.field("PeerURL", url)
            for url in member.clientURLs:
                self.field("ClientURL", url)
            self.field("IsLearner", member.isLearner)
            self.line()

    def health(self, healths: Sequence[Health]) -> None:
        """Print every endpoint's health."""
        for item in healths:
            self.field("Endpoint", item.endpoint)
            self.field("Health", item.healthy)
            self.line(f'"Took" : {item.took}')
            self.line(f'"Error" : {item.error}')
            self.line()

    def statuses(self, statuses: Statuses) -> None:
        """Print every endpoint's status."""
        for endpoint, status in statuses:
            self._header(status.header)
            self.field("Version", status.version)
            self.field("DBSize", status.dbSize)
            self.field("Leader", status.leader)
            self.field("IsLearner", status.isLearner)
            self.field("RaftIndex", status.raftIndex)
            self.field("RaftTerm", status.raftTerm)
            self.field("RaftAppliedIndex", status.raftAppliedIndex)
            self.line(f'"Errors" : [{" ".join(status.errors)}]')
            self.field("Endpoint", endpoint)
            self.line()

    def hashes(self, hashes: Hashes) -> None:
        """Print every endpoint's hash."""
        for endpoint, answer in hashes:
            self._header(answer.header)
            self.field("Endpoint", endpoint)
            self.field("Hash", answer.hash)
            self.line()


@final
class JsonPrinter(Printer):
    """The answer in Go's JSON."""

    format = "json"

    def answer(self, response: Message) -> None:
        """Print any answer."""
        self.line(dumps(shown.plain(response)))

    def events(self, response: pb.WatchResponse) -> None:
        """Print the answer of a watch, as Go's client has it."""
        self.line(dumps(shown.plain_events(response)))

    def members(self, response: pb.MemberListResponse) -> None:
        """Print the members; with ``--hex`` the ids as etcdctl's second form has them."""
        if not self.hexadecimal:
            self.answer(response)
            return
        header = response.header
        form = {
            "header": {
                "cluster_id": f"{header.cluster_id:x}",
                "member_id": f"{header.member_id:x}",
                "raft_term": header.raft_term,
            },
            "members": [
                {
                    "ID": f"{member.ID:x}",
                    "name": member.name,
                    "peerURLs": list(member.peerURLs),
                    "clientURLS": list(member.clientURLs),  # etcdctl's spelling
                }
                for member in response.members
            ],
        }
        self.line(dumps(form))

    def health(self, healths: Sequence[Health]) -> None:
        """Print a list of endpoints."""
        form = [
            {"endpoint": item.endpoint, "health": item.healthy, "took": item.took}
            | ({"error": item.error} if item.error else {})
            for item in healths
        ]
        self.line(dumps(form))

    def statuses(self, statuses: Statuses) -> None:
        """Print a list of endpoints."""
        self.line(dumps([{"Endpoint": name, "Status": to_plain(status)} for name, status in statuses]))

    def hashes(self, hashes: Hashes) -> None:
        """Print a list of endpoints."""
        self.line(dumps([{"Endpoint": name, "HashKV": to_plain(answer)} for name, answer in hashes]))


@final
class ProtobufPrinter(Printer):
    """The answer's bytes."""

    format = "protobuf"

    def answer(self, response: Message) -> None:
        """Print any answer; of a lease's, Go's client leaves no more than the header."""
        if isinstance(response, shown.HEADER_ONLY):
            response = response.header
        self.writer.out(response.SerializeToString())

    def events(self, response: pb.WatchResponse) -> None:
        """Print the answer of a watch."""
        kept = pb.WatchResponse(header=response.header, events=response.events)
        self.answer(kept)


@final
class TablePrinter(Printer):
    """Tables, of the lists only."""

    format = "table"

    def members(self, response: pb.MemberListResponse) -> None:
        """Print the members."""
        self._table(
            ("ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"), _member_rows(response)
        )

    def health(self, healths: Sequence[Health]) -> None:
        """Print the endpoints."""
        rows = [
            [item.endpoint, "true" if item.healthy else "false", item.took, item.error] for item in healths
        ]
        self._table(("endpoint", "health", "took", "error"), rows)

    def statuses(self, statuses: Statuses) -> None:
        """Print the endpoints."""
        self._table(_STATUS_HEADER, _status_rows(statuses))

    def hashes(self, hashes: Hashes) -> None:
        """Print the endpoints."""
        self._table(("endpoint", "hash"), _hash_rows(hashes))

    def _table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.writer.out(table.render(header, rows).encode())


_PRINTERS: Final[dict[str, type[Printer]]] = {
    printer.format: printer
    for printer in (SimplePrinter, FieldsPrinter, JsonPrinter, ProtobufPrinter, TablePrinter)
}


def printer_of(name: str, writer: Writer, *, hexadecimal: bool) -> Printer:
    """Return the printer of ``--write-out``; raises CtlError for a name that is none."""
    printer = _PRINTERS.get(name)
    if printer is None:
        raise CtlError(EXIT_BAD_FEATURE, "unsupported output format")
    return printer(writer, hexadecimal=hexadecimal)


def operations(response: pb.TxnResponse) -> list[Message]:
    """Return the answers inside a transaction's answer."""
    parts: list[Message] = []
    for item in response.responses:
        which = item.WhichOneof("response")
        if which is not None:
            parts.append(getattr(item, which))
    return parts


_STATUS_HEADER: Final = (
    "endpoint",
    "ID",
    "version",
    "db size",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
)


def _hexadecimal(data: bytes) -> bytes:
    return "".join(f"\\x{byte:02x}" for byte in data).encode()


def _true(value: bool) -> str:
    return "true" if value else "false"


def _member_rows(response: pb.MemberListResponse) -> list[list[str]]:
    return [
        [
            f"{member.ID:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peerURLs),
            ",".join(member.clientURLs),
            _true(member.isLearner),
        ]
        for member in response.members
    ]


def _status_rows(statuses: Statuses) -> list[list[str]]:
    return [
        [
            endpoint,
            f"{status.header.member_id:x}",
            status.version,
            human_bytes(status.dbSize),
            _true(status.leader == status.header.member_id),
            _true(status.isLearner),
            str(status.raftTerm),
            str(status.raftIndex),
            str(status.raftAppliedIndex),
            ", ".join(status.errors),
        ]
        for endpoint, status in statuses
    ]


def _hash_rows(hashes: Hashes) -> list[list[str]]:
    return [[endpoint, str(answer.hash)] for endpoint, answer in hashes]
