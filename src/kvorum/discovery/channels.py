"""gRPC channels to a v3 discovery service, as the ``--discovery-*`` flags ask for them.

TLS is spoken to ``https`` endpoints and, if a certificate, a key or an authority is given, or the transport
shall not be insecure, to all without a scheme. Source of behaviour: etcd ``client/v3`` (NewClientConfig).
"""

import asyncio
import socket
import ssl

import grpc
import grpc.aio
from cryptography import x509

from kvorum.config import Config, ConfigError
from kvorum.discovery.errors import UnavailableError
from kvorum.urls import split_host_port


async def open_channel(config: Config, endpoint: str) -> grpc.aio.Channel:
    """A channel, which connects when it is used.

    Raises:
        ConfigError: certificate or key cannot be read.
        UnavailableError: the server's certificate, which shall be trusted whatever it is, cannot be had.
    """
    scheme, separator, address = endpoint.partition("://")
    if not separator:
        scheme, address = "", endpoint
    target = f"unix:{address}" if scheme.startswith("unix") else address
    options: list[tuple[str, int | str]] = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.keepalive_time_ms", max(1, int(config.discovery_keepalive_time.milliseconds))),
        ("grpc.keepalive_timeout_ms", max(1, int(config.discovery_keepalive_timeout.milliseconds))),
        ("grpc.min_reconnect_backoff_ms", max(1, int(config.discovery_dial_timeout.milliseconds))),
        ("grpc.initial_reconnect_backoff_ms", 100),
    ]
    if not (scheme in ("https", "unixs") or (not scheme and _wants_tls(config))):
        return grpc.aio.insecure_channel(target, options=options)
    if bool(config.discovery_cert) != bool(config.discovery_key):
        raise ConfigError(
            "KeyFile and CertFile must both be present"
            f"[key: {config.discovery_key}, cert: {config.discovery_cert}]"
        )
    authorities = _read(config.discovery_cacert)
    if config.discovery_insecure_skip_tls_verify:
        authorities, name = await _whatever_it_shows(config, address)
        options.append(("grpc.ssl_target_name_override", name))
    credentials = grpc.ssl_channel_credentials(
        authorities, _read(config.discovery_key), _read(config.discovery_cert)
    )
    return grpc.aio.secure_channel(target, credentials, options=options)


def credentials(config: Config) -> tuple[str, str]:
    """User and password: ``--discovery-user`` may hold both."""
    if config.discovery_password:
        return config.discovery_user, config.discovery_password
    name, _, password = config.discovery_user.partition(":")
    return name, password


def _wants_tls(config: Config) -> bool:
    files = (config.discovery_cert, config.discovery_key, config.discovery_cacert)
    return any(files) or not config.discovery_insecure_transport or config.discovery_insecure_skip_tls_verify


def _read(path: str) -> bytes | None:
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"open {path}: {(error.strerror or str(error)).lower()}") from None


async def _whatever_it_shows(config: Config, address: str) -> tuple[bytes, str]:
    """The certificate that a server shows, and a name in it: gRPC's library cannot leave out the check, but
    it can be told to believe this one.
    """
    try:
        shown = await asyncio.to_thread(_shown, config, address)
        certificate = x509.load_der_x509_certificate(shown)
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{address}: {error}") from None
    return ssl.DER_cert_to_PEM_cert(shown).encode(), _name_in(certificate)


def _shown(config: Config, address: str) -> bytes:
    """A server's certificate. Raises OSError or ValueError."""
    host, port = split_host_port(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if config.discovery_cert:
        context.load_cert_chain(config.discovery_cert, config.discovery_key)
    connecting = socket.create_connection((host, int(port)), config.discovery_dial_timeout.seconds)
    with connecting, context.wrap_socket(connecting, server_hostname=host) as secured:
        return secured.getpeercert(binary_form=True) or b""


def _name_in(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    found = names.get_values_for_type(x509.DNSName)
    found += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return found[0].replace("*", "a") if found else ""
