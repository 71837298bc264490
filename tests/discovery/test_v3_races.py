"""The same for v3: registrations at once, in any order, against a dumb twin of the keys; and its waits."""

import asyncio
from dataclasses import dataclass, field
from typing import TypeVar, cast

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum.discovery.backoff import Backoff
from kvorum.discovery.errors import (
    BadSizeError,
    DiscoveryError,
    DuplicateNameError,
    FullClusterError,
    InvalidUrlError,
    SizeNotFoundError,
    UnavailableError,
)
from kvorum.discovery.v3 import V3Discovery
from kvorum.logging import Logger
from kvorum.proto import rpc_pb2 as pb

R = TypeVar("R", bound=Message)


@dataclass
class Keys:
    """The dumb twin; ``order``: after how many turns a call is served; ``failures``: how many fail first."""

    order: list[int] = field(default_factory=list)
    failures: int = 0
    revision: int = 1
    pairs: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, key: str, value: str) -> None:
        self.revision += 1
        created = self.pairs.get(key.encode(), (b"", self.revision))[1]
        self.pairs[key.encode()] = (value.encode(), created)
        self.news.set()

    async def call(self, method: str, request: Message, response: type[R]) -> R:
        for _ in range(self.order.pop() if self.order else 0):
            await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise UnavailableError("down")
        if isinstance(request, pb.PutRequest):
            self.put(request.key.decode(), request.value.decode())
            return cast("R", pb.PutResponse())
        assert isinstance(request, pb.RangeRequest)
        end = request.range_end or request.key + b"\0"
        answer = pb.RangeResponse()
        answer.header.revision = self.revision
        for key, (value, created) in sorted(self.pairs.items()):
            if request.key <= key < end:
                answer.kvs.add(key=key, value=value, create_revision=created)
        return cast("R", answer)

    async def changed(self, prefix: bytes, revision: int) -> None:
        while self.revision < revision:
            self.news.clear()
            await self.news.wait()


def discovery(keys: Keys, number: int, slept: list[float] | None = None) -> V3Discovery:
    async def sleep(seconds: float) -> None:
        if slept is not None:
            slept.append(seconds)

    return V3Discovery(keys, "t", number, Logger([]), {}, Backoff(sleep))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5),
    st.lists(st.integers(1, 2**64 - 1), min_size=5, max_size=9, unique=True),
    st.lists(st.integers(0, 12), max_size=80),
)
def test_races(size: int, ids: list[int], order: list[int]) -> None:
    async def go() -> list[str | BaseException]:
        keys = Keys(order)
        keys.put("/_etcd/registry/t/_config/size", str(size))
        return await asyncio.gather(
            *(discovery(keys, number).join(f"m{number}=http://h:{at}") for at, number in enumerate(ids, 1)),
            return_exceptions=True,
        )

    results = asyncio.run(go())
    found = [result for result in results if isinstance(result, str)]
    assert len(found) == size
    assert len(set(found)) == 1
    for number, result in zip(ids, results, strict=True):
        assert isinstance(result, FullClusterError) == (f"m{number}=" not in found[0])


def alone(keys: Keys, size: str | None, value: str = "m=http://h:1") -> tuple[str | Exception, list[float]]:
    slept: list[float] = []
    if size is not None:
        keys.put("/_etcd/registry/t/_config/size", size)

    async def go() -> str | Exception:
        try:
            return await discovery(keys, 0xFF, slept).join(value)
        except DiscoveryError as error:
            return error

    return asyncio.run(go()), slept


def test_it_asks_again_and_waits_longer_each_time() -> None:
    found, slept = alone(Keys(failures=10), "1")
    assert found == "m=http://h:1"
    assert slept == [2, 4, 8, 16, 32, 64, 128, 256, 256, 256]


def test_it_may_register_again() -> None:
    keys = Keys()
    keys.put("/_etcd/registry/t/members/ff", "m=http://h:1")
    created = keys.pairs[b"/_etcd/registry/t/members/ff"][1]
    assert alone(keys, "1")[0] == "m=http://h:1"
    assert keys.pairs[b"/_etcd/registry/t/members/ff"] == (b"m=http://h:1", created)


def test_what_is_no_member_is_passed_over() -> None:
    keys = Keys()
    keys.put("/_etcd/registry/t/members/aa", "nothing")
    assert alone(keys, "1")[0] == "m=http://h:1"


def test_two_of_one_name() -> None:
    keys = Keys()
    keys.put("/_etcd/registry/t/members/aa", "m=http://h:2")
    assert isinstance(alone(keys, "2")[0], DuplicateNameError)


@pytest.mark.parametrize(
    ("size", "value", "error"),
    [
        (None, "m=http://h:1", SizeNotFoundError),
        ("0", "m=http://h:1", BadSizeError),
        ("-1", "m=http://h:1", BadSizeError),
        ("two", "m=http://h:1", BadSizeError),
        ("", "m=http://h:1", BadSizeError),
        ("1" * 20, "m=http://h:1", BadSizeError),
        ("1", "m=nonsense", InvalidUrlError),
    ],
)
def test_errors(size: str | None, value: str, error: type[Exception]) -> None:
    assert type(alone(Keys(), size, value)[0]) is error
