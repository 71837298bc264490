"""Whether somebody with a verified certificate may come in.

After the signatures: the name must be an allowed one (``--peer-cert-allowed-cn`` and its like), the address
must be one that the certificate is for (members only), and no list may have revoked it. Order and texts are
etcd's, ``client/pkg/transport/listener_tls.go``.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final

from kvorum.golang import quote
from kvorum.tls.certificate import Certificate, go_strings
from kvorum.tls.info import TlsInfo

_DER: Final = 2
"""``_ssl.ENCODING_DER``."""


def shown_certificates(session: ssl.SSLObject) -> tuple[Certificate, ...]:
    """Return what a peer has shown, its own certificate first; nothing only if nothing was asked for.

    A resumed session remembers the peer's own certificate alone. Raises ValueError.
    """
    if session.context.verify_mode == ssl.CERT_NONE:
        return ()
    inner: Any = session
    if not hasattr(inner, "get_unverified_chain"):  # public since Python 3.13
        inner = inner._sslobj
    chain = inner.get_unverified_chain() or ()
    ders = [one if isinstance(one, bytes) else one.public_bytes(_DER) for one in chain]
    own = session.getpeercert(binary_form=True)
    if not ders and own is not None:
        ders = [own]
    if not ders:
        raise ValueError("a certificate was asked for, and there is none")
    return tuple(map(Certificate.parse, ders))


def name_refusal(info: TlsInfo, certificate: Certificate) -> str:
    """Why the names in a certificate are not among those allowed; empty if one is, or all are."""
    allowed = True
    if info.allowed_cns:
        allowed = certificate.common_name in info.allowed_cns
    elif info.allowed_hostnames:
        allowed = any(certificate.is_for(host) for host in info.allowed_hostnames)
    return "" if allowed else "client certificate authentication failed"


async def address_refusal(certificate: Certificate, host: str) -> str:
    """Why a certificate is not for the address that its owner comes from; empty if it is, or names none.

    Names are looked up in both directions, as in etcd.
    """
    if not certificate.addresses and not certificate.dns_names:
        return ""
    if certificate.addresses:
        mismatch = certificate.mismatch(host)
        if not mismatch or not certificate.dns_names:
            return mismatch
    found, problem = await _is_host_of(host, certificate.dns_names)
    if found:
        return ""
    because = f" ({problem})" if problem else ""
    return f"tls: {quote(host)} does not match any of DNSNames {go_strings(certificate.dns_names)}{because}"


async def _is_host_of(host: str, names: Sequence[str]) -> tuple[bool, str]:
    loop = asyncio.get_running_loop()
    suffixes = tuple(name[1:] for name in names if name.startswith("*."))
    plain = [name for name in names if not name.startswith("*.")]
    problem = ""
    try:
        own, _ = await loop.getnameinfo((host, 0), socket.NI_NAMEREQD)
        own = own.rstrip(".")
        if own in plain or (suffixes and own.endswith(suffixes)):
            return True, ""
    except OSError:
        problem = f"lookup {host}: no such host"
    for name in plain:
        try:
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            problem = f"lookup {name}: no such host"
            continue
        if any(address[0] == host for *_, address in found):
            return True, ""
    return False, problem
