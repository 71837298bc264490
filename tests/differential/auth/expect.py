"""Where Kvorum refuses what etcd 3.5.1 let pass, by the dumb twin of the auth store.

Each is a hole that later releases of etcd closed; what is expected is what etcd 3.7.1 says.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from kvorum import errors
from kvorum.errors import EtcdError
from kvorum.proto import rpc_pb2 as pb
from tests.auth.model import Model
from tests.differential.auth.world import KEEP_ALIVE, WATCH, Step, Told, told

LeaseKeys = Callable[[int], Sequence[bytes]]
"""The keys of a lease, as they are now."""

_FOR_USERS: Final = frozenset(
    {
        "etcdserverpb.Maintenance/Status",
        "etcdserverpb.Maintenance/Alarm",
        "etcdserverpb.Cluster/MemberList",
        "etcdserverpb.Lease/LeaseGrant",
        "etcdserverpb.Lease/LeaseRevoke",
        "etcdserverpb.Lease/LeaseTimeToLive",
        "etcdserverpb.Lease/LeaseLeases",
        KEEP_ALIVE,
        WATCH,
    }
)
"""Answered to everybody by 3.5.1 (CVE-2026-33413); a watch is refused by it, but not in these words."""
_FOR_ROOT: Final = frozenset({"etcdserverpb.KV/Compact", "etcdserverpb.Maintenance/Alarm"})


def stricter(model: Model, step: Step, lease_keys: LeaseKeys, *, shown: bool, valid: bool) -> Told | None:
    """The refusal by which Kvorum is known to differ from etcd 3.5.1 at this step; None: they are alike.

    The actor has a token to show, and it is good.
    """
    method = step.method
    request: Any = step.request
    if method.endswith("/RoleGrantPermission") and not _covers(request.perm.key, request.perm.range_end):
        may = not model.enabled or (valid and model.is_root(step.actor))
        return told(errors.ERR_INVALID_AUTH_MGMT) if may else None
    if not model.enabled:
        return None
    if not valid:
        if method in _FOR_USERS or method in ("etcdserverpb.KV/Compact", "etcdserverpb.KV/Txn"):
            error = errors.ERR_INVALID_AUTH_TOKEN if shown else errors.ERR_USER_EMPTY
            return _watch_told(error) if method == WATCH else told(error)
        return None
    refused = _of_user(model, step.actor, method, request, lease_keys)
    if refused is None:
        return None
    return _watch_told(refused) if method == WATCH else told(refused)


def _watch_told(error: EtcdError) -> Any:
    code, text = told(error)
    return True, True, f"rpc error: code = {code} desc = {text}"


def _of_user(model: Model, user: str, method: str, request: Any, lease_keys: LeaseKeys) -> EtcdError | None:
    if model.is_root(user):
        return None
    if method in _FOR_ROOT and not _only_looks(request):
        return model.admin(user)
    denied = errors.ERR_PERMISSION_DENIED
    if method == "etcdserverpb.KV/Txn":
        return _of_txn(model, user, request, lease_keys, nested=False)
    if method == KEEP_ALIVE and not _all(model.may_write, user, lease_keys(request.ID)):
        return denied
    if method.endswith("/LeaseTimeToLive") and request.keys:
        return None if _all(model.may_read, user, lease_keys(request.ID)) else denied
    if method.endswith("/LeaseLeases"):
        return None if _all(model.may_read, user, lease_keys(0)) else denied
    if method == WATCH:  # GHSA-xg4h-6gfc-h4m8
        create = request.create_request
        if create.range_end == b"\0" and not model.may_read(user, create.key or b"\0", b"\0"):
            return denied
    return None


def _of_txn(
    model: Model, user: str, request: pb.TxnRequest, lease_keys: LeaseKeys, *, nested: bool
) -> EtcdError | None:
    """Refused only because of what is nested (CVE-2026-33343), or of a put's lease or reading
    (CVE-2026-44283); what 3.5.1 refuses as well is refused in the same words anyway.
    """
    denied = errors.ERR_PERMISSION_DENIED
    if nested and not all(model.may_read(user, each.key, each.range_end) for each in request.compare):
        return denied
    for operation in (*request.success, *request.failure):
        kind = operation.WhichOneof("request")
        part: Any = getattr(operation, kind)
        if kind == "request_txn":
            if _of_txn(model, user, part, lease_keys, nested=True) is not None:
                return denied
        elif kind == "request_put":
            if part.prev_kv and not model.may_read(user, part.key):
                return denied
            if part.lease and not _all(model.may_write, user, lease_keys(part.lease)):
                return denied
            if nested and not model.may_write(user, part.key):
                return denied
        elif nested and kind == "request_range":
            if not model.may_read(user, part.key, part.range_end):
                return denied
        elif nested:
            if not model.may_write(user, part.key, part.range_end):
                return denied
            if part.prev_kv and not model.may_read(user, part.key, part.range_end):
                return denied
    return None


def _all(may: Callable[[str, bytes], bool], user: str, keys: Sequence[bytes]) -> bool:
    return all(may(user, key) for key in keys)


def _only_looks(request: Any) -> bool:
    return isinstance(request, pb.AlarmRequest) and request.action == pb.AlarmRequest.AlarmAction.GET


def _covers(key: bytes, end: bytes) -> bool:
    return bool(key) and (not end or end == b"\0" or key < end)
