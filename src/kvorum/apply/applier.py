"""The dispatch: one committed request in, one result out.

Requests that fail are results too: the entry is in the log, so every member must fail it alike.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

from kvorum import errors
from kvorum.apply import kv, txn
from kvorum.apply import range as ranges
from kvorum.apply.alarms import NOSPACE, Alarms
from kvorum.apply.auth import AuthApplier
from kvorum.apply.v2 import V2Applier
from kvorum.lease.lessor import Lessor
from kvorum.mvcc.keyvalue import is_delete, key_of, parse
from kvorum.mvcc.store import CompactedError, FutureRevisionError, Store, WriteTxn
from kvorum.proto.membership_pb2 import (
    ClusterMemberAttrSetRequest,
    ClusterVersionSetRequest,
    DowngradeInfoSetRequest,
)
from kvorum.proto.rpc_pb2 import (
    AlarmMember,
    AlarmRequest,
    AlarmResponse,
    AlarmType,
    CompactionRequest,
    DeleteRangeRequest,
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)

# Field numbers of etcdserverpb.InternalRaftRequest.
_V2: Final = 2
_RANGE: Final = 3
_PUT: Final = 4
_DELETE_RANGE: Final = 5
_TXN: Final = 6
_COMPACTION: Final = 7
_LEASE_GRANT: Final = 8
_LEASE_REVOKE: Final = 9
_ALARM: Final = 10
_LEASE_CHECKPOINT: Final = 11
_CLUSTER_VERSION_SET: Final = 1300
_CLUSTER_MEMBER_ATTR_SET: Final = 1301
_DOWNGRADE_INFO_SET: Final = 1302


class Membership(Protocol):
    """What entries may change of the cluster's membership (``server/membership.py``)."""

    def set_version(self, version: str) -> None:
        """Record the cluster version."""

    def set_downgrade(self, enabled: bool, target: str) -> None:
        """Record whether the cluster may go to an older version, and to which."""

    def set_attributes(self, member_id: int, name: str, client_urls: list[str]) -> None:
        """Record a member's name and client URLs."""


@final
class Result:
    """What applying a request gave: an error, or the header's revision and the response after its header.

    ``value`` is what a v2 request came to: an Event, a V2Error, or None.
    """

    __slots__ = ("body", "error", "revision", "value")

    def __init__(
        self, revision: int, body: bytes, error: errors.EtcdError | None = None, value: object = None
    ) -> None:
        self.revision = revision
        self.body = body
        self.error = error
        self.value = value


class UnknownRequestError(Exception):
    """An entry holds a request that this version cannot apply; going on would make members differ."""


