"""TLS of proxies: what they show to clients, and to members.

Source of behaviour: etcd ``server/etcdmain/etcd.go`` (startProxy), ``grpc_proxy.go``.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from kvorum.config import Config
from kvorum.logging import Logger
from kvorum.tls.admission import ServerTls
from kvorum.tls.dial import ClientTls
from kvorum.tls.info import TlsInfo
from kvorum.tls.selfsigned import self_signed

_PRIVATE: Final = 0o700


def member_tls(config: Config, log: Logger) -> tuple[ClientTls, ClientTls]:
    """What the v2 proxy connects with: to client URLs, and to peer URLs. Raises TlsError."""
    peers = _peer_info(config)
    clients = _client_info(config)
    if clients.empty:  # etcd's proxy of old had one pair for both
        clients = peers
    clients = replace(clients, self_signed=config.auto_tls)
    peers = replace(peers, self_signed=config.peer_auto_tls)
    return ClientTls.load(clients, log), ClientTls.load(peers, log)


def serving_tls(config: Config, directory: Path, log: Logger) -> ServerTls | None:
    """What the v2 proxy shows to its clients; None if none of its URLs asks for it.

    Raises:
        TlsError: files that cannot be used.
        OSError: no certificate can be made.
    """
    if not any(url.secure for url in config.listen_client_urls):
        return None
    info = _client_info(config)
    if config.auto_tls and info.empty:
        hosts = [url.host for url in (*config.listen_client_urls, *config.advertise_client_urls)]
        info = own_certificate(info, directory / "clientCerts", hosts, config.self_signed_cert_validity, log)
    return ServerTls.load(info, log)


def own_certificate(info: TlsInfo, directory: Path, hosts: list[str], years: int, log: Logger) -> TlsInfo:
    """Add the certificate of a directory, made if it is not there. Raises TlsError or OSError."""
    directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    return self_signed(info, directory, hosts, years, log)


def _client_info(config: Config) -> TlsInfo:
    return TlsInfo(
        cert_file=config.cert_file,
        key_file=config.key_file,
        client_cert_file=config.client_cert_file,
        client_key_file=config.client_key_file,
        trusted_ca_file=config.trusted_ca_file,
        client_cert_auth=config.client_cert_auth,
        crl_file=config.client_crl_file,
        allowed_hostnames=config.client_cert_allowed_hostname,
    )


def _peer_info(config: Config) -> TlsInfo:
    return TlsInfo(
        cert_file=config.peer_cert_file,
        key_file=config.peer_key_file,
        client_cert_file=config.peer_client_cert_file,
        client_key_file=config.peer_client_key_file,
        trusted_ca_file=config.peer_trusted_ca_file,
    )
