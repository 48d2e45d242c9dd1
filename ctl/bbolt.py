"""A reader of bbolt's files, in which etcd keeps its store (bbolt_writer.py writes them).

A file is pages of one size, numbered from 0. All integers are little endian.

    page      id u64, flags u16, count u16, overflow u32, then its content; it goes on over `overflow` more pages
    0 and 1   meta: magic, version, page size, flags u32 each; of the root bucket: page and sequence; page of the
              free list, number of pages, transaction u64 each; FNV-1a of all that. The newer whole one counts
    branch    count elements: pos u32, key size u32, page u64; keys behind them
    leaf      count elements: flags u32 (1: a bucket), pos, key size, value size u32; keys and values behind them

`pos` counts from its element. A bucket's value is: root page u64, sequence u64, and where the root is 0, a page without
a number of its own that is all of the bucket.

Only the metas carry a checksum. So what a reader can know of a page is whether it fits: each bears its own number, lies
within the file, and holds its elements within itself; and the keys of a bucket ascend without an exception, from
the first page to the last, which also ends every walk that damage would lead round in circles. Whatever does not fit
is a CorruptionError. At most one page of each level is in memory.
"""

from __future__ import annotations

import os
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from zkv.errors import CorruptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_HEAD: Final = Struct("<QHHI")
BRANCH, LEAF, META, FREELIST = 1, 2, 4, 16
PAGE_BYTES_MAX: Final = 1 << 29
"""A page with what overflows it: where two keys are, bbolt splits above its page size, and no value is so large."""
LEVELS_MAX: Final = 64
BUCKETS_MAX: Final = 1000
_META: Final = Struct("<IIIIQQQQQ")
_META_CHECKED_BYTES: Final = _META.size
_SUM: Final = Struct("<Q")
_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
_PAGE_SIZES: Final = tuple(1 << power for power in range(9, 17))
BRANCH_ELEMENT: Final = Struct("<IIQ")
LEAF_ELEMENT: Final = Struct("<IIII")
BUCKET: Final = Struct("<QQ")
IS_BUCKET: Final = 1
_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3


class _Meta(NamedTuple):
    page_size: int
    root: int
    pages: int
    transaction: int