@final
class Applier:
    """Applies requests to the store, the leases, the users and the membership, in the order they are given.

    ``notify(revision, changes)`` hears of every revision, once it is current. ``clock`` tells the lessor when
    its leases expire; nothing that is stored depends on it. ``v2`` applies v2 requests, which are unknown
    without it.
    """

    def __init__(
        self,
        store: Store,
        membership: Membership,
        lessor: Lessor,
        auth: AuthApplier,
        notify: Callable[[int, Sequence[bytes]], None],
        clock: Callable[[], float],
        v2: V2Applier | None = None,
    ) -> None:
        self.alarms: Final = Alarms(store.table(b"alarm"))
        self._store: Final = store
        self._lessor: Final = lessor
        self._notify: Final = notify
        self._clock: Final = clock
        self._membership: Final = membership
        self._v2: Final = v2
        self._auth: Final = auth
        self._users: Final = auth.store
        self._operations: Final[dict[int, Callable[[bytes, object], tuple[int, bytes]]]] = {
            _RANGE: self._range,
            _PUT: self._put,
            _DELETE_RANGE: self._delete_range,
            _TXN: self._txn,
            _COMPACTION: self._compaction,
            _LEASE_GRANT: self._lease_grant,
            _LEASE_REVOKE: self._lease_revoke,
            _LEASE_CHECKPOINT: self._lease_checkpoint,
            _ALARM: self._alarm,
            _CLUSTER_VERSION_SET: self._cluster_version_set,
            _CLUSTER_MEMBER_ATTR_SET: self._cluster_member_attr_set,
            _DOWNGRADE_INFO_SET: self._downgrade_info_set,
            **auth.operations,
        }

    def apply(self, number: int, body: bytes, parsed: object = None, who: bytes = b"") -> Result:
        """Apply the request ``body`` that stood in field ``number`` of its InternalRaftRequest.

        ``parsed`` is what the member that proposed it made of the same bytes: a PutRequest, an OpenedTxn, or
        None. ``who`` asked is an encoded ``Identity``.

        Raises:
            UnknownRequestError: this version has no such request.
        """
        if number == _V2 and self._v2 is not None:
            return Result(0, b"", value=self._v2.apply(body, parsed))
        operation = self._operations.get(number)
        if operation is None:
            raise UnknownRequestError(
                f"the log holds a request of field {number}, which this version does not know"
            )
        if self._users.enabled:
            refusal = self._auth.refusal(number, body, parsed, who)
            if refusal is not None:
                return Result(0, b"", refusal)
        try:
            revision, response = operation(body, parsed)
        except errors.EtcdError as error:
            return Result(0, b"", error.forget())
        return Result(revision, response)

    def _end(self, transaction: WriteTxn) -> None:
        """Make a transaction's changes current, move keys between leases, and tell who watches."""
        transaction.end()
        changes = transaction.changes
        if not changes:
            return
        if len(self._lessor):
            for change in changes:
                self._follow_lease(change)
        self._notify(transaction.main, changes)

    def _follow_lease(self, change: bytes) -> None:
        if is_delete(change):
            self._lessor.detach(key_of(change))
            return
        fields = parse(change)
        if fields.lease:
            self._lessor.attach(fields.key, fields.lease)
        else:
            self._lessor.detach(fields.key)

    def _put(self, body: bytes, parsed: object) -> tuple[int, bytes]:
        self.alarms.refuse_growth()
        request = parsed if isinstance(parsed, PutRequest) else PutRequest.FromString(body)
        if request.lease or request.ignore_value or request.ignore_lease:
            # Outside a transaction the lease is looked at before the key, as in etcd.
            kv.check_lease(request, self._lessor)
            kv.check_put(self._store.read(), request, self._lessor)
        transaction = self._store.write()
        try:
            return kv.put(transaction, request)
        finally:
            self._end(transaction)

    def _delete_range(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        self.alarms.refuse_corrupt()
        transaction = self._store.write()
        try:
            return kv.delete_range(transaction, DeleteRangeRequest.FromString(body))
        finally:
            self._end(transaction)

    def _txn(self, body: bytes, parsed: object) -> tuple[int, bytes]:
        opened = parsed if isinstance(parsed, txn.OpenedTxn) else txn.OpenedTxn(TxnRequest.FromString(body))
        self.alarms.refuse_corrupt()
        if self.alarms.is_raised(NOSPACE) and opened.cost_bytes:
            raise errors.ERR_NO_SPACE
        branch = txn.check(self._store.read(), opened, self._lessor)
        transaction = self._store.write()
        try:
            return txn.execute_write(transaction, branch)
        finally:
            self._end(transaction)

    def _lease_grant(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        self.alarms.refuse_growth()
        request = LeaseGrantRequest.FromString(body)
        ttl = self._lessor.grant(request.ID, request.TTL, self._clock())
        return self._store.revision, LeaseGrantResponse(ID=request.ID, TTL=ttl).SerializeToString()

    def _lease_revoke(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        """End a lease; its keys go in one transaction, in their order."""
        self.alarms.refuse_corrupt()
        keys = self._lessor.revoke(LeaseRevokeRequest.FromString(body).ID)
        transaction = self._store.write()
        for key in keys:
            transaction.delete_range_count(key)
        self._end(transaction)
        return self._store.revision, b""

    def _lease_checkpoint(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        for checkpoint in LeaseCheckpointRequest.FromString(body).checkpoints:
            self._lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL, self._clock())
        return self._store.revision, b""

    def _range(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        self.alarms.refuse_corrupt()
        return ranges.execute(self._store.read(), RangeRequest.FromString(body))

    def _compaction(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        self.alarms.refuse_corrupt()
        try:
            self._store.compact(CompactionRequest.FromString(body).revision)
        except CompactedError:
            raise errors.ERR_COMPACTED from None
        except FutureRevisionError:
            raise errors.ERR_FUTURE_REV from None
        return self._store.revision, b""

    def _alarm(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = AlarmRequest.FromString(body)
        alarms = self.alarms
        answer: list[AlarmMember] = []
        if request.action == AlarmRequest.AlarmAction.GET:
            answer = alarms.of(request.alarm)
        elif request.action == AlarmRequest.AlarmAction.ACTIVATE and request.alarm != AlarmType.NONE:
            answer = [alarms.activate(request.memberID, request.alarm)]
        elif request.action == AlarmRequest.AlarmAction.DEACTIVATE:
            disarmed = alarms.deactivate(request.memberID, request.alarm)
            answer = [] if disarmed is None else [disarmed]
        return 0, AlarmResponse(alarms=answer).SerializeToString()

    def _cluster_version_set(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        self._membership.set_version(ClusterVersionSetRequest.FromString(body).ver)
        return 0, b""

    def _downgrade_info_set(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = DowngradeInfoSetRequest.FromString(body)
        self._membership.set_downgrade(request.enabled, request.ver)
        return 0, b""

    def _cluster_member_attr_set(self, body: bytes, _parsed: object) -> tuple[int, bytes]:
        request = ClusterMemberAttrSetRequest.FromString(body)
        attributes = request.member_attributes
        self._membership.set_attributes(request.member_ID, attributes.name, list(attributes.client_urls))
        return 0, b""
