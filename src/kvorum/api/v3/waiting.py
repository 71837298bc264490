"""Unary calls that take long: a task each, a bound on how many there are, and what to undo on cancellation.

A call that waits in a queue holds a place in it by a key. If the client goes, the key must go too, and
before anything that the client asks for next: so ``Place.give_up`` is called while the cancellation is being
handled, not when the task gets to run.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, final

from kvorum import errors, limits
from kvorum.api.v3.local import LocalClient
from kvorum.errors import EtcdError
from kvorum.rpc.connection import Connection
from kvorum.rpc.grpc import StreamCall, UnaryCall


@final
class Place:
    """A place in a queue; ``held`` while the call waits and so is the one to clean up."""

    __slots__ = ("_call", "_client", "create_revision", "held", "key")

    def __init__(self, client: LocalClient, call: UnaryCall) -> None:
        self._client: Final = client
        self._call: Final = call
        self.key = b""
        self.create_revision = 0
        self.held = False

    def give_up(self) -> None:
        """Leave the queue, unless the call is not (or no longer) waiting in it."""
        if self.held:
            self.held = False
            self._client.delete_own(self._call, self.key, self.create_revision)


@final
class WaitingCalls:
    """The calls of a member that may wait without end.

    Invariant: ``_by_connection`` has no zeros, and its sum is ``total``.
    """

    def __init__(
        self,
        *,
        max_total: int = limits.MAX_WAITING_CALLS,
        max_per_connection: int = limits.MAX_WAITING_CALLS_PER_CONNECTION,
    ) -> None:
        self.total = 0
        self._max_total: Final = max_total
        self._max_per_connection: Final = max_per_connection
        self._by_connection: Final[dict[Connection, int]] = {}
        self._tasks: Final[dict[UnaryCall, Callable[[], None]]] = {}
        """How to cancel them."""
        self._stopped = False

    @contextmanager
    def entered(self, call: UnaryCall | StreamCall) -> Iterator[None]:
        """Count a call in for as long as its handler is inside.

        Raises:
            EtcdError: ERR_REQUEST_TOO_MANY_REQUESTS.
        """
        self._enter(call)
        try:
            yield
        finally:
            self._leave(call)

    def _enter(self, call: UnaryCall | StreamCall) -> None:
        count = self._by_connection.get(call.connection, 0)
        if self.total >= self._max_total or count >= self._max_per_connection:
            raise errors.ERR_REQUEST_TOO_MANY_REQUESTS
        self._by_connection[call.connection] = count + 1
        self.total += 1

    def _leave(self, call: UnaryCall | StreamCall) -> None:
        self.total -= 1
        self._by_connection[call.connection] -= 1
        if not self._by_connection[call.connection]:
            del self._by_connection[call.connection]

    def start(
        self,
        call: UnaryCall,
        answer: Coroutine[Any, Any, bytes],
        place: Place | None = None,
        result_of: Callable[[asyncio.Task[bytes]], bytes] | None = None,
    ) -> None:
        """Answer ``call`` with what the coroutine returns; cancel it with the call.

        ``result_of`` gives a task's result, or its error as clients see it; by default without its code.

        Raises:
            EtcdError: ERR_REQUEST_TOO_MANY_REQUESTS, ERR_STOPPED.
        """
        try:
            if self._stopped:
                raise errors.ERR_STOPPED
            self._enter(call)
        except EtcdError:
            answer.close()
            raise
        task = asyncio.get_running_loop().create_task(answer)
        result = result_of or as_clients_see_it

        def cancel() -> None:
            task.cancel()
            if place is not None:
                place.give_up()

        def done(task: asyncio.Task[bytes]) -> None:
            self._leave(call)
            del self._tasks[call]
            if not task.cancelled():
                task.exception()  # looked at, even if the call is gone and go_on does nothing
                call.go_on(lambda: call.reply(result(task)))

        self._tasks[call] = cancel
        call.on_cancel = cancel
        task.add_done_callback(done)

    def stop(self) -> None:
        """End them all, and let no more in: the member stops, and a client does better with another one."""
        self._stopped = True
        for call, cancel in list(self._tasks.items()):
            call.fail(errors.ERR_STOPPED.code, errors.ERR_STOPPED.message)
            cancel()


def as_clients_see_it(task: asyncio.Task[bytes]) -> bytes:
    """A task's result. Errors lose their code on the way through etcd's inner client: only the text is left.

    Raises:
        EtcdError: UNKNOWN, with the text of the task's own.
    """
    try:
        return task.result()
    except EtcdError as error:
        raise without_code(error) from None


def without_code(error: EtcdError) -> EtcdError:
    """An error as it comes out of etcd's inner client."""
    return EtcdError(errors.UNKNOWN, error.forget().message)
