"""The dispatch: one committed request in, one result out.

Requests that fail are results too: the entry is in the log, so every member must fail it alike.
"""

from collections.abc import Callable
from typing import Final, Protocol, final

from kvorum import errors
from kvorum.apply import kv, txn
from kvorum.apply import range as ranges
from kvorum.apply.alarms import NOSPACE, Alarms
from kvorum.mvcc.store import CompactedError, FutureRevisionError, Store
from kvorum.proto.membership_pb2 import ClusterMemberAttrSetRequest, ClusterVersionSetRequest
from kvorum.proto.rpc_pb2 import (
    AlarmMember,
    AlarmRequest,
    AlarmResponse,
    AlarmType,
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)

# Field numbers of etcdserverpb.InternalRaftRequest.
_RANGE: Final = 3
_PUT: Final = 4
_DELETE_RANGE: Final = 5
_TXN: Final = 6
_COMPACTION: Final = 7
_ALARM: Final = 10
_CLUSTER_VERSION_SET: Final = 1300
_CLUSTER_MEMBER_ATTR_SET: Final = 1301


class Membership(Protocol):
    """What entries may change of the cluster's membership (``server/membership.py``)."""

    def set_version(self, version: str) -> None:
        """Record the cluster version."""

    def set_attributes(self, member_id: int, name: str, client_urls: list[str]) -> None:
        """Record a member's name and client URLs."""


@final
class Result:
    """What applying a request gave: an error, or the header's revision and the response after its header."""

    __slots__ = ("body", "error", "revision")

    def __init__(self, revision: int, body: bytes, error: errors.EtcdError | None = None) -> None:
        self.revision = revision
        self.body = body
        self.error = error


class UnknownRequestError(Exception):
    """An entry holds a request that this version cannot apply; going on would make members differ."""


@final
class Applier:
    """Applies requests to the store and the membership, in the order they are given."""

    def __init__(self, store: Store, membership: Membership) -> None:
        self.alarms: Final = Alarms(store.table(b"alarm"))
        self._store: Final = store
        self._membership: Final = membership
        self._operations: Final[dict[int, Callable[[bytes], tuple[int, bytes]]]] = {
            _RANGE: self._range,
            _PUT: self._put,
            _DELETE_RANGE: self._delete_range,
            _TXN: self._txn,
            _COMPACTION: self._compaction,
            _ALARM: self._alarm,
            _CLUSTER_VERSION_SET: self._cluster_version_set,
            _CLUSTER_MEMBER_ATTR_SET: self._cluster_member_attr_set,
        }

    def apply(self, number: int, body: bytes) -> Result:
        """Apply the request ``body`` that stood in field ``number`` of its InternalRaftRequest.

        Raises:
            UnknownRequestError: this version has no such request.
        """
        operation = self._operations.get(number)
        if operation is None:
            raise UnknownRequestError(
                f"the log holds a request of field {number}, which this version does not know"
            )
        try:
            revision, response = operation(body)
        except errors.EtcdError as error:
            return Result(0, b"", error.forget())
        return Result(revision, response)

    def _put(self, body: bytes) -> tuple[int, bytes]:
        self.alarms.refuse_growth()
        request = PutRequest.FromString(body)
        if request.lease or request.ignore_value or request.ignore_lease:
            kv.check_lease(request)  # outside a transaction it is looked at before the key, as in etcd
            kv.check_put(self._store.read(), request)
        transaction = self._store.write()
        try:
            return kv.put(transaction, request)
        finally:
            transaction.end()

    def _delete_range(self, body: bytes) -> tuple[int, bytes]:
        self.alarms.refuse_corrupt()
        transaction = self._store.write()
        try:
            return kv.delete_range(transaction, DeleteRangeRequest.FromString(body))
        finally:
            transaction.end()

    def _txn(self, body: bytes) -> tuple[int, bytes]:
        opened = txn.OpenedTxn(TxnRequest.FromString(body))
        self.alarms.refuse_corrupt()
        if self.alarms.is_raised(NOSPACE) and opened.cost_bytes:
            raise errors.ERR_NO_SPACE
        return txn.execute_write(self._store, opened)

    def _range(self, body: bytes) -> tuple[int, bytes]:
        self.alarms.refuse_corrupt()
        return ranges.execute(self._store.read(), RangeRequest.FromString(body))

    def _compaction(self, body: bytes) -> tuple[int, bytes]:
        self.alarms.refuse_corrupt()
        try:
            self._store.compact(CompactionRequest.FromString(body).revision)
        except CompactedError:
            raise errors.ERR_COMPACTED from None
        except FutureRevisionError:
            raise errors.ERR_FUTURE_REV from None
        return self._store.revision, b""

    def _alarm(self, body: bytes) -> tuple[int, bytes]:
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

    def _cluster_version_set(self, body: bytes) -> tuple[int, bytes]:
        self._membership.set_version(ClusterVersionSetRequest.FromString(body).ver)
        return 0, b""

    def _cluster_member_attr_set(self, body: bytes) -> tuple[int, bytes]:
        request = ClusterMemberAttrSetRequest.FromString(body)
        attributes = request.member_attributes
        self._membership.set_attributes(request.member_ID, attributes.name, list(attributes.client_urls))
        return 0, b""
