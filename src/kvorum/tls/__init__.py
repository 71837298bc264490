"""A side room of the path: who may connect, and the encrypted connections themselves.

``info`` is what the flags ask for, ``names`` Go's names of cipher suites and versions, ``contexts`` turns
both into OpenSSL contexts and ``source`` keeps those as fresh as the files on disk. ``channel`` (no socket)
is one TLS session, ``transport`` puts it onto a connection, ``hello`` reads what a client says first,
``admission`` is the server's side of handshakes and their bounds, ``dial`` the client's. ``certificate``,
``revocation`` and ``verdict`` decide whether a verified certificate is one of those allowed, ``reasons`` are
refusals in the words of etcd's log, ``selfsigned`` makes certificates for ``--auto-tls``.

May import the common leaves and the ``cryptography`` package. Deliberately not here: listening sockets, what
is served, and what a name in a certificate may do (that is the gate's; `common_name` only says the name).
"""

from kvorum.tls.admission import ServerTls
from kvorum.tls.dial import ClientTls
from kvorum.tls.identity import common_name
from kvorum.tls.info import TlsError, TlsInfo

__all__ = ["ClientTls", "ServerTls", "TlsError", "TlsInfo", "common_name"]
