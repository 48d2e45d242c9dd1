"""Ranges of keys, and which of them hold a key: an interval tree (Cormen et al., Introduction to Algorithms, 14.3).

An AVL tree ordered by (start, end); each node also knows the largest end below it, so that a search leaves out every
branch that ends too early. A search costs O(log n + found), a change O(log n), whatever the ranges are: nested, all
alike in their start, or chosen by somebody who wants it to be slow.

etcd does the same with a red-black tree (pkg/adt/interval_tree.go). Python's `intervaltree`, by its description, has no
end "behind all keys", files each range in sets at its nodes, and brings a second library with it, for what is a page
here.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class _Node(Generic[T]):
    """`end` and `last` (the largest end in this branch) are None for "behind all keys"."""

    __slots__ = ("end", "height", "last", "left", "right", "start", "value")

    def __init__(self, start: bytes, end: bytes | None, value: T) -> None:
        self.start = start
        self.end = end
        self.value = value
        self.last = end
        self.height = 1
        self.left: _Node[T] | None = None
        self.right: _Node[T] | None = None


class Intervals(Generic[T]):
    """A map from ranges [start, end) to values; `end` None: to the last key there can be."""

    def __init__(self) -> None:
        self._root: _Node[T] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, start: bytes, end: bytes | None) -> T | None:
        """The value of just this range."""
        node = self._root
        while node is not None:
            if node.start == start and node.end == end:
                return node.value
            node = node.left if _before(start, end, node) else node.right
        return None

    def put(self, start: bytes, end: bytes | None, value: T) -> None:
        self._root = self._put(self._root, start, end, value)

    def remove(self, start: bytes, end: bytes | None) -> None:
        """Raises KeyError when the range is not there."""
        self._root = self._remove(self._root, start, end)
        self._count -= 1

    def holding(self, key: bytes) -> list[T]:
        """The values of all ranges that hold `key`, in the order of the ranges."""
        found: list[T] = []
        path: list[_Node[T]] = []
        node = self._root
        while True:
            # Down to the left, as long as something there ends behind the key ...
            while node is not None and (node.last is None or node.last > key):
                path.append(node)
                node = node.left
            if not path:
                return found
            node = path.pop()
            if node.start > key:  # ... and of what begins behind it, nothing to the right holds it
                node = None
                continue
            if node.end is None or node.end > key:
                found.append(node.value)
            node = node.right

    # --- the tree ---

    def _put(self, node: _Node[T] | None, start: bytes, end: bytes | None, value: T) -> _Node[T]:
        if node is None:
            self._count += 1
            return _Node(start, end, value)
        if node.start == start and node.end == end:
            node.value = value
            return node
        if _before(start, end, node):
            node.left = self._put(node.left, start, end, value)
        else:
            node.right = self._put(node.right, start, end, value)
        return _balanced(node)

    def _remove(self, node: _Node[T] | None, start: bytes, end: bytes | None) -> _Node[T] | None:
        if node is None:
            raise KeyError((start, end))
        if node.start == start and node.end == end:
            if node.left is None or node.right is None:
                return node.left or node.right
            heir = node.right
            while heir.left is not None:
                heir = heir.left
            node.right = self._remove(node.right, heir.start, heir.end)
            node.start, node.end, node.value = heir.start, heir.end, heir.value
        elif _before(start, end, node):
            node.left = self._remove(node.left, start, end)
        else:
            node.right = self._remove(node.right, start, end)
        return _balanced(node)


def _before(start: bytes, end: bytes | None, node: _Node[T]) -> bool:
    if start != node.start:
        return start < node.start
    return end is not None and (node.end is None or end < node.end)


def _height(node: _Node[T] | None) -> int:
    return 0 if node is None else node.height


def _measure(node: _Node[T]) -> None:
    """Height and last end, of those below."""
    left, right, last = node.left, node.right, node.end
    for child in (left, right):
        if child is not None and last is not None and (child.last is None or child.last > last):
            last = child.last
    node.last = last
    node.height = 1 + max(_height(left), _height(right))


def _balanced(node: _Node[T]) -> _Node[T]:
    """The root of the same branch, no side of it higher than the other by more than one."""
    _measure(node)
    lean = _height(node.left) - _height(node.right)
    if lean > 1:
        assert node.left is not None
        if _height(node.left.left) < _height(node.left.right):
            node.left = _turned_left(node.left)
        return _turned_right(node)
    if lean < -1:
        assert node.right is not None
        if _height(node.right.right) < _height(node.right.left):
            node.right = _turned_right(node.right)
        return _turned_left(node)
    return node


def _turned_left(node: _Node[T]) -> _Node[T]:
    top = node.right
    assert top is not None
    node.right, top.left = top.left, node
    _measure(node)
    _measure(top)
    return top


def _turned_right(node: _Node[T]) -> _Node[T]:
    top = node.left
    assert top is not None
    node.left, top.right = top.right, node
    _measure(node)
    _measure(top)
    return top
