"""A few programs of each surface; the long run is ``python -m tests.v2.differential``."""

import os
import sys
from collections.abc import Iterator

import pytest

from tests.v2.differential.__main__ import MISSING, Members, is_installed
from tests.v2.differential.normal import normal_body
from tests.v2.differential.programs import SURFACES, make
from tests.v2.differential.runner import Pair
from tests.v2.differential.steps import FORM, Ask, Program, Watch

SEEDS = {"keys": 8, "watches": 6, "mistakes": 8, "expiries": 1, "members": 4, "auth": 2}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair | None]:
    """Both servers; None where there is nothing to compare with, which must not happen in CI."""
    if not is_installed():
        assert os.environ.get("CI") != "true", MISSING
        yield None
        return
    members = Members(tmp_path_factory.mktemp("v2"))
    both = Pair(members)
    yield both
    both.close()
    members.close()


def compared(pair: Pair | None, root: str, program: Program, capfd: pytest.CaptureFixture[str]) -> None:
    if pair is None:
        with capfd.disabled():
            sys.stderr.write(f"\n{MISSING}\n")
        return
    difference = pair.run(root, program)
    assert difference is None, difference


@pytest.mark.parametrize("surface", SURFACES)
def test_programs_are_answered_alike(
    surface: str, pair: Pair | None, capfd: pytest.CaptureFixture[str]
) -> None:
    for seed in range(1_000, 1_000 + SEEDS[surface]):
        root, program = make(surface, seed, 30)
        compared(pair, root, program, capfd)


def test_what_the_history_has_lost(pair: Pair | None, capfd: pytest.CaptureFixture[str]) -> None:
    """1,000 events are kept: an older index is refused with the oldest that is there."""
    puts = [Ask(0, "PUT", "/v2/keys/lost/a", f"value={number}", (FORM,)) for number in range(1_005)]
    looks = [Ask(1, "GET", f"/v2/keys/lost/a?wait=true&waitIndex=@{index}@") for index in (1, 5, 6, 7, 1_005)]
    compared(pair, "lost", (*puts, *looks, Watch("/v2/keys/lost/a?wait=true&waitIndex=@1006@")), capfd)


def test_a_program_is_the_same_every_time() -> None:
    assert [make(surface, 7, 20) for surface in SURFACES] == [make(surface, 7, 20) for surface in SURFACES]
    assert make("keys", 7, 20) != make("keys", 8, 20)


@pytest.mark.parametrize(
    "other",
    [
        b'{"action":"get","node":{"key":"/b","modifiedIndex":7,"createdIndex":6}}\n',
        b'{"action":"get","node":{"key":"/a","modifiedIndex":8,"createdIndex":6}}\n',
        b'{"action":"get","node":{"key":"/a","createdIndex":6,"modifiedIndex":7}}\n',
        b'{"action":"get","node":{"key":"/a","modifiedIndex":7,"createdIndex":6}}',
        b'{"action":"get", "node":{"key":"/a","modifiedIndex":7,"createdIndex":6}}\n',
        b'{"action":"get","node":{"key":"\\u002fa","modifiedIndex":7,"createdIndex":6}}\n',
        b'{"action":"get","node":{"key":"/a","ttl":7,"modifiedIndex":7,"createdIndex":6}}\n',
    ],
)
def test_the_comparison_sees_what_a_client_can_see(other: bytes) -> None:
    body = b'{"action":"get","node":{"key":"/a","modifiedIndex":7,"createdIndex":6}}\n'
    later = body.replace(b"7", b"17").replace(b"6}", b"16}")
    assert normal_body(body, 5, is_sorted=True) == normal_body(later, 15, is_sorted=True)
    assert normal_body(body, 5, is_sorted=True) != normal_body(other, 5, is_sorted=True)
