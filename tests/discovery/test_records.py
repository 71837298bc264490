"""SRV records: which of them this member is, what becomes of bad ones. Names are a table."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from kvorum.discovery.srv import (
    LookupFailedError,
    MemberLookup,
    Resolver,
    Target,
    client_endpoints,
    service_name,
)
from kvorum.urls import Url, parse_url


class Table:
    """Names as a test says them."""

    def __init__(
        self, services: Mapping[str, Sequence[tuple[str, int]]], hosts: Mapping[str, str] | None = None
    ) -> None:
        self._services = services
        self._hosts = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3", "six": "fd00::1", **(hosts or {})}

    async def services(self, name: str) -> Sequence[Target]:
        if name not in self._services:
            raise LookupFailedError(f"lookup {name} on ns: no such host")
        return [Target(host, port) for host, port in self._services[name]]

    async def address(self, host: str) -> str:
        bare = host.removesuffix(".")
        if bare[:1].isdigit() or ":" in bare:
            return bare
        if bare not in self._hosts:
            raise LookupFailedError(f"lookup {bare} on ns: no such host")
        return self._hosts[bare]


ALL = {"_etcd-server._tcp.d": [("b.", 2380), ("a.", 2380), ("c.", 2380)]}


def look(names: Table, *advertised: str, scheme: str = "http") -> tuple[list[str], dict[Url, Url]]:
    lookup = MemberLookup(names, "d", "me", [parse_url(url) for url in advertised])
    service = service_name("etcd-server", "", scheme)
    found = asyncio.run(lookup.look(service, scheme))
    return found.nodes, found.local


def test_the_others_are_numbered() -> None:
    nodes, local = look(Table(ALL), "http://a:2380")
    assert nodes == ["0=http://b:2380", "me=http://a:2380", "1=http://c:2380"]
    assert local == {parse_url("http://a:2380"): parse_url("http://a:2380")}


def test_it_finds_itself_by_address() -> None:
    nodes, local = look(Table(ALL), "http://10.0.0.3:2380")
    assert nodes == ["0=http://b:2380", "1=http://a:2380", "me=http://c:2380"]
    assert local == {parse_url("http://10.0.0.3:2380"): parse_url("http://c:2380")}
    nodes, local = look(Table(ALL), "http://10.0.0.3:2381")  # another port is another member
    assert not local


def test_several_urls_of_one_member() -> None:
    nodes, local = look(Table(ALL), "http://a:2380", "http://10.0.0.2:2380")
    assert nodes == ["me=http://b:2380", "me=http://a:2380", "0=http://c:2380"]
    assert len(local) == 2


def test_addresses_of_ipv6() -> None:
    nodes, _ = look(Table({"_etcd-server._tcp.d": [("six.", 1), ("a.", 1)]}), "http://[fd00::1]:1")
    assert nodes == ["me=http://six:1", "0=http://a:1"]


def test_a_host_that_is_not_known_is_passed_over() -> None:
    records = {"_etcd-server._tcp.d": [("nowhere.", 1), ("a.", 1)]}
    assert look(Table(records), "http://a:1")[0] == ["me=http://a:1"]
    only = {"_etcd-server._tcp.d": [("nowhere.", 1)]}
    with pytest.raises(LookupFailedError, match=r"^error querying .* for _etcd-server lookup nowhere on ns"):
        look(Table(only), "http://a:1")


def test_a_record_of_the_wrong_kind_is_passed_over() -> None:
    records = {"_etcd-server-ssl._tcp.d": [("a.", 1), ("b.", 1)]}
    assert look(Table(records), "http://a:1", scheme="https")[0] == ["0=https://b:1"]
    with pytest.raises(LookupFailedError, match=r"scheme mismatch with expected peer http://a:1$"):
        look(Table({"_etcd-server-ssl._tcp.d": [("a.", 1)]}), "http://a:1", scheme="https")


def test_ones_own_address_must_be_known() -> None:
    with pytest.raises(LookupFailedError, match=r"^lookup elsewhere on ns: no such host$"):
        look(Table(ALL), "http://elsewhere:2380")


def test_no_records_of_that_name() -> None:
    assert look(Table({"_etcd-server._tcp.d": []}), "http://a:1") == ([], {})


def test_names_of_services() -> None:
    assert service_name("etcd-client", "", "http") == "etcd-client"
    assert service_name("etcd-client", "", "https") == "etcd-client-ssl"
    assert service_name("etcd-client", "prod", "https") == "etcd-client-ssl-prod"


def test_endpoints() -> None:
    both = {"_etcd-client-ssl._tcp.d": [("a.", 1)], "_etcd-client._tcp.d": [("b.", 2)]}
    assert asyncio.run(client_endpoints(Table(both), "d", "")) == ["https://a.:1", "http://b.:2"]
    one = {"_etcd-client-prod._tcp.d": [("b.", 2)]}
    assert asyncio.run(client_endpoints(Table(one), "d", "prod")) == ["http://b.:2"]
    with pytest.raises(LookupFailedError, match=r"^dns lookup errors: lookup .* and lookup "):
        asyncio.run(client_endpoints(Table({}), "d", ""))


@pytest.mark.parametrize("server", ["localhost:x", "[::1", "1:2:3", "not an address"])
def test_a_name_server_that_is_none(server: str) -> None:
    with pytest.raises(LookupFailedError, match=r"^no name server: "):
        Resolver({"KVORUM_DNS_SERVER": server})


def test_the_machines_own_name_servers() -> None:
    assert asyncio.run(Resolver({}).address("127.0.0.1")) == "127.0.0.1"
    assert asyncio.run(Resolver({}).address("localhost.")) == "127.0.0.1"
