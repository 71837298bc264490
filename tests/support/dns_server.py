"""A name server in a process of its own (``python -m tests.support.dns_server``), loopback, UDP and TCP.

The zone is JSON on the command line: a name to its ``SRV`` (priority, weight, port, target) and ``A``
records. What it is asked and answers goes to stderr. Ends with its standard input.
"""

import json
import socket
import socketserver
import subprocess
import sys
import threading
from typing import Any, Final, final

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.support.process import clean_environment

Zone = dict[str, dict[str, list[list[Any]]]]
_UDP_BYTES: Final = 512
_TTL: Final = 1


def answer_to(question: bytes, zone: Zone, *, over_udp: bool) -> bytes:
    """The answer's bytes: records, no such name, or a truncated one that asks for TCP."""
    query = dns.message.from_wire(question)
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.AA
    (asked,) = query.question
    records = zone.get(asked.name.to_text().lower())
    if records is None:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    else:
        kind = dns.rdatatype.to_text(asked.rdtype)
        rows = [" ".join(map(str, row)) for row in records.get(kind, [])]
        if rows:
            answer.answer.append(dns.rrset.from_text(asked.name, _TTL, "IN", kind, *rows))
    sys.stderr.write(f"{asked.to_text()}: {len(answer.answer)}\n")
    wire = answer.to_wire()
    if over_udp and len(wire) > _UDP_BYTES:
        answer.answer.clear()
        answer.flags |= dns.flags.TC
        wire = answer.to_wire()
    return wire


def serve(zone: Zone) -> None:
    """Serve until standard input ends; prints the port once it is bound."""

    class Udp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, sender = self.request
            sender.sendto(answer_to(data, zone, over_udp=True), self.client_address)

    class Tcp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while size := self.rfile.read(2):
                wire = answer_to(self.rfile.read(int.from_bytes(size, "big")), zone, over_udp=False)
                self.wfile.write(len(wire).to_bytes(2, "big") + wire)

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tcp) as tcp:
        port = tcp.server_address[1]
        with socketserver.UDPServer(("127.0.0.1", port), Udp) as udp:
            for server in (tcp, udp):
                threading.Thread(target=server.serve_forever, daemon=True).start()
            sys.stdout.write(f"{port}\n")
            sys.stdout.flush()
            sys.stdin.read()


@final
class DnsServer:
    """The process; a context manager that ends it. ``address`` is ``127.0.0.1:port``."""

    def __init__(self, zone: Zone) -> None:
        self._zone: Final = zone
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    def __enter__(self) -> "DnsServer":
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.dns_server", json.dumps(self._zone)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        assert process.stdout is not None
        self.address = f"127.0.0.1:{int(process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.communicate(timeout=20)

    @property
    def environment(self) -> dict[str, str]:
        """What makes Kvorum's programs ask this server."""
        return {"KVORUM_DNS_SERVER": self.address}


def unused_address() -> str:
    """An address where nobody answers questions."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
