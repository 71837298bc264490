"""Simple tokens against a dumb twin; signed ones by every method; what is no token is nobody's."""

import base64
import json
import warnings
from collections.abc import Callable
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from kvorum.auth.identity import Identity
from kvorum.auth.jwt_tokens import ERR_VERIFY_ONLY, METHODS, JwtTokens, make_keys, parse_ttl
from kvorum.auth.tokens import NoTokens, SimpleTokens, TokenOptionsError, parse_token_options
from kvorum.errors import ERR_AUTH_FAILED, EtcdError

# --- simple -----------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("assign"), st.sampled_from("abc"), st.integers(1, 5)),
        st.tuples(st.just("identify"), st.integers(1, 5)),
        st.tuples(st.just("pass"), st.floats(0, 40)),
        st.tuples(st.just("forget"), st.sampled_from("abc")),
        st.tuples(st.just("forget all")),
    ),
    max_size=40,
)


@given(STEPS)
def test_simple_tokens_live_as_long_as_they_are_used(steps: list[tuple[Any, ...]]) -> None:
    clock = Clock()
    tokens = SimpleTokens(clock, 30)
    known: dict[str, tuple[str, float]] = {}
    for step in steps:
        if step[0] == "assign":
            token = tokens.assign(step[1], 3, "letters", step[2], asked_here=False)
            assert token == f"letters.{step[2]}"
            known[token] = (step[1], clock.now + 30)
        elif step[0] == "identify":
            token = f"letters.{step[1]}"
            found = tokens.identify(token, 7)
            if token in known and known[token][1] >= clock.now:
                assert found == Identity(known[token][0], 7)
                known[token] = (known[token][0], clock.now + 30)
            else:
                assert found is None
                known.pop(token, None)
        elif step[0] == "pass":
            clock.now += step[1]
        elif step[0] == "forget":
            tokens.forget_user(step[1])
            known = {token: kept for token, kept in known.items() if kept[0] != step[1]}
        else:
            tokens.forget_all()
            known.clear()
        assert len(tokens) <= 5


def test_those_not_used_for_longest_make_room() -> None:
    tokens = SimpleTokens(Clock(), 30, max_tokens=2)
    first, second = (tokens.assign("u", 1, "p", index, asked_here=True) for index in (1, 2))
    assert tokens.identify(first, 1) is not None
    tokens.assign("u", 1, "p", 3, asked_here=True)
    assert tokens.identify(second, 1) is None
    assert tokens.identify(first, 1) is not None


@pytest.mark.parametrize(
    ("token", "index"),
    [
        ("abc.12", 12),
        ("abc", 0),
        ("", 0),
        (".", 0),
        ("abc.", 0),
        ("abc.-1", 0),
        ("a.b.3", 0),
        ("abc.18446744073709551615", (1 << 64) - 1),
        ("abc.18446744073709551616", 0),
        ("abc." + "9" * 1000, 0),
        ("abc.\u0663", 0),
    ],
)
def test_a_token_says_what_to_wait_for(token: str, index: int) -> None:
    assert SimpleTokens(Clock(), 30).index_of(token) == index


def test_without_tokens_nobody_gets_one() -> None:
    with pytest.raises(EtcdError) as refused:
        NoTokens().assign("u", 1, "", 1, asked_here=True)
    assert refused.value is ERR_AUTH_FAILED
    assert NoTokens().identify("anything", 1) is None


@pytest.mark.parametrize("text", ["jwt,pub-key", "jwt,a=b=c", "jwt,a=1,a=2", "other", "simple,x"])
def test_options_that_are_none(text: str) -> None:
    with pytest.raises(TokenOptionsError):
        parse_token_options(text)


def test_options_of_tokens() -> None:
    assert parse_token_options("simple") == ("simple", {})
    assert parse_token_options("") == ("", {})
    assert parse_token_options("jwt,pub-key=a,ttl=1m") == ("jwt", {"pub-key": "a", "ttl": "1m"})
    assert parse_ttl({"ttl": "90s"}) == 90
    assert parse_ttl({}) == 300
    with pytest.raises(TokenOptionsError):
        parse_ttl({"ttl": "soon"})


# --- signed -----------------------------------------------------------------------------------------------

_MAKE: Final[dict[str, Callable[[], Any]]] = {
    "RS": lambda: rsa.generate_private_key(65537, 2048),
    "Ed": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
}
_MADE: Final[dict[str, Any]] = {}


def key_for(method: str) -> Any:
    kind = {"PS": "RS", "RS": "RS", "Ed": "Ed"}.get(method[:2], method)
    if kind not in _MADE:
        _MADE[kind] = _MAKE[kind]()
    return _MADE[kind]


def pems(key: Any) -> tuple[bytes, bytes]:
    """A public and a private key in PEM."""
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return public, private


