"""Which intervals hold a point: an AVL tree ordered by start, each node knowing the farthest end below it.

A search turns away from every subtree that ends before the point and from everything that starts behind
it, so it looks at O(log n) nodes besides those on the way to a hit. The balance holds for any order of
insertion: nobody can make the tree deep by choosing what to watch.

Invariants (``check_invariants``): nodes ascend by (start, end); the heights of siblings differ by at most
one; ``height`` and ``farthest`` are those of the subtree.
"""

from itertools import pairwise
from typing import Generic, TypeVar, final

T = TypeVar("T")


@final
class _Node(Generic[T]):
    __slots__ = ("end", "farthest", "height", "left", "right", "start", "value")

    def __init__(self, start: bytes, end: bytes, value: T) -> None:
        self.start = start
        self.end = end
        self.value = value
        self.farthest = end
        self.height = 1
        self.left: _Node[T] | None = None
        self.right: _Node[T] | None = None

    def precedes(self, start: bytes, end: bytes) -> bool:
        """Whether this interval stands before another one in the tree's order."""
        return self.start < start or (self.start == start and self.end < end)


@final
class IntervalTree(Generic[T]):
    """Half-open intervals [start, end) of bytes, start < end, each once and with a value."""

    __slots__ = ("_root", "_size")

    def __init__(self) -> None:
        self._root: _Node[T] | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, start: bytes, end: bytes, value: T) -> None:
        """Put in an interval that is not in the tree."""
        assert start < end, "an empty interval"
        self._root = _insert(self._root, _Node(start, end, value))
        self._size += 1

    def remove(self, start: bytes, end: bytes) -> None:
        """Take out an interval that is in the tree."""
        self._root = _remove(self._root, start, end)
        self._size -= 1

    def stab(self, point: bytes, found: list[T]) -> None:
        """Append the values of all intervals that hold the point to ``found``."""
        if self._root is None:
            return
        stack = [self._root]
        while stack:
            node = stack.pop()
            if node.farthest <= point:
                continue
            if node.left is not None:
                stack.append(node.left)
            if node.start <= point:
                if point < node.end:
                    found.append(node.value)
                if node.right is not None:
                    stack.append(node.right)

    def check_invariants(self) -> None:
        """Assert what the module docstring promises; O(n)."""
        names: list[tuple[bytes, bytes]] = []
        _check(self._root, names)
        assert len(names) == self._size, "size differs from the nodes"
        assert all(a < b for a, b in pairwise(names)), "nodes out of order"


def _height(node: _Node[T] | None) -> int:
    return 0 if node is None else node.height


def _refresh(node: _Node[T]) -> None:
    """Compute height and farthest end anew from the children."""
    left, right = node.left, node.right
    farthest = node.end
    height = 0
    if left is not None:
        height = left.height
        if left.farthest > farthest:
            farthest = left.farthest
    if right is not None:
        if right.height > height:
            height = right.height
        if right.farthest > farthest:
            farthest = right.farthest
    node.farthest = farthest
    node.height = height + 1


def _rotate_right(node: _Node[T]) -> _Node[T]:
    top = node.left
    assert top is not None, "a rotation needs the child that rises"
    node.left, top.right = top.right, node
    _refresh(node)
    _refresh(top)
    return top


def _rotate_left(node: _Node[T]) -> _Node[T]:
    top = node.right
    assert top is not None, "a rotation needs the child that rises"
    node.right, top.left = top.left, node
    _refresh(node)
    _refresh(top)
    return top


def _balance(node: _Node[T]) -> _Node[T]:
    """Restore the balance of a node whose subtrees are balanced; returns the subtree's new root."""
    lean = _height(node.left) - _height(node.right)
    if lean > 1:
        left = node.left
        assert left is not None, "the taller side is not empty"
        if _height(left.left) < _height(left.right):
            node.left = _rotate_left(left)
        return _rotate_right(node)
    if lean < -1:
        right = node.right
        assert right is not None, "the taller side is not empty"
        if _height(right.right) < _height(right.left):
            node.right = _rotate_right(right)
        return _rotate_left(node)
    _refresh(node)
    return node


def _insert(node: _Node[T] | None, new: _Node[T]) -> _Node[T]:
    if node is None:
        return new
    if node.precedes(new.start, new.end):
        node.right = _insert(node.right, new)
    else:
        assert (node.start, node.end) != (new.start, new.end), "an interval is put in once"
        node.left = _insert(node.left, new)
    return _balance(node)


def _remove(node: _Node[T] | None, start: bytes, end: bytes) -> _Node[T] | None:
    assert node is not None, "the interval is in the tree"
    if node.start == start and node.end == end:
        return _join(node.left, node.right)
    if node.precedes(start, end):
        node.right = _remove(node.right, start, end)
    else:
        node.left = _remove(node.left, start, end)
    return _balance(node)


def _join(left: _Node[T] | None, right: _Node[T] | None) -> _Node[T] | None:
    """One tree of the two that a removed node leaves."""
    if left is None:
        return right
    if right is None:
        return left
    rest, first = _pop_first(right)
    first.left, first.right = left, rest
    return _balance(first)


def _pop_first(node: _Node[T]) -> tuple[_Node[T] | None, _Node[T]]:
    """Take the smallest node out: (what is left, that node)."""
    if node.left is None:
        return node.right, node
    rest, first = _pop_first(node.left)
    node.left = rest
    return _balance(node), first


def _check(node: _Node[T] | None, names: list[tuple[bytes, bytes]]) -> int:
    if node is None:
        return 0
    left = _check(node.left, names)
    names.append((node.start, node.end))
    right = _check(node.right, names)
    assert abs(left - right) <= 1, "a node is out of balance"
    assert node.height == max(left, right) + 1, "a wrong height"
    ends = [child.farthest for child in (node.left, node.right) if child is not None]
    assert node.farthest == max([node.end, *ends]), "a wrong farthest end"
    return node.height
