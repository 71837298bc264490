"""The errors of the v2 API: a number, its text, what caused it and the index at which.

Numbers, texts and HTTP statuses are held against ``facts/v2_errors.csv`` by a test: clients compare them.
Source: etcd 3.4.23 ``etcdserver/api/v2error``.
"""

from typing import Final, final

from kvorum.golang import json_string

KEY_NOT_FOUND: Final = 100
TEST_FAILED: Final = 101
NOT_FILE: Final = 102
NO_MORE_PEER: Final = 103
NOT_DIR: Final = 104
NODE_EXIST: Final = 105
KEY_IS_PRESERVED: Final = 106
ROOT_READ_ONLY: Final = 107
DIR_NOT_EMPTY: Final = 108
EXISTING_PEER_ADDR: Final = 109
UNAUTHORIZED: Final = 110
VALUE_REQUIRED: Final = 200
PREV_VALUE_REQUIRED: Final = 201
TTL_NAN: Final = 202
INDEX_NAN: Final = 203
VALUE_OR_TTL_REQUIRED: Final = 204
TIMEOUT_NAN: Final = 205
NAME_REQUIRED: Final = 206
INDEX_OR_VALUE_REQUIRED: Final = 207
INDEX_VALUE_MUTEX: Final = 208
INVALID_FIELD: Final = 209
INVALID_FORM: Final = 210
REFRESH_VALUE: Final = 211
REFRESH_TTL_REQUIRED: Final = 212
RAFT_INTERNAL: Final = 300
LEADER_ELECT: Final = 301
WATCHER_CLEARED: Final = 400
EVENT_INDEX_CLEARED: Final = 401
STANDBY_INTERNAL: Final = 402
INVALID_ACTIVE_SIZE: Final = 403
INVALID_REMOVE_DELAY: Final = 404
CLIENT_INTERNAL: Final = 500

MESSAGES: Final = {
    KEY_NOT_FOUND: "Key not found",
    TEST_FAILED: "Compare failed",
    NOT_FILE: "Not a file",
    NO_MORE_PEER: "Reached the max number of peers in the cluster",
    NOT_DIR: "Not a directory",
    NODE_EXIST: "Key already exists",
    KEY_IS_PRESERVED: "The prefix of given key is a keyword in etcd",
    ROOT_READ_ONLY: "Root is read only",
    DIR_NOT_EMPTY: "Directory not empty",
    EXISTING_PEER_ADDR: "Peer address has existed",
    UNAUTHORIZED: "The request requires user authentication",
    VALUE_REQUIRED: "Value is Required in POST form",
    PREV_VALUE_REQUIRED: "PrevValue is Required in POST form",
    TTL_NAN: "The given TTL in POST form is not a number",
    INDEX_NAN: "The given index in POST form is not a number",
    VALUE_OR_TTL_REQUIRED: "Value or TTL is required in POST form",
    TIMEOUT_NAN: "The given timeout in POST form is not a number",
    NAME_REQUIRED: "Name is required in POST form",
    INDEX_OR_VALUE_REQUIRED: "Index or value is required",
    INDEX_VALUE_MUTEX: "Index and value cannot both be specified",
    INVALID_FIELD: "Invalid field",
    INVALID_FORM: "Invalid POST form",
    REFRESH_VALUE: "Value provided on refresh",
    REFRESH_TTL_REQUIRED: "A TTL must be provided on refresh",
    RAFT_INTERNAL: "Raft Internal Error",
    LEADER_ELECT: "During Leader Election",
    WATCHER_CLEARED: "watcher is cleared due to etcd recovery",
    EVENT_INDEX_CLEARED: "The event in requested index is outdated and cleared",
    STANDBY_INTERNAL: "Standby Internal Error",
    INVALID_ACTIVE_SIZE: "Invalid active size",
    INVALID_REMOVE_DELAY: "Standby remove delay",
    CLIENT_INTERNAL: "Client Internal Error",
}

STATUSES: Final = {
    KEY_NOT_FOUND: 404,
    NOT_FILE: 403,
    DIR_NOT_EMPTY: 403,
    UNAUTHORIZED: 401,
    TEST_FAILED: 412,
    NODE_EXIST: 412,
    RAFT_INTERNAL: 500,
    LEADER_ELECT: 500,
}
"""HTTP statuses; what is not here is 400."""


@final
class V2Error(Exception):
    """An error of the v2 API: ``code`` of the above, what caused it, and the store's index (0: none)."""

    def __init__(self, code: int, cause: str = "", index: int = 0) -> None:
        super().__init__(code, cause, index)
        self.code: Final = code
        self.cause: Final = cause
        self.index: Final = index

    @property
    def message(self) -> str:
        """The text that belongs to the code."""
        return MESSAGES[self.code]

    @property
    def status(self) -> int:
        """The HTTP status it is answered with."""
        return STATUSES.get(self.code, 400)

    def __str__(self) -> str:
        return f"{self.message} ({self.cause})"

    def to_json(self, trim: str = "") -> bytes:
        """The body of the answer, without the line end; ``trim`` is cut off the cause's beginning."""
        cause = self.cause.removeprefix(trim)
        shown = f',"cause":{json_string(cause)}' if cause else ""
        message = json_string(self.message)
        return f'{{"errorCode":{self.code},"message":{message}{shown},"index":{self.index}}}'.encode()
