"""The auth store against its dumb twin: the same refusals, revisions, permissions; etcd's bytes."""

from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvorum import errors
from kvorum.auth.coverage import Coverage
from kvorum.auth.identity import NOBODY, Identity
from kvorum.auth.store import AuthStore
from kvorum.errors import EtcdError
from kvorum.proto.auth_pb2 import Permission, Role, User, UserAddOptions
from tests.auth import model
from tests.auth.memory import MemoryTables

KEYS: Final = st.sampled_from([b"", b"\0", b"a", b"aa", b"b", b"b\0", b"c", b"d", b"\xff"])
ENDS: Final = st.sampled_from([b"", b"\0", b"a", b"ab", b"b", b"b\0\0", b"c", b"d", b"e", b"\xff\xff"])
RANGES: Final = st.lists(st.tuples(KEYS, ENDS), max_size=6)


@given(RANGES, KEYS.filter(bool), ENDS)
@settings(max_examples=300)
def test_ranges_are_covered_as_if_looked_at_one_by_one(
    granted: list[tuple[bytes, bytes]], key: bytes, end: bytes
) -> None:
    coverage = Coverage(granted)
    assert coverage.has(key) == model.covered_points(granted, key)
    assert coverage.covers(key, end or key + b"\0") == model.covers(granted, key, end)
    merged = coverage.ranges()
    assert all(not one[1] or one[0] < one[1] for one in merged)
    assert all(one[1] and one[1] < other[0] for one, other in pairwise(merged))


USERS: Final = st.sampled_from(["root", "alice", "bob", "Ünï", ""])
ROLES: Final = st.sampled_from(["root", "r", "s", "t", ""])


class AgainstTheModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tables = MemoryTables()
        self.store = AuthStore(self.tables)
        self.model = model.Model()

    def same(self, expected: EtcdError | None, change: Any, *arguments: Any) -> None:
        if expected is None:
            change(*arguments)
            return
        with pytest.raises(EtcdError) as refused:
            change(*arguments)
        assert refused.value is expected

    @rule(name=USERS, password=st.sampled_from([None, b"h"]))
    def add_user(self, name: str, password: bytes | None) -> None:
        options = UserAddOptions(no_password=password is None)
        expected = self.model.add_user(name, password)
        self.same(expected, self.store.add_user, name, password or b"", options)

    @rule(name=USERS)
    def delete_user(self, name: str) -> None:
        self.same(self.model.delete_user(name), self.store.delete_user, name)

    @rule(name=USERS, role=ROLES)
    def grant_role(self, name: str, role: str) -> None:
        self.same(self.model.grant_role(name, role), self.store.grant_role, name, role)

    @rule(name=USERS, role=ROLES)
    def revoke_role(self, name: str, role: str) -> None:
        self.same(self.model.revoke_role(name, role), self.store.revoke_role, name, role)

    @rule(name=USERS)
    def change_password(self, name: str) -> None:
        self.same(self.model.change_password(name, b"n"), self.store.change_password, name, b"n")

    @rule(name=ROLES)
    def add_role(self, name: str) -> None:
        self.same(self.model.add_role(name), self.store.add_role, name)

    @rule(name=ROLES)
    def delete_role(self, name: str) -> None:
        self.same(self.model.delete_role(name), self.store.delete_role, name)

    @rule(name=ROLES, kind=st.sampled_from([0, 1, 2]), key=KEYS, end=ENDS)
    def grant_permission(self, name: str, kind: int, key: bytes, end: bytes) -> None:
        permission = Permission(permType=Permission.Type.Name(kind), key=key, range_end=end)
        expected = self.model.grant_permission(name, (kind, key, end))
        self.same(expected, self.store.grant_permission, name, permission)

    @rule(name=ROLES, key=KEYS, end=ENDS)
    def revoke_permission(self, name: str, key: bytes, end: bytes) -> None:
        expected = self.model.revoke_permission(name, key, end)
        self.same(expected, self.store.revoke_permission, name, key, end)

    @rule()
    def enable(self) -> None:
        self.same(self.model.enable(), self.store.enable)

    @rule()
    def disable(self) -> None:
        self.model.disable()
        self.store.disable()

    @rule()
    def reload(self) -> None:
        self.store.reload()

    @rule(name=USERS, key=KEYS.filter(bool), end=ENDS, old=st.booleans())
    def ask(self, name: str, key: bytes, end: bytes, old: bool) -> None:
        who = Identity(name, self.model.revision - old)
        assert self.store.refuses_admin(who) is self.model.admin(name)
        for asked, may in (
            (self.store.refuses_read, self.model.may_read),
            (self.store.refuses_write, self.model.may_write),
        ):
            refused = asked(who, key, end)
            if not self.model.enabled:
                assert refused is None
            elif old:
                assert refused in (errors.ERR_AUTH_OLD_REVISION, errors.ERR_USER_EMPTY)
            else:
                assert refused is (None if may(name, key, end) else errors.ERR_PERMISSION_DENIED)

    @invariant()
    def alike(self) -> None:
        self.store.check_invariants()
        assert self.store.revision == self.model.revision
        assert self.store.enabled == self.model.enabled
        assert {user.name.decode(): set(user.roles) for user in self.store.users()} == {
            name: user.roles for name, user in self.model.users.items()
        }
        assert {
            role.name.decode(): [
                (int(each.permType), each.key, each.range_end) for each in role.keyPermission
            ]
            for role in self.store.roles()
        } == self.model.roles