def keys_for(method: str) -> tuple[bytes, bytes]:
    return (b"", b"s" * 64) if method.startswith("HS") else pems(key_for(method))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_signs_and_verifies(method: str) -> None:
    clock = Clock()
    public, private = keys_for(method)
    signer = JwtTokens(make_keys(method, b"", private), 60, clock)
    token = signer.assign("alice", 9, "", 5, asked_here=True)
    assert jwt.get_unverified_header(token)["alg"] == method
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims == {"username": "alice", "revision": 9, "exp": 1060}
    assert signer.identify(token, 77) == Identity("alice", 9)
    assert signer.index_of(token) == 0
    if public:
        verifier = JwtTokens(make_keys(method, public, b""), 60, clock)
        assert verifier.identify(token, 77) == Identity("alice", 9)
        with pytest.raises(EtcdError) as refused:
            verifier.assign("alice", 9, "", 5, asked_here=True)
        assert refused.value is ERR_VERIFY_ONLY
    clock.now = 1060
    assert signer.identify(token, 77) is None


def test_only_the_member_that_was_asked_signs() -> None:
    signer = JwtTokens(make_keys("HS256", b"", b"s" * 64), 60, Clock())
    assert signer.assign("alice", 9, "", 5, asked_here=False) == ""


def forged(header: dict[str, Any], claims: Any) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


GOOD: Final = {"username": "root", "revision": 9, "exp": 2000}


def test_a_token_by_another_method_is_none() -> None:
    """Neither "none" nor an HMAC with the public key as its secret (CVE-2015-9235)."""
    public, private = keys_for("RS256")
    tokens = JwtTokens(make_keys("RS256", public, private), 60, Clock())
    assert tokens.identify(forged({"alg": "none", "typ": "JWT"}, GOOD), 1) is None
    head, _, _ = forged({"alg": "HS256", "typ": "JWT"}, GOOD).rpartition(".")
    signature = jwt.get_algorithm_by_name("HS256").sign(head.encode(), public)
    assert tokens.identify(f"{head}.{base64.urlsafe_b64encode(signature).decode()}", 1) is None
    assert tokens.identify(jwt.encode(GOOD, key_for("RS256"), "PS256"), 1) is None
    assert tokens.identify(jwt.encode(GOOD, _MAKE["RS"](), "RS256"), 1) is None
    assert tokens.identify(jwt.encode(GOOD, key_for("RS256"), "RS256"), 1) == Identity("root", 9)


@pytest.mark.parametrize(
    "claims",
    [
        {"revision": 9, "exp": 2000},
        {"username": "root", "exp": 2000},
        {"username": 5, "revision": 9, "exp": 2000},
        {"username": "root", "revision": "9", "exp": 2000},
        {"username": "root", "revision": True, "exp": 2000},
        {"username": "root", "revision": -1, "exp": 2000},
        {"username": "root", "revision": 1e300, "exp": 2000},
        {"username": "root", "revision": 9, "exp": "2000"},
        {"username": "root", "revision": 9, "exp": 999},
        {"username": "root", "revision": 9, "nbf": 1001},
    ],
)
def test_claims_that_are_not_ours(claims: dict[str, Any]) -> None:
    """etcd 3.5.1 ended with a panic where a claim had another type."""
    tokens = JwtTokens(make_keys("HS256", b"", b"s" * 64), 60, Clock())
    assert tokens.identify(jwt.encode(claims, b"s" * 64, "HS256"), 1) is None


@given(st.text(max_size=200))
def test_text_is_no_token(text: str) -> None:
    tokens = JwtTokens(make_keys("HS256", b"", b"s" * 64), 60, Clock())
    assert tokens.identify(text, 1) is None
    assert tokens.identify("x" * 100_000, 1) is None


@pytest.mark.parametrize(
    ("method", "public", "private"),
    [
        ("RS256", b"", b""),
        ("HS256", b"", b""),
        ("XX256", b"<key>", b"<key>"),
        ("", b"", b"<key>"),
        ("RS256", b"no PEM", b""),
        ("RS256", b"", b"no PEM"),
        ("ES256", b"", pems(key_for("ES384"))[1]),
        ("RS256", b"", pems(key_for("ES256"))[1]),
        ("RS256", pems(key_for("EdDSA"))[0], b""),
        ("ES256", pems(ec.generate_private_key(ec.SECP256R1()))[0], pems(key_for("ES256"))[1]),
        ("HS256", b"", pems(key_for("ES256"))[1]),
    ],
)
def test_keys_that_cannot_be_used_are_refused_without_showing_them(
    method: str, public: bytes, private: bytes
) -> None:
    with pytest.raises(TokenOptionsError) as refused:
        make_keys(method, public, private)
    for pem in (public, private):
        assert not pem or pem.decode() not in str(refused.value)


def test_keys_are_not_shown() -> None:
    keys = make_keys("HS256", b"", b"secret" * 12)
    assert "secret" not in repr(keys)
    assert "secret" not in str(keys)


def test_a_short_key_is_said_to_be_one() -> None:
    with warnings.catch_warnings():
        keys = make_keys("HS256", b"", b"short")
        assert keys.weak
        token = JwtTokens(keys, 60, Clock()).assign("u", 1, "", 1, asked_here=True)
        assert JwtTokens(keys, 60, Clock()).identify(token, 1) == Identity("u", 1)
    assert not make_keys("HS256", b"", b"s" * 64).weak
