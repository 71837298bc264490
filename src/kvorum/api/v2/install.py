"""Puts the v2 API together and into the client port's routes."""

import time
from typing import Final, final

from kvorum import limits
from kvorum.api.v2.answers import Answers
from kvorum.api.v2.auth import AuthHandlers
from kvorum.api.v2.credentials import Access, Credentials
from kvorum.api.v2.key_request import PREFIX
from kvorum.api.v2.keys import METHODS, KeysHandler
from kvorum.api.v2.members import MembersHandler
from kvorum.api.v2.passwords import Passwords
from kvorum.api.v2.stats import StatsHandlers
from kvorum.api.v2.watching import CallSoon, LongPolls
from kvorum.logging import Logger
from kvorum.rpc.http1 import HttpServer
from kvorum.server.node import Node


@final
class V2Api:
    """The v2 API of one member; ``close`` it when the member stops."""

    def __init__(self, node: Node, log: Logger, name: str, call_soon: CallSoon) -> None:
        v2 = node.v2
        answers = Answers(node, node.cluster.id)
        self._passwords: Final = Passwords()
        credentials = Credentials(v2, node.linearizable_read, self._passwords, log)
        access = Access(credentials, log)
        polls = LongPolls(v2, answers, call_soon)
        self._keys: Final = KeysHandler(v2, answers, access, polls, time.time_ns)
        self._auth: Final = AuthHandlers(answers, credentials, access)
        self._members: Final = MembersHandler(
            answers, access, node.cluster, node.reconfigure, lambda: node.leader
        )
        self._stats: Final = StatsHandlers(node, v2, node.cluster, name, time.time_ns, node.timers.time)

    def install(self, http: HttpServer, max_request_bytes: int) -> None:
        """Register everything below ``/v2``."""
        body_bytes = max_request_bytes * limits.V2_FORM_FACTOR + limits.V2_FORM_OVERHEAD_BYTES
        for path in (PREFIX, PREFIX + "/"):
            http.route(METHODS, path, self._keys, max_body_bytes=body_bytes)
        self._auth.install(http)
        self._members.install(http)
        self._stats.install(http)

    def close(self) -> None:
        """End the threads."""
        self._passwords.close()
