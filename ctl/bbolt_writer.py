"""A writer of bbolt's files: buckets one after the other, each with its keys in order, in one pass and little memory.

bbolt.py draws the format. A file is written once, from page 2 on, and never changed, so a bucket's tree grows from its
leaves up: a page is written when the next element would not fit, and only then does its parent hear of it. What is
held is one page of each level. The last pages are the list of buckets and a free list with nothing in it; the metas,
which name both, are written over the room left for them at the front.
"""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING, Final

from zkv.ctl.bbolt import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET,
    FREELIST,
    IS_BUCKET,
    LEAF,
    LEAF_ELEMENT,
    PAGE_HEAD,
    packed_meta,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE_BYTES: Final = 4096
_METAS: Final = 2
_READ_BYTES: Final = 1 << 20


class BboltWriter:
    """Of `file`, which is empty and can be read again. Raises OSError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._pages = _METAS
        self._buckets: list[tuple[bytes, bytes]] = []
        file.write(bytes(_METAS * PAGE_BYTES))

    def bucket(self, name: bytes) -> Bucket:
        """To be filled and `end`ed before another one is begun."""
        return Bucket(self, name)

    def fill(self, name: bytes, items: Iterable[tuple[bytes, bytes]]) -> None:
        bucket = self.bucket(name)
        for key, value in sorted(items):
            bucket.add(key, value)
        bucket.end()

    def end(self) -> None:
        """The file is whole, and goes on with nothing but a digest, if it is to be a snapshot of etcd's."""
        root = self.page(LEAF, leaf_parts(sorted(self._buckets), IS_BUCKET))
        free = self.page(FREELIST, ((), ()))
        self._file.seek(0)
        for number in range(_METAS):
            meta = packed_meta(number, PAGE_BYTES, root=root, free=free, pages=self._pages)
            self._file.write(meta.ljust(PAGE_BYTES, b"\0"))
        self._file.seek(0, 2)

    def add_digest(self) -> None:
        """As etcd ends a snapshot: the SHA-256 of all before it."""
        digest = hashlib.sha256()
        self._file.seek(0)
        while data := self._file.read(_READ_BYTES):
            digest.update(data)
        self._file.write(digest.digest())

    def page(self, flags: int, parts: tuple[Iterable[bytes], Iterable[bytes]]) -> int:
        """Of elements, and what they point to behind them; its number."""
        heads, bodies = map(list, parts)
        data = b"".join((*heads, *bodies))
        number, overflow = self._pages, (PAGE_HEAD.size + len(data) - 1) // PAGE_BYTES
        self._pages += 1 + overflow
        page = PAGE_HEAD.pack(number, flags, len(heads), overflow) + data
        self._file.write(page + bytes(-len(page) % PAGE_BYTES))
        return number

    def ended(self, name: bytes, root: int) -> None:
        self._buckets.append((name, BUCKET.pack(root, 0)))


class Bucket:
    """Keys in ascending order."""

    def __init__(self, writer: BboltWriter, name: bytes) -> None:
        self._writer = writer
        self._name = name
        self._leaf: list[tuple[bytes, bytes]] = []
        self._size = PAGE_HEAD.size
        self._branches: list[list[tuple[bytes, int]]] = []
        self._sizes: list[int] = []
        self._last: bytes | None = None

    def add(self, key: bytes, value: bytes) -> None:
        assert self._last is None or key > self._last, "keys of a bucket ascend"
        self._last = key
        size = LEAF_ELEMENT.size + len(key) + len(value)
        if self._leaf and self._size + size > PAGE_BYTES:
            self._write_leaf()
        self._leaf.append((key, value))
        self._size += size

    def end(self) -> None:
        if not self._branches:
            self._writer.ended(self._name, self._writer.page(LEAF, leaf_parts(self._leaf)))
            return
        self._write_leaf()
        level = 0
        while level < len(self._branches) - 1 or len(self._branches[level]) > 1:
            self._write_branch(level)
            level += 1
        ((_, root),) = self._branches[level]
        self._writer.ended(self._name, root)

    def _write_leaf(self) -> None:
        page = self._writer.page(LEAF, leaf_parts(self._leaf))
        first = self._leaf[0][0]
        self._leaf, self._size = [], PAGE_HEAD.size
        self._note(0, first, page)

    def _note(self, level: int, first: bytes, page: int) -> None:
        """A page below `level` was written."""
        if level == len(self._branches):
            self._branches.append([])
            self._sizes.append(PAGE_HEAD.size)
        size = BRANCH_ELEMENT.size + len(first)
        if len(self._branches[level]) > 1 and self._sizes[level] + size > PAGE_BYTES:
            self._write_branch(level)
        self._branches[level].append((first, page))
        self._sizes[level] += size

    def _write_branch(self, level: int) -> None:
        children, self._branches[level] = self._branches[level], []
        self._sizes[level] = PAGE_HEAD.size
        self._note(level + 1, children[0][0], self._writer.page(BRANCH, _branch_parts(children)))


def leaf_parts(items: list[tuple[bytes, bytes]], flags: int = 0) -> tuple[list[bytes], Iterator[bytes]]:
    heads = []
    ahead = len(items) * LEAF_ELEMENT.size
    for key, value in items:
        heads.append(LEAF_ELEMENT.pack(flags, ahead, len(key), len(value)))
        ahead += len(key) + len(value) - LEAF_ELEMENT.size
    return heads, (part for item in items for part in item)


def _branch_parts(children: list[tuple[bytes, int]]) -> tuple[list[bytes], Iterator[bytes]]:
    heads = []
    ahead = len(children) * BRANCH_ELEMENT.size
    for key, page in children:
        heads.append(BRANCH_ELEMENT.pack(ahead, len(key), page))
        ahead += len(key) - BRANCH_ELEMENT.size
    return heads, (key for key, _ in children)
