"""``/v2/keys``: reads, writes and long polls of the tree.

A write waits for its entry and a quorum read for its round without a task or a future; a read of what is here
is answered at once. Only a request that shows a password costs a task, while the password is checked off the
loop. Source of behaviour: etcd 3.4.23 ``v2http/client.go`` (keysHandler), ``v2_server.go``.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final, final

from kvorum.api.v2.answers import Answers
from kvorum.api.v2.credentials import Access
from kvorum.api.v2.key_request import PREFIX, parse_key_request
from kvorum.api.v2.watching import LongPolls
from kvorum.rpc.http1_types import HttpRequest, HttpResponse
from kvorum.server.v2 import V2
from kvorum.v2store.errors import UNAUTHORIZED, V2Error
from kvorum.v2store.request import V2Request

METHODS: Final = ("HEAD", "GET", "PUT", "POST", "DELETE")


@final
class KeyAnswers:
    """Does what a request asks for that has been checked."""

    def __init__(self, v2: V2, answers: Answers, polls: LongPolls) -> None:
        self._v2: Final = v2
        self._answers: Final = answers
        self._polls: Final = polls

    def give(self, request: HttpRequest, parsed: V2Request, no_value: bool) -> HttpResponse | None:
        """Answer now, or later."""
        v2, answers = self._v2, self._answers
        if parsed.method != "GET" and parsed.method != "HEAD":
            v2.propose(parsed, lambda outcome: request.respond(answers.outcome(request, outcome, no_value)))
            return None
        if parsed.quorum and parsed.method == "GET":
            v2.quorum_get(
                parsed.path,
                parsed.recursive,
                parsed.sorted,
                lambda outcome: request.respond(answers.outcome(request, outcome)),
            )
            return None
        try:
            if parsed.wait:
                self._polls.begin(request, parsed)
                return None
            return answers.outcome(request, v2.get(parsed.path, parsed.recursive, parsed.sorted))
        except V2Error as error:
            return answers.outcome(request, error)


@final
class KeysHandler:
    """Answers requests for keys. ``clock`` is nanoseconds since 1970, from which a ttl counts."""

    def __init__(self, keys: KeyAnswers, answers: Answers, access: Access, clock: Callable[[], int]) -> None:
        self._keys: Final = keys
        self._answers: Final = answers
        self._access: Final = access
        self._clock: Final = clock

    def __call__(
        self, request: HttpRequest
    ) -> Coroutine[Any, Any, HttpResponse | None] | HttpResponse | None:
        """Answer now, or later."""
        try:
            parsed, no_value = parse_key_request(request, self._clock())
        except V2Error as error:
            return self._answers.outcome(request, error)
        if self._access.enabled:
            return self._checked(request, parsed, no_value)
        return self._keys.give(request, parsed, no_value)

    async def _checked(self, request: HttpRequest, parsed: V2Request, no_value: bool) -> HttpResponse | None:
        """The same for who may do it."""
        key = request.path[len(PREFIX) :]
        if not await self._access.may_use_key(request, key, recursive=parsed.recursive):
            return self._answers.outcome(request, V2Error(UNAUTHORIZED, "Insufficient credentials"))
        return self._keys.give(request, parsed, no_value)
