"""Why a cluster was not found. Texts are etcd's (``v2discovery``, ``v3discovery``, ``errors.go``)."""

from collections.abc import Sequence
from typing import Final, final


class DiscoveryError(Exception):
    """The cluster was not found, or does not take this member in; one line says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"failed to join discovery cluster ({reason})")
        self.reason: Final = reason


@final
class SizeNotFoundError(DiscoveryError):
    """Nobody said how many members there will be: most often a wrong token, or one that expired."""

    def __init__(self) -> None:
        super().__init__("discovery: size key not found")


@final
class BadSizeError(DiscoveryError):
    """The size is no number of members."""

    def __init__(self) -> None:
        super().__init__("discovery: size key is bad")


@final
class BadEndpointError(DiscoveryError):
    """What answers there is no discovery service."""

    def __init__(self) -> None:
        super().__init__("discovery: bad discovery endpoint")


@final
class DuplicateIdError(DiscoveryError):
    """This member has registered before."""

    def __init__(self) -> None:
        super().__init__("discovery: found duplicate id")


@final
class DuplicateNameError(DiscoveryError):
    """Two members registered with one name."""

    def __init__(self) -> None:
        super().__init__("discovery: found duplicate name")


@final
class InvalidUrlError(DiscoveryError):
    """A member registered with something that is no peer URL."""

    def __init__(self, what: str = "URL") -> None:
        super().__init__(f"discovery: invalid {what}")


@final
class FullClusterError(DiscoveryError):
    """As many members as there should be have registered before this one.

    With ``--discovery-fallback=proxy`` the process becomes a proxy for them: ``members`` is all it needs.
    """

    def __init__(self, members: Sequence[str]) -> None:
        super().__init__("discovery: cluster is full")
        self.members: Final = tuple(members)
        """What they registered: ``name=peerURL,...`` each, in the order in which they came."""

    @property
    def initial_cluster(self) -> str:
        """The members as ``--initial-cluster`` names them."""
        return ",".join(self.members)


@final
class UnavailableError(Exception):
    """The service could not be asked, or has no leader; it may work in a moment."""
