"""What the flags ask of one port's TLS. Names and texts are those of etcd's ``transport.TLSInfo``."""

from dataclasses import dataclass


class TlsError(Exception):
    """Certificates, keys or options that cannot be used; one line, in etcd's words where it has them."""


@dataclass(frozen=True)
class TlsInfo:
    """etcd's ``TLSInfo``: files and rules of one kind of port, for serving and for connecting to it."""

    cert_file: str = ""
    key_file: str = ""
    client_cert_file: str = ""
    """Shown when connecting; ``cert_file`` if empty."""
    client_key_file: str = ""
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""
    allowed_cns: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()
    skip_client_san_verify: bool = False
    cipher_suites: tuple[str, ...] = ()
    """Go's names."""
    min_version: str = "TLS1.2"
    """``TLS1.2``, ``TLS1.3`` or empty."""
    max_version: str = ""
    self_signed: bool = False
    """Made by this member for itself: whoever connects with it believes any certificate, as in etcd."""

    @property
    def empty(self) -> bool:
        """Whether there is neither certificate nor key."""
        return not self.cert_file and not self.key_file

    @property
    def asks_for_certificates(self) -> bool:
        """Whether who connects must show a certificate: also if only an authority is given, as in etcd."""
        return self.client_cert_auth or bool(self.trusted_ca_file)

    @property
    def dialling_files(self) -> tuple[str, str]:
        """Certificate and key shown when connecting."""
        if self.client_cert_file:
            return self.client_cert_file, self.client_key_file
        return self.cert_file, self.key_file

    def __str__(self) -> str:
        """etcd's text for its log."""
        return (
            f"cert = {self.cert_file}, key = {self.key_file}, client-cert={self.client_cert_file},"
            f" client-key={self.client_key_file}, trusted-ca = {self.trusted_ca_file},"
            f" client-cert-auth = {str(self.client_cert_auth).lower()}, crl-file = {self.crl_file}"
        )
