"""``watch``: the events of a key or a range, on and on; a command for each, if one is given.

A stream that breaks is opened again where it ended, at whichever endpoint answers. Source of behaviour:
etcdctl ``command/watch_command.go``.
"""

import os
import shlex
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Final, final

import click

from kvorum.ctl.arguments import parse
from kvorum.ctl.errors import EXIT_BAD_ARGUMENTS, EXIT_INTERRUPTED, EXIT_INVALID_INPUT, CallError, CtlError
from kvorum.ctl.keys import Params, Words, prefix_end
from kvorum.ctl.session import Session
from kvorum.ctl.values import BOOL, INT64, option
from kvorum.errors import UNAVAILABLE
from kvorum.golang import quote
from kvorum.proto import kv_pb2 as mvccpb
from kvorum.proto import rpc_pb2 as pb

_BAD_NUMBER: Final = "bad number of arguments"
_KEY: Final = "ETCDCTL_WATCH_KEY"
_RANGE_END: Final = "ETCDCTL_WATCH_RANGE_END"


def watch_options() -> list[click.Option]:
    """Return the flags of ``watch``."""
    return [
        option(("-i", "--interactive"), BOOL, False, "read what to watch from stdin, line by line"),
        option("--prefix", BOOL, False, "watch the keys that begin so"),
        option("--rev", INT64, 0, "begin at this revision"),
        option("--prev-kv", BOOL, False, "print what was there before as well"),
        option("--progress-notify", BOOL, False, "have the member say from time to time how far it is"),
    ]


def run_watch(session: Session, words: Words, params: Params) -> None:
    """Watch until the member ends it."""
    environment = [os.fsencode(os.environ.get(name, "")) for name in (_KEY, _RANGE_END)]
    if environment[1] and not environment[0]:
        told = quote(os.environ[_RANGE_END])
        raise CtlError(EXIT_BAD_ARGUMENTS, f"{_KEY} is empty but got {_RANGE_END}={told}")
    if params["interactive"]:
        _interactive(session)
        return
    keys, command = _split(words, session.before_dashes, [part for part in environment if part])
    Watch(session, _request(keys, params), command).run()
    raise CtlError(EXIT_INTERRUPTED, "watch is canceled by the server")


def _split(words: Words, before_dashes: int | None, environment: Words) -> tuple[Words, Words]:
    """The key and range_end, and the command behind ``--``."""
    keys: Words = words
    command: Words = ()
    if before_dashes is not None:
        keys, command = words[:before_dashes], words[before_dashes:]
        if not command:
            raise CtlError(EXIT_BAD_ARGUMENTS, f"{_BAD_NUMBER} (found separator --, but no commands)")
    if environment:
        if keys:
            raise CtlError(EXIT_BAD_ARGUMENTS, f"{_BAD_NUMBER} (found conflicting environment key)")
        keys = environment
    return keys, command


def _request(keys: Words, params: Params) -> pb.WatchCreateRequest:
    if not keys:
        raise CtlError(EXIT_BAD_ARGUMENTS, _BAD_NUMBER)
    key, range_end = keys[0], b""
    if len(keys) == 2:
        if params["prefix"]:
            raise CtlError(EXIT_BAD_ARGUMENTS, "`range_end` and `--prefix` are mutually exclusive")
        range_end = keys[1]
    elif params["prefix"]:
        key, range_end = (key, prefix_end(key)) if key else (b"\0", b"\0")
    return pb.WatchCreateRequest(
        key=key,
        range_end=range_end,
        start_revision=params["rev"],
        prev_kv=params["prev_kv"],
        progress_notify=params["progress_notify"],
    )


@final
class Watch:
    """One watch, printed as its answers come."""

    def __init__(self, session: Session, request: pb.WatchCreateRequest, command: Words) -> None:
        self._session: Final = session
        self._request: Final = request
        self._command: Final = command
        self._progress: Final = threading.Semaphore(0)
        self._ended = False

    def run(self) -> None:
        """Watch until the member cancels it."""
        while not self._ended:
            try:
                self._follow()
            except CallError as error:
                if error.status != UNAVAILABLE:
                    raise

    def ask_progress(self) -> None:
        """Have the member say how far it is."""
        self._progress.release()

    def _requests(self) -> Iterator[pb.WatchRequest]:
        yield pb.WatchRequest(create_request=self._request)
        while self._progress.acquire():
            yield pb.WatchRequest(progress_request=pb.WatchProgressRequest())

    def _follow(self) -> None:
        stream = self._session.client.stream(
            "Watch/Watch", self._requests(), pb.WatchResponse, require_leader=True
        )
        try:
            for response in stream:
                self._take(response)
                if response.canceled:
                    self._ended = True
                    return
        finally:
            stream.cancel()

    def _take(self, response: pb.WatchResponse) -> None:
        if response.created and not response.canceled:
            return
        session = self._session
        if response.canceled:
            session.streams.error(f"watch was canceled ({_reason(response)})\n")
        elif not response.events and not response.compact_revision:
            session.printer.line(f"progress notify: {response.header.revision}")
        self._request.start_revision = response.header.revision + 1
        session.printer.events(response)
        session.streams.flush()
        if self._command:
            for event in response.events:
                self._execute(response, event)

    def _execute(self, response: pb.WatchResponse, event: mvccpb.Event) -> None:
        environment = {
            "ETCD_WATCH_REVISION": str(response.header.revision),
            "ETCD_WATCH_EVENT_TYPE": quote(mvccpb.Event.EventType.Name(event.type)),
            "ETCD_WATCH_KEY": quote(event.kv.key),
            "ETCD_WATCH_VALUE": quote(event.kv.value),
        }
        words = [os.fsdecode(word) for word in self._command]
        try:
            done = subprocess.run(words, env={**os.environ, **environment}, check=False)
            problem = f"exit status {done.returncode}" if done.returncode else ""
        except OSError:
            problem = f'exec: "{words[0]}": executable file not found in $PATH'
        if problem:
            shown = " ".join(quote(word) for word in words)
            self._session.streams.error(f"command [{shown}] error ({problem})\n")
            raise CtlError(1)


def _reason(response: pb.WatchResponse) -> str:
    if response.compact_revision:
        return "etcdserver: mvcc: required revision has been compacted"
    return response.cancel_reason or "etcdserver: mvcc: required revision is a future revision"


def _interactive(session: Session) -> None:
    """Read ``watch ...`` and ``progress`` from stdin until it ends."""
    watches: list[Watch] = []
    command = click.Command("watch", params=[*watch_options()])
    while True:
        line = session.streams.read_line()
        if not line.endswith(b"\n"):
            raise CtlError(EXIT_INVALID_INPUT, "error reading watch request line: EOF")
        text = os.fsdecode(line[:-1])
        words = shlex.split(text)
        if not words:
            session.streams.error(f"Invalid command: {text} (watch and progress supported)\n")
        elif words[0] == "progress":
            for watch in watches:
                watch.ask_progress()
        elif words[0] != "watch":
            session.streams.error(f"Invalid command {text} (only support watch)\n")
        else:
            watches.append(_begin(session, words[1:], command))


def _begin(session: Session, words: Sequence[str], command: click.Command) -> Watch:
    line = parse(words, command)
    context = command.make_context("watch", [f"--{name}={value}" for name, value in line.flags])
    raw = [os.fsencode(word) for word in line.words]
    keys, executed = _split(raw, line.before_dashes, ())
    watch = Watch(session, _request(keys, context.params), executed)
    threading.Thread(target=watch.run, daemon=True).start()
    return watch
