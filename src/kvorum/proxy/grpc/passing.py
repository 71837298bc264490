"""Calls that go to a member as they came, and come back as they were answered.

A unary call costs one task. How many wait at once is bounded; a stream's messages wait for the client to
read.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, final

import grpc.aio

from kvorum import limits
from kvorum.errors import RESOURCE_EXHAUSTED
from kvorum.proxy.grpc.upstream import Metadata, Upstream, is_connection, passed_on, status_of
from kvorum.rpc.calls import UnaryCall
from kvorum.rpc.connection import StreamHandler, UnaryHandler
from kvorum.rpc.messages import StatusError
from kvorum.rpc.streaming import StreamCall

Ask: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""Asks a member with a message, on behalf of one call; raises StatusError."""
Work: TypeAlias = Callable[[bytes, Ask, Metadata], Awaitable[bytes]]
"""Makes the answer to a message, asking as it needs; raises StatusError."""


@final
class Passing:
    """Handlers that pass on."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream: Final = upstream
        self._loop: Final = asyncio.get_running_loop()
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def unary(self, method: str, *, repeatable: bool, work: Work | None = None) -> UnaryHandler:
        """The handler of a unary method; ``work`` stands between the client and the member."""

        def handler(call: UnaryCall, message: bytes) -> None:
            if len(self._tasks) >= limits.PROXY_CALLS:
                call.fail(RESOURCE_EXHAUSTED, "grpc: too many calls wait for members")
                return
            task = self._loop.create_task(self._answer(call, method, message, work, repeatable=repeatable))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            call.on_cancel = functools.partial(_cancel, task)

        return handler

    def server_stream(self, method: str) -> StreamHandler:
        """The handler of a method that answers with a stream."""

        async def handler(call: StreamCall) -> None:
            request = await call.read()
            if request is None:
                return
            endpoint = self._upstream.current
            answers = endpoint.channel.unary_stream(method)(request, metadata=passed_on(call.metadata()))
            try:
                async for answer in answers:
                    await call.write(answer)
            except grpc.aio.AioRpcError as error:
                status = status_of(error)
                if is_connection(status):
                    self._upstream.leave(endpoint)
                raise status from None
            finally:
                answers.cancel()

        return handler

    async def _answer(
        self, call: UnaryCall, method: str, message: bytes, work: Work | None, *, repeatable: bool
    ) -> None:
        metadata = passed_on(call.metadata())

        async def ask(request: bytes) -> bytes:
            left = None if call.deadline is None else max(0.001, call.deadline - self._loop.time())
            return await self._upstream.unary(method, request, metadata, left, repeatable=repeatable)

        try:
            answer = await (ask(message) if work is None else work(message, ask, metadata))
        except StatusError as error:
            call.fail(error.code, error.message)
        else:
            call.reply(answer)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
