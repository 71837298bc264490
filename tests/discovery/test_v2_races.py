"""Any number of members that register at once, in any order: as many as there shall be come together."""

import asyncio
import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum.discovery.errors import FullClusterError
from kvorum.discovery.http import Answer
from kvorum.discovery.v2 import V2Discovery
from kvorum.logging import Logger


@dataclass
class Registry:
    """The dumb twin of a v2 server's directory; ``order``: after how many turns each request is served."""

    size: int
    order: list[int]
    index: int = 1
    members: dict[str, tuple[str, int]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def request(self, method: str, url: str, *, form: str = "", timeout_seconds: float) -> Answer:
        for _ in range(self.order.pop() if self.order else 0):
            await asyncio.sleep(0)
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        key = parts.path.rpartition("/")[2]
        if "wait" in query:
            while self.index < int(query["waitIndex"][0]):
                self.changed.clear()
                await self.changed.wait()
            return self._answer({"action": "create"})
        if method == "PUT":
            assert key not in self.members
            self.index += 1
            self.members[key] = (parse_qs(form)["value"][0], self.index)
            self.changed.set()
            return self._answer({"node": {"createdIndex": self.index}})
        if key == "size":
            return self._answer({"node": {"value": str(self.size)}})
        nodes = [
            {"key": f"/t/{name}", "value": value, "createdIndex": index}
            for name, (value, index) in sorted(self.members.items())
        ]
        return self._answer({"node": {"nodes": nodes}})

    def _answer(self, fields: dict[str, object]) -> Answer:
        return Answer(200, {"x-etcd-index": str(self.index)}, json.dumps(fields).encode())


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5),
    st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=9, unique=True),
    st.lists(st.integers(0, 12), max_size=80),
)
def test_races(size: int, ids: list[int], order: list[int]) -> None:
    async def go() -> list[str | BaseException]:
        registry = Registry(size, order)
        joining = [
            asyncio.create_task(
                V2Discovery("http://d/t", number, registry, Logger([])).join(f"m{number}=http://h:{at}")
            )
            for at, number in enumerate(ids, start=1)
        ]
        if len(ids) < size:  # they wait for those who do not come
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not any(task.done() for task in joining)
            for task in joining:
                task.cancel()
        return await asyncio.gather(*joining, return_exceptions=True)

    results = asyncio.run(go())
    if len(ids) < size:
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        return
    found = [result for result in results if isinstance(result, str)]
    assert len(found) == size
    assert len(set(found)) == 1
    for number, result in zip(ids, results, strict=True):
        assert isinstance(result, FullClusterError) == (f"m{number}=" not in found[0])
        if isinstance(result, FullClusterError):
            assert result.initial_cluster == found[0]
