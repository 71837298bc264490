"""Puts the v2 API together and into the client port's routes."""

import secrets
import time
from typing import Final, final

from kvorum import limits
from kvorum.api.v2.answers import Answers
from kvorum.api.v2.auth import AuthHandlers
from kvorum.api.v2.credentials import Access, Credentials
from kvorum.api.v2.discovery import Allowance, DiscoveryService
from kvorum.api.v2.key_request import PREFIX
from kvorum.api.v2.keys import METHODS, KeyAnswers, KeysHandler
from kvorum.api.v2.members import MembersHandler
from kvorum.api.v2.passwords import Passwords
from kvorum.api.v2.stats import Appends, StatsHandlers
from kvorum.api.v2.watching import CallSoon, LongPolls
from kvorum.logging import Logger
from kvorum.rpc.http1 import HttpServer
from kvorum.server.node import Node
from kvorum.server.passwords import Passwords as Room


@final
class V2Api:
    """The v2 API of one member."""

    def __init__(
        self,
        node: Node,
        log: Logger,
        name: str,
        call_soon: CallSoon,
        appends: Appends,
        passwords: Room,
    ) -> None:
        v2 = node.v2
        answers = Answers(node, node.cluster.id)
        credentials = Credentials(v2, node.linearizable_read, Passwords(passwords), log)
        access = Access(credentials, log)
        keys = KeyAnswers(v2, answers, LongPolls(v2, answers, call_soon))
        self._keys: Final = KeysHandler(keys, answers, access, time.time_ns)
        self._auth: Final = AuthHandlers(answers, credentials, access)
        self._members: Final = MembersHandler(
            answers, access, node.cluster, node.reconfigure, lambda: node.leader
        )
        self._stats: Final = StatsHandlers(
            node, v2, node.cluster, appends, name, time.time_ns, node.timers.time
        )

    def install(self, http: HttpServer, max_request_bytes: int) -> None:
        """Register everything below ``/v2``."""
        body_bytes = max_request_bytes * limits.V2_FORM_FACTOR + limits.V2_FORM_OVERHEAD_BYTES
        for path in (PREFIX, PREFIX + "/"):
            http.route(METHODS, path, self._keys, max_body_bytes=body_bytes)
        self._auth.install(http)
        self._members.install(http)
        self._stats.install(http)


def discovery_service(node: Node, call_soon: CallSoon, ttl_ns: int, fallback_host: str) -> DiscoveryService:
    """The discovery service of one member, to be installed."""
    answers = Answers(node, node.cluster.id)
    return DiscoveryService(
        node.v2,
        answers,
        KeyAnswers(node.v2, answers, LongPolls(node.v2, answers, call_soon)),
        ttl_ns=ttl_ns,
        wall_clock=time.time_ns,
        allowance=Allowance(
            limits.DISCOVERY_SERVICE_BURST, limits.DISCOVERY_SERVICE_SECONDS_PER_TOKEN, node.timers.time
        ),
        new_token=lambda: secrets.token_hex(16),
        fallback_host=fallback_host,
    )
