"""The server's side of handshakes: their order, their bounds, and who is turned away.

A connection passes three stages here before anything above hears of it:

1. *hello*: bytes gather until a whole ClientHello is there (``hello.py``); no TLS state exists;
2. *handshake*: a few begin in each turn of the loop, in the order of their hellos, so that a flood of
   handshakes takes turns with everybody's requests instead of standing in front of them;
3. *verdict*: the verified certificate is held against names, addresses and revocations.

All three together have one time limit, and only so many connections may be in them at once; one too many
costs the oldest its place. Somebody who means it takes milliseconds, so the oldest is the one who stalls.
Every refusal is one line of the log, with etcd's message and fields. Source of behaviour: etcd
``client/pkg/transport/listener_tls.go`` and ``server/embed/config_logging.go``; the time limit is that of the
fix for GHSA-6vch-q96h-7gc3.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, cast, final

from kvorum import limits
from kvorum.logging import Logger
from kvorum.tls.certificate import Certificate
from kvorum.tls.channel import Channel
from kvorum.tls.contexts import ServerContext, check_pairs, server_context
from kvorum.tls.hello import NotTlsError, is_whole, parse
from kvorum.tls.identity import EXTRA_INFO
from kvorum.tls.info import TlsError, TlsInfo
from kvorum.tls.reasons import UNIX, explain, format_address
from kvorum.tls.revocation import RevocationList
from kvorum.tls.source import FileSource
from kvorum.tls.transport import TlsTransport
from kvorum.tls.verdict import address_refusal, name_refusal, shown_certificates


@final
class Terms:
    """What one handshake goes by: made of the files as they were at one moment."""

    __slots__ = ("context", "revoked")

    def __init__(self, context: ssl.SSLContext, revoked: RevocationList | None = None) -> None:
        self.context: Final = context
        self.revoked: Final = revoked


@final
class ServerTls:
    """Certificates and rules of a listener; `load` makes one."""

    def __init__(self, info: TlsInfo, source: FileSource[Terms], *, check_addresses: bool) -> None:
        self.info: Final = info
        self.source: Final = source
        self.check_addresses: Final = check_addresses
        """Whether who connects must come from where its certificate says (members)."""

    @staticmethod
    def load(info: TlsInfo, log: Logger, *, check_addresses: bool = False) -> "ServerTls":
        """Return what files ask for, and go on following them. Raises TlsError if they cannot be used."""
        check_pairs(info)

        def load() -> Terms:
            revoked = RevocationList.load(info.crl_file) if info.crl_file else None
            return Terms(server_context(info), revoked)

        def failed(error: TlsError) -> None:
            log.warn("failed to create peer certificate", cert_file=info.cert_file, key_file=info.key_file,
                     error=error)  # fmt: skip

        files = (info.cert_file, info.key_file, info.trusted_ca_file, info.crl_file)
        check = check_addresses and not info.skip_client_san_verify
        return ServerTls(info, FileSource(files, load, failed), check_addresses=check)

    @staticmethod
    def of(context: ssl.SSLContext) -> "ServerTls":
        """Return what serves with a context as it is, without files behind it."""
        source = FileSource((), lambda: Terms(context), lambda error: None)
        return ServerTls(TlsInfo(), source, check_addresses=False)


@final
class Admission:
    """The connections of one listener that are not let in yet.

    Invariant: ``pending`` has them by age; a connection leaves it exactly once, by `Incoming.leave`.
    """

    def __init__(
        self,
        tls: ServerTls,
        log: Logger,
        above: Callable[[], asyncio.Protocol],
        *,
        bound: int = limits.TLS_HANDSHAKES,
        seconds: float = limits.TLS_HANDSHAKE_SECONDS,
    ) -> None:
        """Args:
        tls: whom to let in.
        log: where refusals are told.
        above: makes the protocol of a connection that is let in.
        bound: how many may be pending.
        seconds: for how long.
        """
        self.tls: Final = tls
        self.log: Final = log
        self.above: Final = above
        self.pending: Final[dict[Incoming, None]] = {}
        self.refused = 0
        """How many were turned away."""
        self._bound: Final = bound
        self._seconds: Final = seconds
        self._queue: Final[deque[Incoming]] = deque()
        self._turn_is_due = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def close(self) -> None:
        """Drop everybody who is not in yet."""
        for incoming in list(self.pending):
            incoming.drop()
        for task in self._tasks:
            task.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def enter(self, incoming: "Incoming") -> None:
        """A connection is there; the oldest makes place for one too many."""
        self.pending[incoming] = None
        if len(self.pending) > self._bound:
            next(iter(self.pending)).refuse("too many handshakes")
        if self._sweeper is None:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self._seconds, self._sweep, loop)

    def queue(self, incoming: "Incoming") -> None:
        """A hello is whole: its handshake may begin when its turn comes."""
        self._queue.append(incoming)
        self._turn_soon()

    def spawn(self, task: "asyncio.Task[None]") -> None:
        """Keep a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _turn_soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Begin a few handshakes, after a look at the files if one is due."""
        if self.tls.source.is_due:
            self.spawn(asyncio.get_running_loop().create_task(self._look()))
            return
        self._turn_is_due = False
        terms = self.tls.source.latest
        begun = 0
        while self._queue and begun < limits.TLS_HANDSHAKES_PER_TURN:
            incoming = self._queue.popleft()
            if incoming in self.pending:
                incoming.begin(terms)
                begun += 1
        if self._queue:
            self._turn_soon()

    async def _look(self) -> None:
        await self.tls.source.fresh()
        self._turn()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drop those whose time is over; come back when the next one is due."""
        self._sweeper = None
        now = loop.time()
        while self.pending:
            oldest = next(iter(self.pending))
            due = oldest.since + self._seconds
            if due > now:
                self._sweeper = loop.call_at(due, self._sweep, loop)
                return
            oldest.refuse(f"read tcp {oldest.ends()}: i/o timeout")


