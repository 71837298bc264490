"""A flood of bad logins beside puts: ``python -m bench.auth``.

Puts come at a fixed rate, with a token, for some seconds: first alone, then beside 200 logins a second with a
wrong password for a user that exists, over 20 connections. Printed is what the flood costs the puts, and how
often a login was answered and refused as too many. bcrypt at its default cost takes 60 ms of a processor, so
no machine of two can look at 200 passwords a second: the question is who suffers.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import grpc
from tests.auth.users import Users
from tests.support import process
from tests.support.client import Client
from tests.support.process import Member

from bench import h2load, messages
from bench.h2load import HEADERS, Report
from kvorum.proto import rpc_pb2 as pb

PUTS_PER_SECOND: Final = 5000
LOGINS_PER_SECOND: Final = 200
CLIENTS: Final = 10
CONNECTIONS: Final = 20
SECONDS: Final = 6
GIVEN_UP_SECONDS: Final = 60.0


@final
class Flood:
    """Bad logins at a fixed rate, whatever comes of them."""

    def __init__(self, endpoint: str) -> None:
        self.answers: Final[Counter[str]] = Counter()
        self._clients: Final = [Client(endpoint) for _ in range(CONNECTIONS)]
        self._stopped: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run)

    def __enter__(self) -> "Flood":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, without waiting for answers."""
        self._stopped.set()
        self._thread.join()
        for client in self._clients:
            client.close()

    def _run(self) -> None:
        stubs = [
            client.channel.unary_unary(
                "/etcdserverpb.Auth/Authenticate",
                request_serializer=pb.AuthenticateRequest.SerializeToString,
            )
            for client in self._clients
        ]
        sent, began = 0, time.monotonic()
        while not self._stopped.wait(0.02):
            while sent < (time.monotonic() - began) * LOGINS_PER_SECOND:
                request = pb.AuthenticateRequest(name="alice", password=f"wrong {sent}")
                stubs[sent % CONNECTIONS].future(request).add_done_callback(self._count)
                sent += 1

    def _count(self, call: Any) -> None:
        self.answers[_code(call)] += 1


def _code(call: Any) -> str:
    try:
        return str(call.code().name)
    except grpc.FutureCancelledError:
        return "CANCELLED"


def _puts(member: Member, token: str, scratch: Path) -> Report:
    """Put at the fixed rate; raises LoadError unless every put was done."""
    count = PUTS_PER_SECOND * SECONDS
    body, log = scratch / "body", scratch / "log"
    body.write_bytes(messages.put(0))
    log.unlink(missing_ok=True)
    command = ["h2load", f"-n{count}", f"-c{CLIENTS}", "-m64", "-t1", f"--rps={PUTS_PER_SECOND // CLIENTS}"]
    command += [
        f"--data={body}",
        f"--log-file={log}",
        *(f"-H{header}" for header in HEADERS),
        f"-Htoken: {token}",
    ]
    done = subprocess.run(
        [*command, member.url + messages.PUT_PATH],
        capture_output=True,
        text=True,
        check=True,
        timeout=GIVEN_UP_SECONDS,
    )
    report = h2load.parse(done.stdout, log.read_text())
    if report.succeeded != count:
        raise h2load.LoadError(f"{count} puts, {report.succeeded} succeeded")
    return report


@dataclass(frozen=True)
class Measured:
    """Puts alone, and beside the flood."""

    alone: Report
    beside: Report
    answers: Counter[str]


def measure(member: Member, scratch: Path) -> Measured:
    """Both runs on a member that has no users yet."""
    users = Users(member.endpoint)
    users.add("root", "root")
    users.add("alice")
    users.add("bob")
    users.enable()
    token = users.token_of("root")
    _puts(member, token, scratch)
    alone = _puts(member, token, scratch)
    before = users.log_in("root").range(b"none").header.revision
    with Flood(member.endpoint) as flood:
        time.sleep(2)
        beside = _puts(member, token, scratch)
        began = time.monotonic()
        users.log_in("bob")
        sys.stdout.write(
            f"  a first right login of another user meanwhile: {(time.monotonic() - began) * 1000:.0f} ms\n"
        )
    written = users.log_in("root").range(b"none").header.revision - before
    assert written == PUTS_PER_SECOND * SECONDS, "every put makes a revision"
    users.close()
    return Measured(alone, beside, flood.answers)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.auth", description=__doc__)
    parser.add_argument("--servers", default="etcd,kvorum")
    arguments = parser.parse_args()
    if not h2load.available():
        sys.stderr.write(h2load.MISSING + "\n")
        return 1
    programs = {"etcd": process.etcd, "kvorum": process.kvorum}
    for name in arguments.servers.split(","):
        with tempfile.TemporaryDirectory(prefix="kvorum-bench-auth-") as folder:
            sys.stdout.write(f"{name}\n")
            with Member(programs[name](), Path(folder) / "data") as member:
                try:
                    measured = measure(member, Path(folder))
                except subprocess.TimeoutExpired:
                    sys.stdout.write(f"  puts beside the flood: not done in {GIVEN_UP_SECONDS:g} s\n")
                    continue
        for title, report in (("alone", measured.alone), ("beside the flood", measured.beside)):
            sys.stdout.write(
                f"  puts {title}: {report.per_second:.0f}/s,"
                f" p50 {report.p50_ms:.2f} ms, p99 {report.p99_ms:.1f} ms\n"
            )
        lost = 1 - measured.beside.per_second / measured.alone.per_second
        sys.stdout.write(f"  cost: {lost:.1%} of the rate; logins: {dict(measured.answers)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
