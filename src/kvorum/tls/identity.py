"""Who a client has proved to be."""

from typing import Any, Final, Protocol

EXTRA_INFO: Final = "common_name"
"""Under this name a transport's extra information has it."""


class HasExtraInfo(Protocol):
    """A connection, request or call that can be asked about its transport."""

    def extra_info(self, name: str) -> Any:
        """What the transport knows."""


def common_name(connection: HasExtraInfo) -> str | None:
    """Return the common name in a client's certificate; costs a dict lookup.

    None without TLS, without a certificate, or unless ``--client-cert-auth`` had it verified: a name that
    nobody vouches for is none. An empty text is a verified certificate without a common name. Source: etcd
    ``server/auth/store.go`` (AuthInfoFromTLS).
    """
    name = connection.extra_info(EXTRA_INFO)
    assert name is None or isinstance(name, str)
    return name
