"""Lists of revoked certificates, PEM or DER (RFC 5280 section 5).

As in etcd a list is a set of serial numbers: neither its signature, its issuer nor its time is looked at,
and it counts for every certificate that is shown. A list that cannot be read lets nobody in.
"""

from typing import Final, final

from kvorum.tls.certificate import Certificate
from kvorum.tls.contexts import read_file
from kvorum.tls.info import TlsError
from kvorum.tls.later import x509


@final
class RevocationList:
    """The serial numbers of one file, or why there are none."""

    def __init__(self, serials: frozenset[int], problem: str = "") -> None:
        self._serials: Final = serials
        self._problem: Final = problem

    @staticmethod
    def load(path: str) -> "RevocationList":
        """Return what a file says; never raises."""
        try:
            return RevocationList(_parse(read_file(path)))
        except TlsError as error:
            return RevocationList(frozenset(), str(error))
        except ValueError:
            return RevocationList(frozenset(), "x509: malformed crl")

    def refusal(self, certificates: tuple[Certificate, ...]) -> str:
        """Why one of these may not come in; empty if none is revoked."""
        if self._problem:
            return self._problem
        for certificate in certificates:
            if certificate.serial in self._serials:
                return f"transport: certificate serial {certificate.serial_hex} revoked"
        return ""


def _parse(data: bytes) -> frozenset[int]:
    if data.lstrip().startswith(b"-----BEGIN X509 CRL"):
        return frozenset(one.serial_number for one in x509.load_pem_x509_crl(data))
    return frozenset(one.serial_number for one in x509.load_der_x509_crl(data))