class Bbolt:
    """A file, open under `descriptor`, of which the first `size` bytes count.

    Raises CorruptionError where it is none, is cut short, or is damaged; OSError.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        metas = [meta for meta in (self._meta(0), *map(self._meta, _PAGE_SIZES)) if meta is not None]
        if not metas:
            raise CorruptionError("it is no file of bbolt, which etcd keeps its store in")
        meta = max(metas, key=lambda each: each.transaction)
        self.page_size = meta.page_size
        self.bytes = meta.pages * meta.page_size
        """That the pages of the file take; more may lie behind them."""
        self._pages = meta.pages
        if size < self.bytes:
            raise CorruptionError(f"it is cut short: {size} bytes of {self.bytes}")
        self._buckets = dict(islice(self._walk(meta.root, buckets=True), BUCKETS_MAX))

    def items(self, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values, in order. Nothing, if there is no such bucket."""
        value = self._buckets.get(bucket)
        if value is None:
            return iter(())
        if len(value) < BUCKET.size:
            raise CorruptionError("a bucket is damaged")
        root, _ = BUCKET.unpack_from(value)
        return self._walk(root) if root else self._leaf(value[BUCKET.size :], b"", buckets=False)

    def get(self, bucket: bytes, name: bytes) -> bytes | None:
        """Of a small bucket: it is walked."""
        return next((value for key, value in self.items(bucket) if key == name), None)

    def __contains__(self, bucket: bytes) -> bool:
        return bucket in self._buckets

    def _meta(self, offset: int) -> _Meta | None:
        data = os.pread(self._descriptor, PAGE_HEAD.size + _META_CHECKED_BYTES + _SUM.size, offset)
        if len(data) < PAGE_HEAD.size + _META_CHECKED_BYTES + _SUM.size:
            return None
        _, flags, _, _ = PAGE_HEAD.unpack_from(data)
        fields = data[PAGE_HEAD.size :]
        magic, version, page_size, _, root, _, _, pages, transaction = _META.unpack_from(fields)
        if not flags & META or magic != _MAGIC or version != _VERSION or page_size not in _PAGE_SIZES:
            return None
        if _SUM.unpack_from(fields, _META_CHECKED_BYTES)[0] != _fnv1a(fields[:_META_CHECKED_BYTES]):
            return None
        return _Meta(page_size, root, pages, transaction) if offset in {0, page_size} else None

    def _walk(self, root: int, *, buckets: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The leaves below a page, from left to right."""
        path: list[Iterator[int]] = [iter((root,))]
        last = b""
        while path:
            number = next(path[-1], None)
            if number is None:
                path.pop()
                continue
            page = self._page(number)
            _, flags, count, _ = PAGE_HEAD.unpack_from(page)
            if flags == LEAF and (count or number == root):
                for key, value in self._leaf(page, last, buckets=buckets):
                    last = key
                    yield key, value
            elif flags == BRANCH and count and len(path) < LEVELS_MAX:
                path.append(iter(_children(page, count)))
            else:
                raise CorruptionError(f"page {number} is damaged")

    def _page(self, number: int) -> bytes:
        if not 2 <= number < self._pages:
            raise CorruptionError(f"page {number} does not lie in the file")
        start = number * self.page_size
        head = os.pread(self._descriptor, PAGE_HEAD.size, start)
        if len(head) < PAGE_HEAD.size:
            raise CorruptionError("it is cut short")
        itself, _, _, overflow = PAGE_HEAD.unpack(head)
        size = (1 + overflow) * self.page_size
        if itself != number or number + overflow >= self._pages or size > PAGE_BYTES_MAX:
            raise CorruptionError(f"page {number} is damaged")
        page = os.pread(self._descriptor, size, start)
        if len(page) < size:
            raise CorruptionError("it is cut short")
        return page

    @staticmethod
    def _leaf(page: bytes, last: bytes, *, buckets: bool) -> Iterator[tuple[bytes, bytes]]:
        """Its elements, which come behind the key `last`."""
        if len(page) < PAGE_HEAD.size:
            raise CorruptionError("a bucket is damaged")
        count = PAGE_HEAD.unpack_from(page)[2]
        start = PAGE_HEAD.size
        behind = start + count * LEAF_ELEMENT.size
        if behind > len(page):
            raise CorruptionError("a page is damaged")
        for flags, pos, key_size, value_size in LEAF_ELEMENT.iter_unpack(page[start:behind]):
            key_at = start + pos
            value_at = key_at + key_size
            if value_at + value_size > len(page) or key_at < behind:
                raise CorruptionError("an element of a page is damaged")
            key = page[key_at:value_at]
            if key <= last:
                raise CorruptionError("the keys of a page are not in order")
            if bool(flags & IS_BUCKET) != buckets:
                raise CorruptionError("a bucket stands where none belongs, or none where one does")
            yield key, page[value_at : value_at + value_size]
            last = key
            start += LEAF_ELEMENT.size


def _children(page: bytes, count: int) -> list[int]:
    behind = PAGE_HEAD.size + count * BRANCH_ELEMENT.size
    if behind > len(page):
        raise CorruptionError("a page is damaged")
    return [child for _, _, child in BRANCH_ELEMENT.iter_unpack(page[PAGE_HEAD.size : behind])]


def _fnv1a(data: bytes) -> int:
    digest = _FNV_OFFSET
    for byte in data:
        digest = (digest ^ byte) * _FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return digest


def packed_meta(number: int, page_size: int, *, root: int, free: int, pages: int) -> bytes:
    """Of a file that was written in one go: the second one counts, and both say the same."""
    fields = _META.pack(_MAGIC, _VERSION, page_size, 0, root, 0, free, pages, number)
    return PAGE_HEAD.pack(number, META, 0, 0) + fields + _SUM.pack(_fnv1a(fields))
