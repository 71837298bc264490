"""From files to OpenSSL contexts, with errors in the words of etcd and Go.

A context trusts every certificate of the authority file, root or not, as Go's certificate pools do. TLS 1.3
resumes no sessions: that would let a client in without its certificate being verified again, and etcd's
clients keep their connections. In TLS 1.2, where Python cannot switch it off, the client keeps the session
(a ticket, good for this context only, so not beyond a change of any file), and its dates are looked at again.

Source: etcd ``client/pkg/transport/listener.go``, ``client/pkg/tlsutil``; Go
``crypto/tls.X509KeyPair``.
"""

import os
import re
import ssl
from typing import Final, final

from kvorum.golang import quote
from kvorum.tls.info import TlsError, TlsInfo
from kvorum.tls.later import x509
from kvorum.tls.names import set_cipher_suites, set_versions

ALPN: Final = ("http/1.1", "h2")
"""In our order: who speaks both (curl, browsers) wants the HTTP API, gRPC clients offer ``h2`` alone."""
_READABLE_BY_OTHERS: Final = 0o004
_PEM_KIND: Final = re.compile(rb"^-----BEGIN ([ -,.-~]+)-----\s*$", re.MULTILINE)


@final
class ServerContext(ssl.SSLContext):
    """A listener's context; ``names_users`` says whether a certificate's name may stand for a user."""

    names_users = False


def server_context(info: TlsInfo) -> ServerContext:
    """Return what a listener shows and asks for. Raises TlsError."""
    if not info.key_file or not info.cert_file:
        raise TlsError(
            f"KeyFile and CertFile must both be present[key: {info.key_file}, cert: {info.cert_file}]"
        )
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.names_users = info.client_cert_auth
    _prepare(context, info)
    load_pair(context, info.cert_file, info.key_file)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    context.set_alpn_protocols(list(ALPN))
    if info.asks_for_certificates:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, info, ssl.Purpose.CLIENT_AUTH)
    return context


def client_context(info: TlsInfo) -> ssl.SSLContext:
    """Return what a member shows and asks for when it connects to another. Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _prepare(context, info)
    context.hostname_checks_common_name = False  # as in Go since 1.15
    if not info.empty:
        load_pair(context, *info.dialling_files)
    if info.self_signed:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _trust(context, info, ssl.Purpose.SERVER_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    return context


def check_pairs(info: TlsInfo) -> None:
    """Raise TlsError unless certificates and keys come in pairs."""
    if not info.key_file or not info.cert_file:
        raise TlsError(
            f"KeyFile and CertFile must both be present[key: {info.key_file}, cert: {info.cert_file}]"
        )
    if bool(info.client_cert_file) != bool(info.client_key_file):
        raise TlsError(
            "ClientKeyFile and ClientCertFile must both be present or both absent:"
            f" key: {info.client_key_file}, cert: {info.client_cert_file}]"
        )
    if info.allowed_cns and info.allowed_hostnames:
        raise TlsError(
            "AllowedCNs and AllowedHostnames are mutually exclusive"
            f" (cns={_go_list(info.allowed_cns)}, hostnames={_go_list(info.allowed_hostnames)})"
        )


def load_pair(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    """Have a context show a certificate. Raises TlsError."""
    certificate, key = read_file(cert_file), read_file(key_file)
    _check_kinds(certificate, key)
    try:
        x509.load_pem_x509_certificates(certificate)
    except ValueError:
        raise TlsError("x509: malformed certificate") from None
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except ssl.SSLError as error:
        raise TlsError(_PAIR_ERRORS.get(error.reason or "", "tls: failed to parse private key")) from None
    except OSError as error:  # gone since it was read
        raise TlsError(f"open {cert_file}: {_reason(error)}") from None
    except _EncryptedKeyError:
        raise TlsError("tls: failed to parse private key") from None


def readable_by_others(path: str) -> bool:
    """Whether everybody on this machine may read a file."""
    try:
        return bool(os.stat(path).st_mode & _READABLE_BY_OTHERS)
    except OSError:
        return False


def read_file(path: str) -> bytes:
    """Return a file's bytes; raises TlsError as Go says it."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        verb = "read" if isinstance(error, IsADirectoryError) else "open"
        raise TlsError(f"{verb} {path}: {_reason(error)}") from None


def _check_kinds(certificate: bytes, key: bytes) -> None:
    """Raise TlsError unless there is a certificate in the one and a key in the other."""
    kinds = _PEM_KIND.findall(certificate)
    if b"CERTIFICATE" not in kinds:
        if not kinds:
            raise TlsError("tls: failed to find any PEM data in certificate input")
        if len(kinds) == 1 and kinds[0].endswith(b"PRIVATE KEY"):
            raise TlsError(
                "tls: failed to find certificate PEM data in certificate input, but did find a private key;"
                " PEM inputs may have been switched"
            )
        raise TlsError(
            'tls: failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM blocks of'
            f" the following types: [{b' '.join(kinds).decode()}]"
        )
    kinds = _PEM_KIND.findall(key)
    if not any(kind.endswith(b"PRIVATE KEY") for kind in kinds):
        if not kinds:
            raise TlsError("tls: failed to find any PEM data in key input")
        if kinds == [b"CERTIFICATE"]:
            raise TlsError("tls: found a certificate rather than a key in the PEM for the private key")
        raise TlsError(
            'tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input after skipping PEM'
            f" blocks of the following types: [{b' '.join(kinds).decode()}]"
        )


class _EncryptedKeyError(Exception):
    """A key that wants a password: there is nobody to ask."""


def _no_password() -> str:
    raise _EncryptedKeyError


_PAIR_ERRORS: Final = {
    "KEY_VALUES_MISMATCH": "tls: private key does not match public key",
    "KEY_TYPE_MISMATCH": "tls: private key type does not match public key type",
    "EE_KEY_TOO_SMALL": "tls: the certificate's key is too short",
    "CA_MD_TOO_WEAK": "tls: the certificate is signed with too weak an algorithm",
}


def _prepare(context: ssl.SSLContext, info: TlsInfo) -> None:
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    set_versions(context, info.min_version, info.max_version)
    if info.cipher_suites:
        set_cipher_suites(context, info.cipher_suites)


def _trust(context: ssl.SSLContext, info: TlsInfo, purpose: ssl.Purpose) -> None:
    """Trust the authorities of the file, without one those of the machine."""
    if not info.trusted_ca_file:
        context.load_default_certs(purpose)
        return
    data = read_file(info.trusted_ca_file)
    if b"-----BEGIN" not in data:
        return  # Go's pool is empty then, and nobody is believed
    try:
        authorities = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise TlsError("x509: malformed certificate") from None
    context.load_verify_locations(cadata=b"".join(map(_der, authorities)))


def _der(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # as late as the certificates

    return certificate.public_bytes(Encoding.DER)


def _go_list(names: tuple[str, ...]) -> str:
    return f"[{' '.join(quote(name) for name in names)}]"


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