TestAgainstTheModel = AgainstTheModel.TestCase
TestAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_nobody_may_anything_once_enabled() -> None:
    store = enabled()
    assert store.refuses_admin(NOBODY) is errors.ERR_USER_EMPTY
    assert store.refuses_read(NOBODY, b"k") is errors.ERR_USER_EMPTY
    assert store.refuses_write(NOBODY, b"k") is errors.ERR_USER_EMPTY
    assert store.refuses_admin(Identity("gone", 5)) is errors.ERR_USER_NOT_FOUND
    assert store.refuses_read(Identity("gone", 5), b"k") is errors.ERR_PERMISSION_DENIED


def enabled(tables: MemoryTables | None = None) -> AuthStore:
    store = AuthStore(tables or MemoryTables())
    store.add_user("root", b"$2a$", None)
    store.grant_role("root", "root")
    store.enable()
    return store


def test_the_tables_hold_what_etcd_writes() -> None:
    tables = MemoryTables()
    store = enabled(tables)
    store.add_role("r")
    store.grant_permission("r", Permission(permType=Permission.Type.READWRITE, key=b"a", range_end=b"b"))
    assert tables.table(b"auth").records == {
        b"authEnabled": b"\x01",
        b"authRevision": (5).to_bytes(8, "big"),
    }
    root = User(name=b"root", password=b"$2a$", roles=["root"])
    root.options.SetInParent()
    assert tables.table(b"authUsers").records == {b"root": root.SerializeToString()}
    permission = Permission(permType=Permission.Type.READWRITE, key=b"a", range_end=b"b")
    role = Role(name=b"r", keyPermission=[permission])
    assert tables.table(b"authRoles").records == {b"r": role.SerializeToString()}
    store.disable()
    assert tables.table(b"auth").records[b"authEnabled"] == b"\0"


def test_a_user_of_before_options_can_have_another_password() -> None:
    tables = MemoryTables()
    tables.table(b"authUsers").put(b"old", User(name=b"old", password=b"x").SerializeToString())
    store = AuthStore(tables)
    assert store.change_password("old", b"y").password == b"y"


@pytest.mark.parametrize("name", ["x" * 512, "ü" * 256])
def test_a_name_that_no_table_can_hold_is_refused(name: str) -> None:
    store = AuthStore(MemoryTables())
    with pytest.raises(EtcdError) as refused:
        store.add_user(name, b"", None)
    assert refused.value is errors.ERR_INVALID_AUTH_MGMT
    with pytest.raises(EtcdError) as refused:
        store.add_role(name)
    assert refused.value is errors.ERR_INVALID_AUTH_MGMT
    assert store.user(name) is None
    store.add_user(name[:255], b"", None)
    assert store.user(name[:255]) is not None
