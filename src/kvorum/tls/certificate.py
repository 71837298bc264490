"""A peer's certificate: the few things in it that rules look at.

Matching of names follows Go's ``crypto/x509`` (``VerifyHostname``): an IP address is compared with the
addresses alone, a name with the DNS names, ``*`` standing for the whole leftmost label.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import final

from kvorum.golang import quote
from kvorum.tls.later import x509


@final
@dataclass(frozen=True)
class Certificate:
    """What of a certificate matters after its signatures were verified."""

    serial: int
    common_name: str
    """The last one in its subject, as in Go; empty without one."""
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    """In the form of ``ipaddress``."""
    not_after: datetime

    @staticmethod
    def parse(der: bytes) -> "Certificate":
        """Return what is in DER. Raises ValueError: what OpenSSL takes may still be odd to others."""
        try:
            return Certificate._parse(der)
        except (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise ValueError(str(error)) from None

    @staticmethod
    def _parse(der: bytes) -> "Certificate":
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        common_name = str(names[-1].value) if names else ""
        dns_names: tuple[str, ...] = ()
        addresses: tuple[str, ...] = ()
        try:
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            dns_names = tuple(found.get_values_for_type(x509.DNSName))
            addresses = tuple(str(one) for one in found.get_values_for_type(x509.IPAddress))
        except x509.ExtensionNotFound:
            pass
        not_after = certificate.not_valid_after_utc
        return Certificate(certificate.serial_number, common_name, dns_names, addresses, not_after)

    def is_for(self, host: str) -> bool:
        """Whether it names a host, which is a DNS name or an IP address (in brackets or not)."""
        return not self.mismatch(host)

    def mismatch(self, host: str) -> str:
        """Why it does not name a host, in Go's words; empty if it does."""
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            address = str(ipaddress.ip_address(bare))
        except ValueError:
            return self._name_mismatch(host)
        if address in self.addresses:
            return ""
        if not self.addresses:
            return f"x509: cannot validate certificate for {host} because it doesn't contain any IP SANs"
        return f"x509: certificate is valid for {', '.join(self.addresses)}, not {host}"

    def _name_mismatch(self, host: str) -> str:
        if any(_matches(pattern, host) for pattern in self.dns_names):
            return ""
        if not self.dns_names:
            return f"x509: certificate is not valid for any names, but wanted to match {host}"
        return f"x509: certificate is valid for {', '.join(self.dns_names)}, not {host}"

    def expired(self, now: datetime | None = None) -> bool:
        """Whether its time is over."""
        return (now or datetime.now(UTC)) > self.not_after

    @property
    def serial_hex(self) -> str:
        """Its number in whole bytes."""
        return self.serial.to_bytes((self.serial.bit_length() + 7) // 8, "big").hex()


def _matches(pattern: str, host: str) -> bool:
    """Whether a DNS name of a certificate stands for a host."""
    patterns = pattern.lower().rstrip(".").split(".")
    labels = host.lower().rstrip(".").split(".")
    if len(patterns) != len(labels) or not all(labels):
        return False
    if patterns[0] == "*" and len(patterns) > 1:
        return patterns[1:] == labels[1:]
    return patterns == labels


def go_strings(texts: tuple[str, ...]) -> str:
    """A list of strings as Go prints it with ``%q``."""
    return f"[{' '.join(quote(text) for text in texts)}]"
