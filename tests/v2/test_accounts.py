"""Users, roles, patterns, passwords, and JSON as Go reads it: the parts that need no member."""

import asyncio
import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum.api.v2.accounts import GUEST_ROLE, ROOT_ROLE, Permissions, Role, User, with_roles_json
from kvorum.api.v2.answers import MessageError
from kvorum.api.v2.credentials import basic_auth
from kvorum.api.v2.go_json import error_text, first_value
from kvorum.api.v2.passwords import Passwords
from kvorum.server.passwords import Passwords as Room

names = st.lists(st.sampled_from(["r1", "r2", "r3", "root"]), unique=True).map(tuple)


@pytest.mark.parametrize(
    ("pattern", "key", "one", "below"),
    [
        ("/*", "/a/b", True, True),
        ("/a*", "/a/b", True, True),
        ("/a*", "/ab", True, True),
        ("/a/*", "/a", False, False),
        ("/a", "/a", True, False),
        ("/a", "/a/b", False, False),
        ("*", "/x", True, True),
        ("", "/x", False, False),
    ],
)
def test_patterns(pattern: str, key: str, one: bool, below: bool) -> None:
    permissions = Permissions((pattern,), None)
    assert permissions.allow(key, write=False, recursive=False) is one
    assert permissions.allow(key, write=False, recursive=True) is below
    assert not permissions.allow(key, write=True, recursive=False)


def test_root_may_everything_and_guests_as_well_unless_told() -> None:
    for role in (ROOT_ROLE, GUEST_ROLE, Role("root")):
        assert role.allows("/any", write=True, recursive=True)
    assert not Role("r").allows("/any", write=False, recursive=False)


@given(names, names, names)
def test_roles_granted_and_revoked(
    has: tuple[str, ...], grant: tuple[str, ...], revoke: tuple[str, ...]
) -> None:
    user = User("ann", "hash", has)
    change = User("ann", "", None, grant, revoke)
    wanted = (set(has) | set(grant)) - set(revoke)
    possible = not set(has) & set(grant) and set(revoke) <= set(has) | set(grant)
    if not possible:
        with pytest.raises(MessageError) as caught:
            user.merged(change, "")
        assert caught.value.status == 409
        return
    assert user.merged(change, "") == User("ann", "hash", tuple(sorted(wanted)))
    assert user.merged(change, "new").password == "new"


@given(names, names)
def test_permissions_granted_and_revoked(has: tuple[str, ...], less: tuple[str, ...]) -> None:
    left = Permissions(has, has).revoke(Permissions(less, None))
    assert left == Permissions(tuple(sorted(set(has) - set(less))), tuple(sorted(has)))
    if set(has) & set(less):
        with pytest.raises(MessageError, match="Granting duplicate write permission"):
            Permissions(has, has).grant(Permissions(None, less))


def test_json_there_and_back() -> None:
    user = User("a<b>", "hash", ("r1",), None, None)
    assert user.to_json() == '{"user":"a\\u003cb\\u003e","password":"hash","roles":["r1"]}'
    assert User.from_fields(json.loads(user.to_json())) == user
    assert User("x").to_json() == '{"user":"x","roles":null}'
    role = Role("r", Permissions(("/a",), None), Permissions(None, ()))
    assert role.to_json() == (
        '{"role":"r","permissions":{"kv":{"read":["/a"],"write":null}},'
        '"grant":{"kv":{"read":null,"write":[]}}}'
    )
    assert Role.from_fields(json.loads(role.to_json())) == role
    assert with_roles_json(User("x"), []) == '{"user":"x"}'


def test_names_in_any_case_and_nulls() -> None:
    user = User.from_fields({"USER": "ann", "Roles": ["r1", None], "password": None, "other": 5})
    assert user == User("ann", "", ("r1", ""))
    wrong: tuple[object, ...] = ([], "x", 5, {"user": 5}, {"roles": "x"}, {"roles": [5]}, {"grant": {}})
    for bad in wrong:
        with pytest.raises(ValueError, match=r"\w"):
            User.from_fields(bad)


def test_root_has_its_role_whatever_is_stored() -> None:
    assert User("root", "h", None).as_stored().roles == ("root",)
    assert User("root", "h", ("root", "r")).as_stored().roles == ("root", "r")
    assert User("ann", "h", None).as_stored().roles is None


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("Basic " + base64.b64encode(b"ann:pa:ss").decode(), ("ann", "pa:ss")),
        ("bAsIc " + base64.b64encode(b":").decode(), ("", "")),
        ("Basic " + base64.b64encode(b"ann").decode(), None),
        ("Basic !!", None),
        ("Basic YTpi\u00e9", None),
        ("Basic", None),
        ("Bearer x", None),
        ("", None),
    ],
)
def test_basic_auth(header: str, shown: tuple[str, str] | None) -> None:
    assert basic_auth(header) == shown


def test_passwords() -> None:
    async def run() -> None:
        room = Room()
        passwords = Passwords(room)
        hashed = await passwords.hashed("secret", "u")
        assert hashed.startswith("$2a$10$")
        assert not await passwords.match("wrong", hashed, "u", 1)
        for _ in range(2):  # the second time it is remembered
            assert await passwords.match("secret", hashed, "u", 1)
        assert not await passwords.match("secret", "", "u", 1)
        assert not await passwords.match("secret", "no hash", "u", 1)
        # What etcd wrote: golang.org/x/crypto/bcrypt.
        assert await passwords.match("x" * 100, await passwords.hashed("x" * 72 + "y", "u"), "u", 1)
        room.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b"}", "invalid character '}' looking for beginning of value"),
        (b"{1}", "invalid character '1' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 2}', "invalid character '2' after object key:value pair"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b"1 2", "invalid character '2' after top-level value"),
        (b"nul", "unexpected end of JSON input"),
        (b"nulx", "invalid character 'x' in literal null (expecting 'l')"),
        (b"trye", "invalid character 'y' in literal true (expecting 'u')"),
        (b'"a\nb"', "invalid character '\\n' in string literal"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b'"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
        (b"-x", "invalid character 'x' in numeric literal"),
        (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
        (b"1ex", "invalid character 'x' in exponent of numeric literal"),
        (b"01", "invalid character '1' after top-level value"),
        (b"'a'", "invalid character '\\'' looking for beginning of value"),
        (b"\xff", "invalid character '\u00ff' looking for beginning of value"),
        (b' {"a":[1,-2.5e+3,true,false,null,"\\u00e9\\n",{}, []]} ', ""),
    ],
)
def test_gos_words_about_json(text: bytes, fault: str) -> None:
    assert error_text(text) == fault


plain = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def lists_and_objects(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)


@given(st.recursive(plain, lists_and_objects))
def test_what_is_json_has_no_fault(value: object) -> None:
    text = json.dumps(value).encode()
    assert error_text(text) == ""
    assert first_value(text + b" trailing") == value


@given(st.binary(max_size=12) | st.text(alphabet='{}[]",:0e.-+tru\\ nl', max_size=12).map(str.encode))
def test_what_is_no_json_has_one(text: bytes) -> None:
    try:
        json.loads(text.decode("utf-8", "replace"), parse_constant=int)
    except ValueError:
        assert error_text(text)
    else:
        assert not error_text(text) or b"\xff" in text
