"""Certificates that a member makes for itself (``--auto-tls``, ``--peer-auto-tls``).

They are made once and kept beside the data, so that a restart shows the same one. They encrypt and prove
nothing: who connects must be told to believe them, members of an ``--peer-auto-tls`` cluster believe anyone.
Source: etcd ``client/pkg/transport/listener.go`` (SelfCert), with the extensions of 3.7. The key is on P-256
where etcd takes P-521, which browsers and the gRPC clients built on BoringSSL (Python's, C++'s) refuse.
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kvorum.logging import Logger
from kvorum.tls.info import TlsError, TlsInfo

_DAYS_A_YEAR: Final = 365


def self_signed(info: TlsInfo, directory: Path, hosts: Sequence[str], years: int, log: Logger) -> TlsInfo:
    """Return ``info`` with the certificate of a directory, which is made if it is not there yet.

    Args:
        info: what else is asked of the port.
        directory: exists, and only its owner may enter it.
        hosts: names and addresses that the certificate is for.
        years: of 365 days, for which it is good.
        log: told about what is made, in etcd's words.

    Raises:
        TlsError: no years, or the files cannot be written.
    """
    if years <= 0:
        error = TlsError("selfSignedCertValidity is invalid,it should be greater than 0")
        log.warn("cannot generate cert", error=error)
        raise error
    cert_path, key_path = (str((directory / name).absolute()) for name in ("cert.pem", "key.pem"))
    if not (os.path.exists(cert_path) and os.path.exists(key_path)):
        try:
            _make(cert_path, key_path, hosts, years, log)
        except OSError as error:
            log.warn("cannot cert file", path=cert_path, error=error)
            raise TlsError(f"open {error.filename}: {(error.strerror or str(error)).lower()}") from error
    return replace(
        info,
        cert_file=cert_path,
        key_file=key_path,
        client_cert_file=cert_path,
        client_key_file=key_path,
        self_signed=True,
    )


def _make(cert_path: str, key_path: str, hosts: Sequence[str], years: int, log: Logger) -> None:
    now = datetime.now(UTC)
    not_after = now + timedelta(days=_DAYS_A_YEAR * years)
    log.warn(
        "automatically generate certificates", {"certificate-validity-bound-not-after": not_after.isoformat()}
    )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key, hosts, now, not_after)
    _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    log.info("created cert file", path=cert_path)
    data = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    _write(key_path, data, 0o600)
    log.info("created key file", path=key_path)


def _certificate(
    key: ec.EllipticCurvePrivateKey, hosts: Sequence[str], not_before: datetime, not_after: datetime
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "etcd")])
    usage = x509.KeyUsage(
        digital_signature=True, key_encipherment=True, crl_sign=True, content_commitment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: str, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
