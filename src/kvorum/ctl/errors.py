"""How a command ends other than well: etcdctl's exit codes, and what a failed call is called.

Source of behaviour: etcd ``pkg/cobrautl/error.go`` and the error mapping of ``client/v3``.
"""

from typing import Final

import grpc

from kvorum import errors as catalogue

EXIT_ERROR: Final = 1
EXIT_BAD_CONNECTION: Final = 2
EXIT_INVALID_INPUT: Final = 3
EXIT_BAD_FEATURE: Final = 4
EXIT_INTERRUPTED: Final = 5
EXIT_BAD_ARGUMENTS: Final = 128

_KNOWN: Final = frozenset(
    error.message for error in vars(catalogue).values() if isinstance(error, catalogue.EtcdError)
)


class CtlError(Exception):
    """Ends the command: ``Error: <message>`` on stderr (nothing if empty) and ``code`` as exit code."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code: Final = code
        self.message: Final = message


class CallError(CtlError):
    """A call failed; the message is what etcd's client says of it."""

    def __init__(self, status: int, details: str) -> None:
        super().__init__(EXIT_ERROR, _described(status, details))
        self.status: Final = status
        """The gRPC status code."""

    @classmethod
    def of(cls, error: grpc.RpcError) -> "CallError":
        """Return what grpcio raised as ours."""
        return cls(error.code().value[0], error.details() or "")


def _described(status: int, details: str) -> str:
    if details in _KNOWN:
        return details
    if status == catalogue.DEADLINE_EXCEEDED:
        return "context deadline exceeded"
    return f"rpc error: code = {catalogue.CODE_NAMES[status]} desc = {details}"