@final
class Incoming(asyncio.Protocol):
    """A connection on its way in."""

    __slots__ = ("_address", "_admission", "_below", "_buffer", "_certificates", "_channel", "_checking",
                 "_hello", "_plain", "_queued", "_terms", "_was_set_up", "setting_up", "since")  # fmt: skip

    def __init__(
        self, admission: Admission, was_set_up: "Callable[[Incoming], None]", *, plain: bool = False
    ) -> None:
        """``was_set_up`` is called once the transport is there; ``plain`` lets in who speaks no TLS, too."""
        self._plain: Final = plain
        self._admission: Final = admission
        self._was_set_up: Final = was_set_up
        self.setting_up: asyncio.Task[None] | None = None
        """What makes the transport; the listener's."""
        self.since = 0.0
        self._below: asyncio.Transport | None = None
        self._address = ""
        self._buffer = b""
        self._hello = b""
        self._queued = False
        self._terms: Terms | None = None
        self._channel: Channel | None = None
        self._certificates: tuple[Certificate, ...] = ()
        self._checking: asyncio.Task[None] | None = None

    # --- what the transport calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a hello."""
        self._below = cast("asyncio.Transport", transport)
        self._address = format_address(transport.get_extra_info("peername"))
        self.since = asyncio.get_running_loop().time()
        self._was_set_up(self)
        self._admission.enter(self)

    def data_received(self, data: bytes) -> None:
        """Gather the hello, or go on with the handshake."""
        if self not in self._admission.pending:
            return
        if self._channel is not None:
            self._shake(data)
            return
        self._buffer += data
        try:
            self._queued = is_whole(self._buffer)
        except NotTlsError as error:
            if self._plain:
                self._admit_plain()
            else:
                self.refuse(str(error), error.answer)
            return
        if len(self._buffer) > limits.TLS_HELLO_BYTES:
            self.refuse(f"tls: {len(self._buffer)} bytes before the handshake")
        elif self._queued and self._below is not None:
            self._below.pause_reading()  # nothing more is due before it is answered
            self._admission.queue(self)

    def eof_received(self) -> bool:
        """The client gave up."""
        self.refuse("EOF")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        if exc is not None:
            self.refuse(f"read tcp {self.ends()}: {explain(exc, server_side=True)}")
        else:
            self.refuse("EOF")
        self._below = None

    # --- what the admission calls -------------------------------------------------------------------------

    def begin(self, terms: Terms) -> None:
        """Take up the handshake."""
        self._terms = terms
        self._channel = Channel(terms.context, server_side=True)
        self._hello, self._buffer = self._buffer, b""
        if self._below is not None and not self._below.is_closing():
            self._below.resume_reading()
            self._shake(self._hello)

    def refuse(self, reason: str, answer: bytes = b"") -> None:
        """Turn the client away, with a word to it if there is one."""
        if not self._leave():
            return
        self._admission.refused += 1
        fields: dict[str, object] = {
            "remote-addr": self._address,
            "server-name": parse(self._hello or self._buffer).server_name,
        }
        if self._certificates:
            fields["ip-addresses"] = list(self._certificates[0].addresses)
            fields["dns-names"] = list(self._certificates[0].dns_names)
        self._admission.log.warn("rejected connection", fields | {"error": reason})
        if self._below is not None:
            if answer:
                self._below.write(answer)
            self._below.close()

    def ends(self) -> str:
        """Our address and the client's, as in Go's errors."""
        own = None if self._below is None else self._below.get_extra_info("sockname")
        return f"{format_address(own)}->{self._address}"

    def drop(self) -> None:
        """Cut the connection without a word."""
        if self._leave() and self._below is not None:
            self._below.abort()

    # --- within -------------------------------------------------------------------------------------------

    def _leave(self) -> bool:
        """Be pending no more; False if it was not."""
        if self not in self._admission.pending:
            return False
        del self._admission.pending[self]
        if self._checking is not None:
            self._checking.cancel()
        return True

    def _shake(self, data: bytes) -> None:
        channel, below = self._channel, self._below
        assert channel is not None
        assert below is not None
        try:
            is_done = channel.handshake(data)
        except ssl.SSLError as error:
            self.refuse(explain(error, server_side=True, hello=parse(self._hello)), channel.take_output())
            return
        output = channel.take_output()
        if output:
            below.write(output)
        if is_done:
            self._judge(channel, below)

    def _judge(self, channel: Channel, below: asyncio.Transport) -> None:
        """Decide on the certificate; what needs a resolver goes on beside."""
        tls = self._admission.tls
        try:
            certificates = shown_certificates(channel.session)
        except ValueError:
            self.refuse("x509: malformed certificate")
            return
        self._certificates = certificates
        refusal = name_refusal(tls.info, certificates[0]) if certificates else ""
        if not refusal and certificates and channel.session.session_reused and certificates[0].expired():
            refusal = "tls: failed to verify client certificate: x509: certificate has expired"
        if refusal:
            self.refuse(refusal)
        elif certificates and tls.check_addresses and self._address != UNIX:
            below.pause_reading()
            host = str(below.get_extra_info("peername")[0])
            task = asyncio.get_running_loop().create_task(self._judge_address(certificates[0], host))
            self._checking = task
            self._admission.spawn(task)
        else:
            self._admit()

    async def _judge_address(self, certificate: Certificate, host: str) -> None:
        refusal = await address_refusal(certificate, host)
        self._checking = None
        if self._below is None:
            return
        if refusal:
            self.refuse(refusal)
        elif self in self._admission.pending:
            self._below.resume_reading()
            self._admit()

    def _admit_plain(self) -> None:
        """Hand the connection on as it is, with what has come."""
        below = self._below
        if below is not None and self._leave():
            above = self._admission.above()
            below.set_protocol(above)
            above.connection_made(below)
            above.data_received(self._buffer)

    def _admit(self) -> None:
        channel, below, terms = self._channel, self._below, self._terms
        assert channel is not None
        assert below is not None
        assert terms is not None
        if terms.revoked is not None and self._certificates:
            refusal = terms.revoked.refusal(self._certificates)
            if refusal:
                self.refuse(refusal)
                return
        self._leave()
        context = terms.context
        known: dict[str, object] = {EXTRA_INFO: None}
        if isinstance(context, ServerContext) and context.names_users and self._certificates:
            known[EXTRA_INFO] = self._certificates[0].common_name
        TlsTransport(below, channel, known).begin(self._admission.above())
