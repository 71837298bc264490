"""SRV records (RFC 2782): the members of a new cluster, and the endpoints for clients.

``_etcd-server-ssl._tcp.<domain>`` and ``_etcd-server._tcp.<domain>`` name the members, by ``https`` and
``http``. Which of them this member is shows by the addresses that names resolve to; the others are numbered.
``_etcd-client-ssl._tcp`` and ``_etcd-client._tcp`` name endpoints. A service name, if given, is a suffix of
the first part. The name servers are those of ``/etc/resolv.conf``, unless ``KVORUM_DNS_SERVER`` names one.
Source of behaviour: etcd ``client/pkg/srv/srv.go``, ``embed.Config.GetDNSClusterNames``.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV

from kvorum import limits
from kvorum.urls import Url, split_host_port

SERVER_VARIABLE: Final = "KVORUM_DNS_SERVER"
"""Environment variable: ``address`` or ``address:port`` of the name server that discovery asks."""

_DNS_PORT: Final = 53
_INSECURE, _SECURE = "http", "https"


class LookupFailedError(Exception):
    """A name that cannot be resolved; the text is Go's."""


@final
@dataclass(frozen=True)
class Target:
    """Where a service is."""

    host: str
    """With a dot at its end."""
    port: int
    priority: int = 0
    weight: int = 0


class Names(Protocol):
    """What is asked of name servers."""

    async def services(self, name: str) -> Sequence[Target]:
        """The SRV records of a name, best first. Raises LookupFailedError."""

    async def address(self, host: str) -> str:
        """A host's address, one of IPv4 if there is any. Raises LookupFailedError."""


@final
class Resolver:
    """Asks name servers as Go does: with search domains, truncated answers again over TCP."""

    def __init__(self, environment: Mapping[str, str], seconds: float = limits.DISCOVERY_DNS_SECONDS) -> None:
        """``seconds`` is the longest wait for an answer.

        Raises:
            LookupFailedError: no name server is known, or the one of the environment is none.
        """
        server = environment.get(SERVER_VARIABLE, "")
        self._is_special: Final = bool(server)
        try:
            self._resolver: Final = dns.asyncresolver.Resolver(configure=not server)
            self._resolver.lifetime = seconds
            if server:
                host, port = split_host_port(server) if ":" in server else (server, str(_DNS_PORT))
                self._resolver.nameservers = [host]
                self._resolver.port = int(port)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise LookupFailedError(f"no name server: {error}") from None
        self._server: Final = server or f"{self._resolver.nameservers[0]}:{_DNS_PORT}"

    async def services(self, name: str) -> Sequence[Target]:
        """The SRV records of a name, by priority and weight. Raises LookupFailedError."""
        answer = await self._ask(name, dns.rdatatype.SRV)
        records = answer.rrset.processing_order() if answer.rrset is not None else []
        return [
            Target(record.target.to_text(), record.port, record.priority, record.weight)
            for record in records
            if isinstance(record, SRV)
        ]

    async def address(self, host: str) -> str:
        """A host's address. Raises LookupFailedError."""
        bare = host.removesuffix(".")
        if _is_address(bare):
            return bare
        if not self._is_special:  # as whoever connects to it will find it
            return await _system_address(bare)
        try:
            answer = await self._ask(host, dns.rdatatype.A)
        except LookupFailedError:
            answer = await self._ask(host, dns.rdatatype.AAAA)
        for record in answer:
            if isinstance(record, A | AAAA):
                return str(record.address)
        raise LookupFailedError(f"lookup {bare} on {self._server}: no such host")

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> dns.resolver.Answer:
        try:
            return await self._resolver.resolve(name, kind, search=True)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            why = "no such host"
        except dns.exception.Timeout:
            why = "i/o timeout"
        except dns.resolver.NoNameservers:
            why = "server misbehaving"
        except (dns.exception.DNSException, OSError) as error:
            why = str(error)
        raise LookupFailedError(f"lookup {name} on {self._server}: {why}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _system_address(host: str) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        raise LookupFailedError(f"lookup {host}: no such host") from None
    found.sort(key=lambda item: item[0] != socket.AF_INET)
    return str(found[0][4][0])


@final
@dataclass(frozen=True)
class DnsCluster:
    """The members that records name."""

    nodes: list[str] = field(default_factory=list)
    """``name=scheme://host:port`` each; those of other members are named ``0``, ``1``..."""
    local: dict[Url, Url] = field(default_factory=dict)
    """This member's advertised URLs, and how the records call them."""


@final
class MemberLookup:
    """Looks for the members of one domain. ``advertised`` are this member's own peer URLs."""

    def __init__(self, names: Names, domain: str, name: str, advertised: Sequence[Url]) -> None:
        self._names: Final = names
        self._domain: Final = domain
        self._name: Final = name
        self._advertised: Final = advertised

    async def look(self, service: str, scheme: str) -> DnsCluster:
        """The members that the records of one service name.

        Raises:
            LookupFailedError: none, with etcd's text.
        """
        own = {await self._tcp_address(url.host, url.port): url for url in self._advertised}
        found, problem = DnsCluster(), ""
        try:
            for target in await self._names.services(f"_{service}._tcp.{self._domain}"):
                problem = await self._take(found, own, target, scheme, service) or problem
        except LookupFailedError as error:
            problem = str(error)
        if found.nodes or not problem:
            return found
        raise LookupFailedError(f"error querying DNS SRV records for _{service} {problem}")

    async def _take(
        self, found: DnsCluster, own: Mapping[str, Url], target: Target, scheme: str, service: str
    ) -> str:
        """Add one record; returns what is wrong with it."""
        try:
            advertised = own.get(await self._tcp_address(target.host, str(target.port)))
        except LookupFailedError as error:
            return str(error)
        url = Url(scheme, _join(target.host.removesuffix("."), target.port))
        if advertised is not None and advertised.scheme != scheme:
            return (
                f"bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer"
                f" {advertised}"
            )
        name = self._name
        if advertised is None:
            name = str(len(found.nodes) - len(found.local))
        else:
            found.local[advertised] = url
        found.nodes.append(f"{name}={url}")
        return ""

    async def _tcp_address(self, host: str, port: str) -> str:
        return _join(await self._names.address(host), port)


def _join(host: str, port: int | str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def service_name(service: str, suffix: str, scheme: str) -> str:
    """The first part of a record's name, without the underscore."""
    secure = f"{service}-ssl" if scheme == _SECURE else service
    return f"{secure}-{suffix}" if suffix else secure


async def client_endpoints(names: Names, domain: str, suffix: str) -> list[str]:
    """The endpoints for clients of a domain, as URLs, those with TLS first. Raises LookupFailedError."""
    return [url for url, _ in await client_targets(names, domain, suffix)]


async def client_targets(names: Names, domain: str, suffix: str) -> list[tuple[str, Target]]:
    """As `client_endpoints`, each URL with its record.

    Raises:
        LookupFailedError: neither kind of records is there.
    """
    found: list[tuple[str, Target]] = []
    problems: list[str] = []
    for scheme in (_SECURE, _INSECURE):
        name = f"_{service_name('etcd-client', suffix, scheme)}._tcp.{domain}"
        try:
            targets = await names.services(name)
        except LookupFailedError as error:
            problems.append(str(error))
        else:
            found += [(f"{scheme}://{_join(target.host, target.port)}", target) for target in targets]
    if len(problems) > 1:
        raise LookupFailedError(f"dns lookup errors: {' and '.join(problems)}")
    return found
