"""The one catalogue of errors that clients see over gRPC.

Name, code and text are held against ``facts/grpc_errors.csv`` by ``tests/test_errors.py``: clients compare
the text. Source: etcd ``api/v3rpc/rpctypes/error.go``.
"""

from typing import Final, final

# gRPC status codes (https://grpc.github.io/grpc/core/md_doc_statuscodes.html).
OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
ALREADY_EXISTS: Final = 6
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
ABORTED: Final = 10
OUT_OF_RANGE: Final = 11
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
DATA_LOSS: Final = 15
UNAUTHENTICATED: Final = 16

CODE_NAMES: Final = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)
"""Go's names of the codes, as metrics and logs print them, by number."""


@final
class EtcdError(Exception):
    """An answer that is an error: a gRPC status code and the text that etcd sends with it.

    The instances below are constants and are raised as they are. ``code`` is one of the codes above. Whoever
    turns one into an answer calls ``forget()``, so that a constant does not gather tracebacks.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code: Final = code
        self.message: Final = message

    def forget(self) -> "EtcdError":
        """Drop what raising left on a shared constant; returns the error itself."""
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self


ERR_EMPTY_KEY: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: key is not provided")
ERR_KEY_NOT_FOUND: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: key not found")
ERR_VALUE_PROVIDED: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: value is provided")
ERR_LEASE_PROVIDED: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: lease is provided")
ERR_TOO_MANY_OPS: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
ERR_DUPLICATE_KEY: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
ERR_INVALID_CLIENT_API_VERSION: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: invalid client api version")
ERR_INVALID_SORT_OPTION: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: invalid sort option")
ERR_COMPACTED: Final = EtcdError(OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
ERR_FUTURE_REV: Final = EtcdError(OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
ERR_NO_SPACE: Final = EtcdError(RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
ERR_LEASE_NOT_FOUND: Final = EtcdError(NOT_FOUND, "etcdserver: requested lease not found")
ERR_LEASE_EXIST: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: lease already exists")
ERR_LEASE_TTL_TOO_LARGE: Final = EtcdError(OUT_OF_RANGE, "etcdserver: too large lease TTL")
ERR_WATCH_CANCELED: Final = EtcdError(CANCELLED, "etcdserver: watch canceled")
ERR_MEMBER_EXIST: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: member ID already exist")
ERR_PEER_URL_EXIST: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: Peer URLs already exists")
ERR_MEMBER_NOT_ENOUGH_STARTED: Final = EtcdError(
    FAILED_PRECONDITION, "etcdserver: re-configuration failed due to not enough started members"
)
ERR_MEMBER_BAD_URLS: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: given member URLs are invalid")
ERR_MEMBER_NOT_FOUND: Final = EtcdError(NOT_FOUND, "etcdserver: member not found")
ERR_MEMBER_NOT_LEARNER: Final = EtcdError(
    FAILED_PRECONDITION, "etcdserver: can only promote a learner member"
)
ERR_LEARNER_NOT_READY: Final = EtcdError(
    FAILED_PRECONDITION, "etcdserver: can only promote a learner member which is in sync with leader"
)
ERR_TOO_MANY_LEARNERS: Final = EtcdError(
    FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"
)
ERR_CLUSTER_ID_MISMATCH: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: cluster ID mismatch")
ERR_REQUEST_TOO_LARGE: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: request is too large")
ERR_REQUEST_TOO_MANY_REQUESTS: Final = EtcdError(RESOURCE_EXHAUSTED, "etcdserver: too many requests")
ERR_ROOT_USER_NOT_EXIST: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: root user does not exist")
ERR_ROOT_ROLE_NOT_EXIST: Final = EtcdError(
    FAILED_PRECONDITION, "etcdserver: root user does not have root role"
)
ERR_USER_ALREADY_EXIST: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: user name already exists")
ERR_USER_EMPTY: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: user name is empty")
ERR_USER_NOT_FOUND: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: user name not found")
ERR_ROLE_ALREADY_EXIST: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: role name already exists")
ERR_ROLE_NOT_FOUND: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: role name not found")
ERR_ROLE_EMPTY: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: role name is empty")
ERR_AUTH_FAILED: Final = EtcdError(
    INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"
)
ERR_PERMISSION_NOT_GIVEN: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: permission not given")
ERR_PERMISSION_DENIED: Final = EtcdError(PERMISSION_DENIED, "etcdserver: permission denied")
ERR_ROLE_NOT_GRANTED: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: role is not granted to the user")
ERR_PERMISSION_NOT_GRANTED: Final = EtcdError(
    FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"
)
ERR_AUTH_NOT_ENABLED: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
ERR_INVALID_AUTH_TOKEN: Final = EtcdError(UNAUTHENTICATED, "etcdserver: invalid auth token")
ERR_INVALID_AUTH_MGMT: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: invalid auth management")
ERR_AUTH_OLD_REVISION: Final = EtcdError(INVALID_ARGUMENT, "etcdserver: revision of auth store is old")
ERR_NO_LEADER: Final = EtcdError(UNAVAILABLE, "etcdserver: no leader")
ERR_NOT_LEADER: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: not leader")
ERR_LEADER_CHANGED: Final = EtcdError(UNAVAILABLE, "etcdserver: leader changed")
ERR_NOT_CAPABLE: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: not capable")
ERR_STOPPED: Final = EtcdError(UNAVAILABLE, "etcdserver: server stopped")
ERR_TIMEOUT: Final = EtcdError(UNAVAILABLE, "etcdserver: request timed out")
ERR_TIMEOUT_DUE_TO_LEADER_FAIL: Final = EtcdError(
    UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure"
)
ERR_TIMEOUT_DUE_TO_CONNECTION_LOST: Final = EtcdError(
    UNAVAILABLE, "etcdserver: request timed out, possibly due to connection lost"
)
ERR_TIMEOUT_WAIT_APPLIED_INDEX: Final = EtcdError(
    UNAVAILABLE, "etcdserver: request timed out, waiting for the applied index took too long"
)
ERR_UNHEALTHY: Final = EtcdError(UNAVAILABLE, "etcdserver: unhealthy cluster")
ERR_CORRUPT: Final = EtcdError(DATA_LOSS, "etcdserver: corrupt cluster")
ERR_NOT_SUPPORTED_FOR_LEARNER: Final = EtcdError(
    FAILED_PRECONDITION, "etcdserver: rpc not supported for learner"
)
ERR_BAD_LEADER_TRANSFEREE: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: bad leader transferee")
ERR_WRONG_DOWNGRADE_VERSION_FORMAT: Final = EtcdError(
    INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format"
)
ERR_INVALID_DOWNGRADE_TARGET_VERSION: Final = EtcdError(
    INVALID_ARGUMENT, "etcdserver: invalid downgrade target version"
)
ERR_CLUSTER_VERSION_UNAVAILABLE: Final = EtcdError(
    FAILED_PRECONDITION, "etcdserver: cluster version not found during downgrade"
)
ERR_DOWNGRADE_IN_PROCESS: Final = EtcdError(
    FAILED_PRECONDITION, "etcdserver: cluster has a downgrade job in progress"
)
ERR_NO_INFLIGHT_DOWNGRADE: Final = EtcdError(FAILED_PRECONDITION, "etcdserver: no inflight downgrade job")
ERR_CANCELED: Final = EtcdError(CANCELLED, "etcdserver: request canceled")
ERR_DEADLINE_EXCEEDED: Final = EtcdError(DEADLINE_EXCEEDED, "etcdserver: context deadline exceeded")
