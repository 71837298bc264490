"""Tokens that are signed: JSON Web Tokens (RFC 7519) with the claims ``username``, ``revision`` and ``exp``.

Whoever has the key verifies them, so no member needs to remember any; they cannot be taken back before they
expire, but one of an older revision of users and roles is refused. Every signature method that etcd knows is
known here, one at a time: a token that names another one is no token. Source of behaviour: etcd
``server/auth/jwt.go``, ``options.go``.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.x509 import load_pem_x509_certificate
from jwt.warnings import InsecureKeyLengthWarning

from kvorum.auth.identity import Identity
from kvorum.auth.tokens import TokenOptionsError
from kvorum.duration import parse_duration
from kvorum.errors import UNKNOWN, EtcdError
from kvorum.limits import MAX_JWT_BYTES

ERR_VERIFY_ONLY: Final = EtcdError(UNKNOWN, "auth: token signing attempted with verify-only key")

DEFAULT_TTL_SECONDS: Final = 300.0
"""How long a token is good if the options do not say (etcd ``DefaultTTL``)."""
KNOWN_OPTIONS: Final = frozenset({"sign-method", "pub-key", "priv-key", "ttl"})

_MAX_REVISION: Final = 1 << 63

_PRIVATE: Final[Mapping[str, type]] = {
    "RS": RSAPrivateKey, "PS": RSAPrivateKey, "ES": EllipticCurvePrivateKey, "Ed": Ed25519PrivateKey,
}  # fmt: skip
_PUBLIC: Final[Mapping[str, type]] = {
    "RS": RSAPublicKey, "PS": RSAPublicKey, "ES": EllipticCurvePublicKey, "Ed": Ed25519PublicKey,
}  # fmt: skip
METHODS: Final = frozenset(
    {f"{family}{bits}" for family in ("RS", "PS", "ES", "HS") for bits in (256, 384, 512)} | {"EdDSA"}
)
_CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}


@final
@dataclass(frozen=True)
class JwtKeys:
    """How tokens are signed and verified. ``signing`` is None where only the public key is known; ``weak``
    says that a key is shorter than its method asks for.
    """

    method: str
    signing: Any
    verifying: Any
    weak: bool = False

    def __repr__(self) -> str:
        return f"JwtKeys({self.method})"


def make_keys(method: str, public_pem: bytes, private_pem: bytes) -> JwtKeys:
    """The keys of a signature method, of what the key files hold. Either may be empty, but not both; HS takes
    the private one, which need not be PEM.

    Raises:
        TokenOptionsError: the method is unknown, or a key is missing, broken, of another kind, or not the
            other's. The text holds nothing of the keys.
    """
    if method not in METHODS:
        raise TokenOptionsError("auth: invalid auth signature method")
    family = method[:2]
    if family == "HS":
        if not private_pem:
            raise TokenOptionsError("auth: missing key data")
        return _tried(JwtKeys(method, private_pem, private_pem))
    private: Any = _load(serialization.load_pem_private_key, private_pem, None) if private_pem else None
    public: Any = _load(_load_public, public_pem) if public_pem else None
    _check_kind(method, private, public)
    if private is None:
        verifying = public
    else:
        verifying = private.public_key()
        if public is not None and _der(public) != _der(verifying):
            raise TokenOptionsError("auth: public and private keys don't match")
    curve = _CURVES.get(method)
    if curve is not None and verifying.curve.name != curve:
        raise TokenOptionsError(f"auth: the key's curve is not that of {method}")
    return _tried(JwtKeys(method, private, verifying))


def _tried(keys: JwtKeys) -> JwtKeys:
    """Sign and verify once, so that what cannot be is known now."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InsecureKeyLengthWarning)
        try:
            if keys.signing is not None:
                jwt.encode({}, keys.signing, keys.method)
            jwt.get_algorithm_by_name(keys.method).prepare_key(keys.verifying)
        except (jwt.PyJWTError, ValueError, TypeError):
            raise TokenOptionsError(f"auth: the key is not one for {keys.method}") from None
    if not caught:
        return keys
    warnings.simplefilter("ignore", InsecureKeyLengthWarning)  # said once, by who asked for the keys
    return replace(keys, weak=True)


def _check_kind(method: str, private: object, public: object) -> None:
    if private is None and public is None:
        raise TokenOptionsError("auth: missing key data")
    if private is not None and not isinstance(private, _PRIVATE[method[:2]]):
        raise TokenOptionsError(f"auth: the private key is not one for {method}")
    if public is not None and not isinstance(public, _PUBLIC[method[:2]]):
        raise TokenOptionsError(f"auth: the public key is not one for {method}")


def _load(load: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return load(*arguments)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise TokenOptionsError("auth: a key file holds no key in PEM") from None


def _load_public(pem: bytes) -> Any:
    if b"BEGIN CERTIFICATE" in pem:
        return load_pem_x509_certificate(pem).public_key()
    return serialization.load_pem_public_key(pem)


def _der(public: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = public.public_bytes(serialization.Encoding.DER, form)
    return encoded


def parse_ttl(options: Mapping[str, str]) -> float:
    """How long tokens are good, in seconds.

    Raises:
        TokenOptionsError: ``ttl`` is no duration.
    """
    text = options.get("ttl", "")
    try:
        return parse_duration(text) / 1e9 if text else DEFAULT_TTL_SECONDS
    except ValueError:
        raise TokenOptionsError("auth: the ttl of tokens is no duration") from None


@final
class JwtTokens:
    """Signed tokens; ``keys`` may be replaced at any time, ``wall_clock`` is seconds since 1970."""

    needs_prefix = False

    def __init__(self, keys: JwtKeys, ttl_seconds: float, wall_clock: Callable[[], float]) -> None:
        self.keys = keys
        self._ttl_seconds: Final = ttl_seconds
        self._wall_clock: Final = wall_clock

    def identify(self, token: str, revision: int) -> Identity | None:
        """Whose token it is, at the revision that it was given."""
        if len(token) > MAX_JWT_BYTES:
            return None
        keys = self.keys
        try:
            claims = jwt.decode(token, keys.verifying, [keys.method], options=_VERIFY_BY_HAND)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        now = self._wall_clock()
        expires_at = claims.get("exp", now + 1)
        not_before, issued_at = claims.get("nbf", now), claims.get("iat", now)
        username: Any = claims.get("username")
        given: Any = claims.get("revision")
        if not all(map(_is_number, (expires_at, not_before, issued_at, given))):
            return None
        if not isinstance(username, str) or not 0 <= given < _MAX_REVISION:
            return None
        if now >= expires_at or now < not_before:
            return None
        return Identity(username, int(given))

    def index_of(self, token: str) -> int:
        """It says none."""
        return 0

    def assign(self, username: str, revision: int, prefix: str, index: int, *, asked_here: bool) -> str:
        """Sign a token, if somebody here waits for it.

        Raises:
            EtcdError: ERR_VERIFY_ONLY.
        """
        if not asked_here:
            return ""
        keys = self.keys
        if keys.signing is None:
            raise ERR_VERIFY_ONLY
        expires_at = int(self._wall_clock() + self._ttl_seconds)
        claims = {"username": username, "revision": revision, "exp": expires_at}
        return jwt.encode(claims, keys.signing, keys.method)

    def forget_user(self, username: str) -> None:
        """Nothing is remembered."""

    def forget_all(self) -> None:
        """Nothing is remembered."""


_VERIFY_BY_HAND: Final[Any] = dict.fromkeys(
    ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss"), False
)
"""Times are compared here, with the clock that was passed in."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
