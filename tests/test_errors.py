"""The error catalogue against ``facts/grpc_errors.csv``, both ways: clients compare code and text."""

import csv
import re
from pathlib import Path
from typing import Final

import pytest

from kvorum import errors
from kvorum.errors import EtcdError

ROOT: Final = Path(__file__).parents[1]
FACTS: Final = list(csv.DictReader((ROOT / "facts" / "grpc_errors.csv").read_text().splitlines()))
CATALOGUE: Final = {name: value for name, value in vars(errors).items() if isinstance(value, EtcdError)}


def _constant(fact_name: str) -> str:
    """``TooManyOps`` -> ``ERR_TOO_MANY_OPS``, ``PeerURLExist`` -> ``ERR_PEER_URL_EXIST``."""
    words = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z][a-z]+|[A-Z]+", fact_name.replace("URLs", "Urls"))
    return "ERR_" + "_".join(words).upper()


def test_every_fact_is_in_the_catalogue_and_nothing_else() -> None:
    facts = {_constant(row["name"]): (int(row["code"]), row["message"]) for row in FACTS}
    assert len(facts) == len(FACTS)
    assert {name: (error.code, error.message) for name, error in CATALOGUE.items()} == facts


def test_codes_have_the_facts_names() -> None:
    for row in FACTS:
        assert getattr(errors, row["grpc_status"]) == int(row["code"])
    assert len(errors.CODE_NAMES) == 17
    assert errors.CODE_NAMES[errors.UNAUTHENTICATED] == "Unauthenticated"


def test_a_constant_forgets_what_raising_left_on_it() -> None:
    with pytest.raises(EtcdError) as raised:
        raise errors.ERR_NO_LEADER
    assert raised.value is errors.ERR_NO_LEADER
    assert raised.value.__traceback__ is not None
    assert errors.ERR_NO_LEADER.forget().__traceback__ is None
    assert str(errors.ERR_NO_LEADER) == "etcdserver: no leader"
