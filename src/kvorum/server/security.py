"""TLS of all ports, from the flags: which files, which rules, what is said about them.

Source of order, texts and exit codes: etcd ``server/embed/etcd.go`` (configurePeerListeners,
configureClientListeners, serveMetrics) and ``server/embed/config.go`` (SelfCert).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, final

from kvorum.config import Config
from kvorum.logging import Logger
from kvorum.rpc.sockets import ListenError
from kvorum.server.directories import make_private
from kvorum.tls.admission import ServerTls
from kvorum.tls.contexts import readable_by_others
from kvorum.tls.dial import ClientTls
from kvorum.tls.info import TlsError, TlsInfo
from kvorum.tls.names import check_cipher_suites
from kvorum.urls import Url


class SecurityError(Exception):
    """TLS that cannot be had as asked for: one line for the log, under the message that etcd gives it."""

    def __init__(self, message: str, error: Exception) -> None:
        super().__init__(str(error))
        self.message: Final = message


@final
class Security:
    """What each port shows and asks for. Made once, before anything is bound.

    Raises:
        SecurityError: certificates, keys or options that cannot be used.
        ListenError: a URL asks for TLS and there is no certificate for it.
    """

    def __init__(self, config: Config, log: Logger) -> None:
        self._config: Final = config
        self._log: Final = log
        self.clients: ServerTls | None = None
        """For `Config.listen_client_urls`."""
        self.scrapers: ServerTls | None = None
        """For `Config.listen_metrics_urls`: as for clients, but certificates must be for who shows them."""
        self.peers: ServerTls | None = None
        """For `Config.listen_peer_urls`."""
        self.to_peers: ClientTls
        """For connections to members."""
        try:
            check_cipher_suites(config.cipher_suites)
        except TlsError as error:
            raise SecurityError("discovery failed", error) from None
        peer_info = self._with_certificate("peer", _peer_info(config), config.listen_peer_urls)
        self._serve_peers(peer_info)
        self.client_info: Final = self._with_certificate(
            "client", _client_info(config), config.listen_client_urls
        )
        self._serve_clients(self.client_info)

    def say_clients(self) -> None:
        """Say what is about to be served to clients."""
        if not self.client_info.empty:
            self._say_starting("client", self.client_info)

    # --- within -------------------------------------------------------------------------------------------

    def _with_certificate(self, kind: str, info: TlsInfo, urls: Sequence[Url]) -> TlsInfo:
        """Add a certificate of our own making, if one is wanted and none is given."""
        wanted = self._config.peer_auto_tls if kind == "peer" else self._config.auto_tls
        if not wanted:
            return info
        if not info.empty:
            self._log.warn(f"ignoring {kind} auto TLS since certs given")
            return info
        directory = Path(self._config.data_dir) / "fixtures" / kind
        hosts = [url.host for url in urls]
        try:
            make_private(str(directory), self._log)
            from kvorum.tls.selfsigned import self_signed  # with what makes keys, which few need

            return self_signed(info, directory, hosts, self._config.self_signed_cert_validity, self._log)
        except (TlsError, OSError) as error:
            raise SecurityError(f"failed to get {kind} self-signed certs", error) from None

    def _serve_peers(self, info: TlsInfo) -> None:
        config = self._config
        if not info.empty:
            self._say_starting("peer", info)
        self._warn_of_plain("peer", "--peer-client-cert-auth", info, config.listen_peer_urls, ("http",))
        _refuse_without(info, config.listen_peer_urls)
        try:
            if not info.empty:
                self.peers = ServerTls.load(info, self._log, check_addresses=True)
                self._warn_of_keys(info)
            self.to_peers = ClientTls.load(info, self._log)
        except TlsError as error:
            raise SecurityError("discovery failed", error) from None

    def _serve_clients(self, info: TlsInfo) -> None:
        config = self._config
        self._warn_of_plain("client", "--client-cert-auth", info, config.listen_client_urls, ("http", "unix"))
        for url in config.listen_client_urls:
            if url.secure and info.empty:
                raise ListenError(
                    f"TLS key/cert (--cert-file, --key-file) must be provided for client url {url}"
                    " with HTTPS scheme"
                )
        _refuse_without(info, config.listen_metrics_urls)
        if not any(url.secure for url in (*config.listen_client_urls, *config.listen_metrics_urls)):
            return  # etcd, too, looks at the files only when they are used
        try:
            self.clients = ServerTls.load(info, self._log)
            self.scrapers = ServerTls.load(info, self._log, check_addresses=True)
            self._warn_of_keys(info)
        except TlsError as error:
            raise SecurityError("listener failed", error) from None

    def _say_starting(self, kind: str, info: TlsInfo) -> None:
        suites = list(self._config.cipher_suites)
        self._log.info(f"starting with {kind} TLS", {"tls-info": str(info), "cipher-suites": suites})

    def _warn_of_plain(
        self, kind: str, flag: str, info: TlsInfo, urls: Sequence[Url], schemes: tuple[str, ...]
    ) -> None:
        for url in urls:
            if url.scheme not in schemes:
                continue
            if not info.empty:
                self._log.warn(
                    "scheme is HTTP while key and cert files are present; ignoring key and cert files",
                    {f"{kind}-url": str(url)},
                )
            if info.client_cert_auth:
                self._log.warn(
                    f"scheme is HTTP while {flag} is enabled; ignoring client cert auth for this URL",
                    {f"{kind}-url": str(url)},
                )

    def _warn_of_keys(self, info: TlsInfo) -> None:
        for path in sorted({info.key_file, info.client_key_file} - {""}):
            if readable_by_others(path):
                self._log.warn("everybody on this machine can read a private key", {"key-file": path})


def _refuse_without(info: TlsInfo, urls: Sequence[Url]) -> None:
    for url in urls:
        if url.secure and info.empty:
            raise ListenError(
                f"cannot listen on TLS for {url.address}: KeyFile and CertFile are not presented"
            )


def _client_info(config: Config) -> TlsInfo:
    info = TlsInfo(
        cert_file=config.cert_file,
        key_file=config.key_file,
        client_cert_file=config.client_cert_file,
        client_key_file=config.client_key_file,
        trusted_ca_file=config.trusted_ca_file,
        client_cert_auth=config.client_cert_auth,
        crl_file=config.client_crl_file,
        allowed_hostnames=config.client_cert_allowed_hostname,
    )
    return _for_all_ports(info, config)


def _peer_info(config: Config) -> TlsInfo:
    info = TlsInfo(
        cert_file=config.peer_cert_file,
        key_file=config.peer_key_file,
        client_cert_file=config.peer_client_cert_file,
        client_key_file=config.peer_client_key_file,
        trusted_ca_file=config.peer_trusted_ca_file,
        client_cert_auth=config.peer_client_cert_auth,
        crl_file=config.peer_crl_file,
        allowed_cns=config.peer_cert_allowed_cn,
        allowed_hostnames=config.peer_cert_allowed_hostname,
        skip_client_san_verify=config.peer_skip_client_san_verification,
    )
    return _for_all_ports(info, config)


def _for_all_ports(info: TlsInfo, config: Config) -> TlsInfo:
    return replace(
        info,
        cipher_suites=config.cipher_suites,
        min_version=config.tls_min_version,
        max_version=config.tls_max_version,
    )
