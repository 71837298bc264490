"""A second opinion on linearizability, key by key: is there any order of the operations that explains the answers?"""

from collections.abc import Sequence

from kvorum.sim.oracle import Operation


def check(operations: Sequence[Operation]) -> None:
    """Look for an order."""
