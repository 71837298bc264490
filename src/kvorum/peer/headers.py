"""The headers by which peers know each other, and what is checked of them (etcd ``rafthttp/util.go``,
``http.go``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, final

from kvorum import ETCD_VERSION
from kvorum.logging import Logger, hex_id
from kvorum.peer.connection import Headers
from kvorum.rpc.http1_types import HttpRequest
from kvorum.urls import Url, parse_urls

MIN_CLUSTER_VERSION: Final = "3.0.0"
"""The oldest members that this version works with (etcd ``api/version``)."""
INCOMPATIBLE_VERSION: Final = "incompatible version"
CLUSTER_ID_MISMATCH: Final = "cluster ID mismatch"

_VERSION: Final = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")
_ID: Final = re.compile(r"[0-9a-fA-F]+")
_FIRST_WITH_STREAMS: Final = (2, 1)


@final
@dataclass(frozen=True)
class Identity:
    """Who this member is to the others."""

    member_id: int
    cluster_id: int
    urls: tuple[Url, ...] = ()
    """Its advertised peer URLs."""
    headers: Headers = field(init=False, default=())
    """What every request to a peer carries."""

    def __post_init__(self) -> None:
        headers = [
            ("X-Server-From", hex_id(self.member_id)),
            ("X-Server-Version", ETCD_VERSION),
            ("X-Min-Cluster-Version", MIN_CLUSTER_VERSION),
            ("X-Etcd-Cluster-ID", hex_id(self.cluster_id)),
        ]
        if self.urls:
            headers.append(("X-PeerURLs", ",".join(map(str, self.urls))))
        object.__setattr__(self, "headers", tuple(headers))

    @property
    def cluster_header(self) -> tuple[str, str]:
        """What every answer to a peer carries."""
        return ("X-Etcd-Cluster-ID", hex_id(self.cluster_id))


def parse_version(text: str | None) -> tuple[int, int]:
    """Major and minor of a version header; none at all is etcd 2.0. Raises ValueError if it is no version."""
    if not text:
        return (2, 0)
    found = _VERSION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is not in dotted-tri format")
    return int(found[1]), int(found[2])


def parse_id(text: str) -> int | None:
    """The id that a hexadecimal text is; None if it is none (Go's ``strconv.ParseUint``, 64 bits)."""
    if not _ID.fullmatch(text) or int(text, 16) >= 1 << 64:
        return None
    return int(text, 16)


_OUR_VERSION: Final = parse_version(ETCD_VERSION)
_OUR_MIN_CLUSTER: Final = parse_version(MIN_CLUSTER_VERSION)


def speaks_streams(version: str) -> bool:
    """Whether a peer that answers with this version has the streams we know. Raises ValueError."""
    return parse_version(version) >= _FIRST_WITH_STREAMS


def incompatibility(identity: Identity, request: HttpRequest, log: Logger) -> str | None:
    """What keeps us from talking to the sender of a request, as etcd answers it; None if nothing does.

    Raises:
        ValueError: a version that is none.
    """
    server = request.header("x-server-version")
    minimum = request.header("x-min-cluster-version")
    name = request.header("x-server-from") or ""
    fields: dict[str, object] = {
        "local-member-id": hex_id(identity.member_id),
        "local-member-cluster-id": hex_id(identity.cluster_id),
        "local-member-server-version": ETCD_VERSION,
        "local-member-server-minimum-cluster-version": MIN_CLUSTER_VERSION,
        "remote-peer-server-name": name,
        "remote-peer-server-version": server or "2.0.0",
        "remote-peer-server-minimum-cluster-version": minimum or "2.0.0",
    }
    whose = ""
    if parse_version(server) < _OUR_MIN_CLUSTER:
        whose = "remote"
    elif parse_version(minimum) > _OUR_VERSION:
        whose = "local"
    if whose:
        fields["error"] = (
            f"{whose} version is too low: remote[{name}]={server or '2.0.0'}, local={ETCD_VERSION}"
        )
        log.warn("failed to check version compatibility", fields)
        return INCOMPATIBLE_VERSION
    cluster = request.header("x-etcd-cluster-id") or ""
    if cluster != hex_id(identity.cluster_id):
        log.warn("request cluster ID mismatch", {**fields, "remote-peer-cluster-id": cluster})
        return CLUSTER_ID_MISMATCH
    return None


def announced(request: HttpRequest) -> tuple[int, Sequence[Url]] | None:
    """The sender of a request and its peer URLs, if it names both properly."""
    sender = parse_id(request.header("x-server-from") or "")
    texts = request.header("x-peerurls") or ""
    if not sender or not texts or len(texts) > _MAX_URLS_TEXT:
        return None
    try:
        return sender, parse_urls(texts.split(","))
    except ValueError:
        return None


_MAX_URLS_TEXT: Final = 4096
"""Longest list of URLs kept for a member that only a request has named."""
