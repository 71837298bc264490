"""Member URLs: what is accepted, how it prints, what is said about the rest."""

import pytest

from kvorum.urls import (
    Url,
    check_bind_urls,
    check_host_urls,
    format_cluster,
    parse_cluster,
    parse_url,
    parse_urls,
    split_host_port,
)


@pytest.mark.parametrize(
    ("text", "url", "host", "port"),
    [
        ("http://localhost:2379", Url("http", "localhost:2379"), "localhost", "2379"),
        (" https://[::1]:2379 ", Url("https", "[::1]:2379"), "::1", "2379"),
        ("unix://sock:1", Url("unix", "sock:1"), "sock", "1"),
        ("HTTP://a:1", Url("http", "a:1"), "a", "1"),
        ("http://:2379", Url("http", ":2379"), "", "2379"),
    ],
)
def test_accepted(text: str, url: Url, host: str, port: str) -> None:
    parsed = parse_url(text)
    assert parsed == url
    assert (parsed.host, parsed.port) == (host, port)
    assert parse_url(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
        ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
        ("", "URL scheme must be http, https, unix, or unixs: "),
        ("127.0.0.1:1", 'parse "127.0.0.1:1": first path segment in URL cannot contain colon'),
        (":1", 'parse ":1": missing protocol scheme'),
        ("http://a", 'URL address does not have the form "host:port": http://a'),
        ("http://a:1/b", "URL must not contain a path: http://a:1/b"),
        ("http://a:b", 'parse "http://a:b": invalid port ":b" after host'),
        ("http://[::1", "parse \"http://[::1\": missing ']' in host"),
        ("http://a b:1", 'parse "http://a b:1": invalid character " " in host name'),
        ("http://a\x01:1", 'parse "http://a\\x01:1": net/url: invalid control character in URL'),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"URL|parse") as caught:
        parse_url(text)
    assert str(caught.value) == message


def test_lists_are_sorted() -> None:
    assert [str(url) for url in parse_urls(["http://b:1", "http://a:1"])] == ["http://a:1", "http://b:1"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("a", "address a: missing port in address"),
        ("a:b:c", "address a:b:c: too many colons in address"),
        ("[::1", "address [::1: missing ']' in address"),
        ("[::1]", "address [::1]: missing port in address"),
    ],
)
def test_split_refuses(address: str, message: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        split_host_port(address)
    assert str(caught.value) == message


def test_names_are_not_bound() -> None:
    check_bind_urls(parse_urls(["http://localhost:1", "http://0.0.0.0:1", "http://[::]:1", "unix://any:1"]))
    with pytest.raises(ValueError, match=r"expected IP in URL for binding \(http://example.com:1\)"):
        check_bind_urls(parse_urls(["http://example.com:1"]))


def test_hosts_are_advertised() -> None:
    check_host_urls(parse_urls(["http://example.com:1"]))
    with pytest.raises(ValueError, match=r"unexpected empty host \(http://:1\)"):
        check_host_urls(parse_urls(["http://:1"]))


def test_cluster() -> None:
    members = parse_cluster("b=http://b:1,a=http://a:2,,a=http://a:1")
    assert {name: [str(url) for url in urls] for name, urls in members.items()} == {
        "b": ["http://b:1"],
        "a": ["http://a:1", "http://a:2"],
    }
    assert format_cluster(members) == "a=http://a:1,a=http://a:2,b=http://b:1"
    with pytest.raises(ValueError, match="URL scheme"):
        parse_cluster("a")
