"""Why a handshake failed, in the words of Go's ``crypto/tls``, which operators of etcd know from its log."""

import ssl
from typing import Any, Final

from kvorum.tls.hello import ClientHello

_ALERTS: Final = {
    "UNEXPECTED_MESSAGE": "unexpected message",
    "BAD_RECORD_MAC": "bad record MAC",
    "RECORD_OVERFLOW": "record overflow",
    "HANDSHAKE_FAILURE": "handshake failure",
    "BAD_CERTIFICATE": "bad certificate",
    "UNSUPPORTED_CERTIFICATE": "unsupported certificate",
    "CERTIFICATE_REVOKED": "revoked certificate",
    "CERTIFICATE_EXPIRED": "expired certificate",
    "CERTIFICATE_UNKNOWN": "unknown certificate",
    "ILLEGAL_PARAMETER": "illegal parameter",
    "UNKNOWN_CA": "unknown certificate authority",
    "ACCESS_DENIED": "access denied",
    "DECODE_ERROR": "error decoding message",
    "DECRYPT_ERROR": "error decrypting message",
    "PROTOCOL_VERSION": "protocol version not supported",
    "INSUFFICIENT_SECURITY": "insufficient security level",
    "INTERNAL_ERROR": "internal error",
    "USER_CANCELLED": "user canceled",
    "NO_RENEGOTIATION": "no renegotiation",
    "MISSING_EXTENSION": "missing extension",
    "UNSUPPORTED_EXTENSION": "unsupported extension",
    "UNRECOGNIZED_NAME": "unrecognized name",
    "CERTIFICATE_REQUIRED": "certificate required",
    "NO_APPLICATION_PROTOCOL": "no application protocol",
}
"""Go's text by OpenSSL's name of an alert, without what OpenSSL puts in front."""

_OURS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls: client didn't provide a certificate",
    "NO_SHARED_CIPHER": "tls: no cipher suite supported by both client and server",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": (
        "tls: peer doesn't support any of the certificate's signature algorithms"
    ),
    "NO_APPLICATION_PROTOCOL": "tls: client requested unsupported application protocols",
    "UNEXPECTED_EOF_WHILE_READING": "EOF",
    "WRONG_VERSION_NUMBER": "tls: first record does not look like a TLS handshake",
    "HTTP_REQUEST": "tls: first record does not look like a TLS handshake",
}
_VERIFICATION: Final = {
    9: "certificate has expired or is not yet valid",
    10: "certificate has expired or is not yet valid",
    18: "certificate signed by unknown authority",
    19: "certificate signed by unknown authority",
    20: "certificate signed by unknown authority",
    21: "certificate signed by unknown authority",
    24: "invalid certificate: parent certificate cannot sign this kind of certificate",
    26: "certificate specifies an incompatible key usage",
    27: "certificate signed by unknown authority",
}
"""By OpenSSL's number (``X509_V_ERR_...``)."""


def explain(error: BaseException, *, server_side: bool, hello: ClientHello | None = None) -> str:
    """Return one line for a failed handshake or session."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"x509: {_VERIFICATION.get(error.verify_code, error.verify_message)}"
        return f"tls: failed to verify client certificate: {text}" if server_side else text
    if not isinstance(error, ssl.SSLError):
        return _connection_error(error)
    reason = error.reason or ""
    before, alert, name = reason.partition("_ALERT_")
    if alert and before.startswith(("SSLV3", "TLSV1")):
        return f"remote error: tls: {_ALERTS.get(name, name.lower().replace('_', ' '))}"
    if reason in ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW") and hello is not None:
        offered = " ".join(f"{version:x}" for version in hello.versions)
        return f"tls: client offered only unsupported versions: [{offered}]"
    return _OURS.get(reason) or f"tls: {(reason or str(error)).lower().replace('_', ' ')}"


def _connection_error(error: BaseException) -> str:
    if isinstance(error, ConnectionResetError):
        return "read: connection reset by peer"
    return str(error) or "EOF"


UNIX: Final = "@"
"""How Go prints the address of a client on a Unix socket, which has none."""


def format_address(address: Any) -> str:
    """A transport's ``peername`` as Go prints a remote address; ``@`` for a Unix socket."""
    if not isinstance(address, tuple) or len(address) < 2:
        return UNIX
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
