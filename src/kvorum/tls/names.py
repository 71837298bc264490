"""Go's names of cipher suites and TLS versions, and what OpenSSL calls them.

Source: Go ``crypto/tls/cipher_suites.go``, etcd ``client/pkg/tlsutil``, RFC 5246 and the registries it names.
"""

import ssl
from collections.abc import Sequence
from typing import Final

from kvorum.golang import quote
from kvorum.tls.info import TlsError

CIPHER_SUITES: Final = {
    "TLS_RSA_WITH_RC4_128_SHA": "RC4-SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": "DES-CBC3-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA": "ECDHE-ECDSA-RC4-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA": "ECDHE-RSA-RC4-SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": "ECDHE-RSA-DES-CBC3-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
}
"""OpenSSL's name by Go's; those of TLS 1.3 cannot be chosen, in Go as here, and so have none."""

_VERSIONS: Final = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}


def check_cipher_suites(suites: Sequence[str]) -> None:
    """Raise TlsError for a name that Go does not know."""
    for suite in suites:
        if suite not in CIPHER_SUITES:
            raise TlsError(f"unexpected TLS cipher suite {quote(suite)}")


def check_versions(lowest: str, highest: str, suites: Sequence[str]) -> None:
    """Raise TlsError for versions that are none, that exclude each other, or that leave no suite to choose.

    Source: etcd 3.7 ``embed.Config.Validate``.
    """
    for name in (lowest, highest):
        if name and name not in _VERSIONS:
            raise TlsError(f"unexpected TLS version {quote(name)} (must be one of: TLS1.2, TLS1.3)")
    if highest and lowest > highest:
        raise TlsError(f"min version ({lowest}) is greater than max version ({highest})")
    if lowest == "TLS1.3" and suites:
        raise TlsError("cipher suites cannot be configured when only TLS1.3 is enabled")


def set_versions(context: ssl.SSLContext, lowest: str, highest: str) -> None:
    """Limit a context to versions that `check_versions` has passed; TLS 1.2 is the least there is."""
    context.minimum_version = _VERSIONS.get(lowest, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = _VERSIONS.get(highest, ssl.TLSVersion.MAXIMUM_SUPPORTED)


def set_cipher_suites(context: ssl.SSLContext, suites: Sequence[str]) -> None:
    """Allow these suites of TLS 1.2 and no other. Raises TlsError if OpenSSL has none of them.

    As in Go, suites of TLS 1.3 are always allowed where that version is; if the list has no others, TLS 1.2
    has nothing left to speak.
    """
    wanted = [CIPHER_SUITES[suite] for suite in suites if CIPHER_SUITES[suite]]
    if not wanted:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return
    try:
        context.set_ciphers(":".join(wanted))
    except ssl.SSLError:
        raise TlsError(f"no TLS cipher suite of {', '.join(suites)} is supported by OpenSSL") from None
