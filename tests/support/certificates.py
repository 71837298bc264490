"""Authorities, certificates and revocation lists, made when a test needs them."""

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY: Final = datetime.timedelta(days=1)
LOOPBACK: Final = ("127.0.0.1", "localhost")
BOTH: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    cert: Path
    key: Path
    certificate: x509.Certificate

    @property
    def serial_hex(self) -> str:
        """The serial number in whole bytes, as etcd prints it."""
        number = self.certificate.serial_number
        return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()


@final
class Authority:
    """Signs certificates; all files go into one directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory: Final = directory
        self._key: Final = ec.generate_private_key(ec.SECP256R1())
        self._name: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate: Final = (
            _builder(self._name, self._name, self._key.public_key(), -DAY, 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path: Final = directory / f"{name}.pem"
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        hosts: Sequence[str] = LOOPBACK,
        common_name: str | None = None,
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = 10 * DAY,
        usages: Sequence[x509.ObjectIdentifier] = BOTH,
    ) -> Pair:
        """Return a new certificate in ``<name>.pem`` with its key in ``<name>-key.pem``, replacing both.

        ``begins`` and ``ends`` count from now; ``common_name`` is ``name`` if not given.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        text = name if common_name is None else common_name
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])
        builder = _builder(subject, self._name, key.public_key(), begins, ends)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        cert_path, key_path = self.directory / f"{name}.pem", self.directory / f"{name}-key.pem"
        cert_path.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_path.touch(mode=0o600)
        key_path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )
        return Pair(cert_path, key_path, certificate)

    def revoke(self, pairs: Sequence[Pair], encoding: Encoding, name: str) -> Path:
        """Return a file with the list of these certificates as revoked."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - DAY)
            .next_update(now + DAY)
        )
        for pair in pairs:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(pair.certificate.serial_number)
                .revocation_date(now - DAY)
                .build()
            )
        path = self.directory / name
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(encoding))
        return path

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return what a client believes in, and shows."""
        context = ssl.create_default_context(cafile=str(self.path))
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context

    def credentials(self, pair: Pair | None = None) -> grpc.ChannelCredentials:
        """Return the same for grpcio."""
        if pair is None:
            return grpc.ssl_channel_credentials(self.path.read_bytes())
        return grpc.ssl_channel_credentials(
            self.path.read_bytes(), pair.key.read_bytes(), pair.cert.read_bytes()
        )

    def ctl_flags(self, pair: Pair | None = None) -> tuple[str, ...]:
        """Return the same for etcdctl."""
        own = () if pair is None else (f"--cert={pair.cert}", f"--key={pair.key}")
        return (f"--cacert={self.path}", *own)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
