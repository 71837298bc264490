"""Alarms: what a member found wrong that the whole cluster must know, kept in the backend's table ``alarm``.

While NOSPACE is raised nothing that grows the key space is applied, while CORRUPT is raised nothing is, and
reads fail too. Source: etcd ``server/etcdserver/api/v3alarm/alarms.go``, ``apply.go`` (applierV3Capped),
``corrupt.go`` (applierV3Corrupt).
"""

from typing import Final, final

from kvorum import errors
from kvorum.mvcc.backend import Table
from kvorum.proto.rpc_pb2 import AlarmMember, AlarmType

NONE: Final = int(AlarmType.NONE)
NOSPACE: Final = int(AlarmType.NOSPACE)
CORRUPT: Final = int(AlarmType.CORRUPT)


@final
class Alarms:
    """Raised alarms, by type and member.

    Invariant: what is in memory is what the table holds; a key of the table is the serialized AlarmMember, as
    in etcd.
    """

    def __init__(self, table: Table) -> None:
        self._table: Final = table
        self._raised: Final[dict[int, set[int]]] = {}
        self.restore()

    def restore(self) -> None:
        """Read the table, which may be another one since a snapshot replaced the store."""
        self._raised.clear()
        for key, _ in self._table.iterate():
            alarm = AlarmMember.FromString(key)
            self._raised.setdefault(int(alarm.alarm), set()).add(alarm.memberID)

    def of(self, alarm: int) -> list[AlarmMember]:
        """Raised alarms of one type, or of all (NONE), in the order of types and members."""
        kinds = sorted(self._raised) if alarm == NONE else [alarm]
        return [
            AlarmMember(memberID=member, alarm=AlarmType.Name(kind))
            for kind in kinds
            for member in sorted(self._raised.get(kind, ()))
        ]

    def is_raised(self, alarm: int) -> bool:
        """Whether any member raised it."""
        return bool(self._raised.get(alarm))

    def activate(self, member_id: int, alarm: int) -> AlarmMember:
        """Raise an alarm for a member; again is nothing new."""
        raised = AlarmMember(memberID=member_id, alarm=AlarmType.Name(alarm))
        members = self._raised.setdefault(alarm, set())
        if member_id not in members:
            members.add(member_id)
            self._table.put(raised.SerializeToString(), b"")
        return raised

    def deactivate(self, member_id: int, alarm: int) -> AlarmMember | None:
        """Disarm a member's alarm; None if it was not raised."""
        members = self._raised.get(alarm, set())
        if member_id not in members:
            return None
        members.discard(member_id)
        disarmed = AlarmMember(memberID=member_id, alarm=AlarmType.Name(alarm))
        self._table.delete(disarmed.SerializeToString())
        return disarmed

    def refuse_growth(self) -> None:
        """Raise ERR_CORRUPT or ERR_NO_SPACE if that alarm is raised; for puts."""
        self.refuse_corrupt()
        if self._raised.get(NOSPACE):
            raise errors.ERR_NO_SPACE

    def refuse_corrupt(self) -> None:
        """Raise ERR_CORRUPT if that alarm is raised; for everything that touches keys."""
        if self._raised.get(CORRUPT):
            raise errors.ERR_CORRUPT


KEY_OVERHEAD_BYTES: Final = 256
"""What a key costs besides its bytes (etcd ``quota.go``: kvOverhead)."""
LEASE_COST_BYTES: Final = 64
"""What a lease may add to the backend (etcd ``quota.go``: leaseOverhead)."""


def cost_of_put(key: bytes, value: bytes) -> int:
    """Bytes by which a put may grow the backend (etcd ``costPut``)."""
    return KEY_OVERHEAD_BYTES + len(key) + len(value)
