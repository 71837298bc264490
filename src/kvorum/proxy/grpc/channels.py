"""Channels and connections of the v3 proxy, and their TLS, from its flags."""

from collections.abc import Mapping
from typing import Final, final

import grpc
import grpc.aio
from cryptography import x509
from cryptography.x509.oid import NameOID

from kvorum.flags import Value
from kvorum.logging import Logger
from kvorum.proxy.endpoints import EndpointError
from kvorum.proxy.grpc.upstream import OPTIONS
from kvorum.tls.admission import ServerTls
from kvorum.tls.dial import ClientTls
from kvorum.tls.info import TlsInfo


@final
class Channels:
    """How members are connected to, as ``--cacert``, ``--cert`` and ``--key`` say.

    Raises:
        EndpointError: files that cannot be read.
    """

    def __init__(self, values: Mapping[str, Value], urls: list[str]) -> None:
        self._info: Final = TlsInfo(
            cert_file=str(values["cert"]), key_file=str(values["key"]), trusted_ca_file=str(values["cacert"])
        )
        named = bool(self._info.cert_file or self._info.key_file or self._info.trusted_ca_file)
        self.secure: Final = named or any(url.startswith("https://") for url in urls)
        limit = values["max-recv-bytes"]
        assert isinstance(limit, int)
        self._options: Final = (*OPTIONS, ("grpc.max_receive_message_length", limit or -1),
                                ("grpc.max_send_message_length", -1))  # fmt: skip
        self._credentials: Final = self._read() if self.secure else None

    def open(self, address: str) -> grpc.aio.Channel:
        """A channel to a member, which connects when it is used."""
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options=self._options)
        return grpc.aio.secure_channel(address, self._credentials, options=self._options)

    def http_tls(self, log: Logger) -> ClientTls | None:
        """TLS for a member's pages. Raises TlsError."""
        return ClientTls.load(self._info, log) if self.secure else None

    def _read(self) -> grpc.ChannelCredentials:
        info = self._info
        if bool(info.cert_file) != bool(info.key_file):
            raise EndpointError(
                f"KeyFile and CertFile must both be present[key: {info.key_file}, cert: {info.cert_file}]"
            )
        _refuse_a_name(info.cert_file)
        return grpc.ssl_channel_credentials(
            read(info.trusted_ca_file), read(info.key_file), read(info.cert_file)
        )


def channel_to_itself(address: str, tls: ServerTls | None) -> grpc.aio.Channel | None:
    """A channel to the proxy's advertised address, believing the certificate that the proxy shows."""
    if not address:
        return None
    target = address.partition("://")[2] or address
    if tls is None:
        return grpc.aio.insecure_channel(target, options=OPTIONS)
    info = tls.info
    authority = read(info.trusted_ca_file or info.cert_file)
    credentials = grpc.ssl_channel_credentials(authority, read(info.key_file), read(info.cert_file))
    return grpc.aio.secure_channel(target, credentials, options=OPTIONS)


def _refuse_a_name(path: str) -> None:
    """With a name in the proxy's certificate members would take all of its clients for that user."""
    text = read(path)
    if text is None:
        return
    try:
        subject = x509.load_pem_x509_certificate(text).subject
    except ValueError as error:
        raise EndpointError(f"{path}: {error}") from None
    names = [str(name.value) for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if any(names):
        raise EndpointError(f"cert has non empty Common Name ({names[0]}): {path}")


def read(path: str) -> bytes | None:
    """A file's bytes, None without a path. Raises EndpointError."""
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise EndpointError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
