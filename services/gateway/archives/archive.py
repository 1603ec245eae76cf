"""An archive before any of its objects is read: its length, its ETag, and what each range of it consists of. Pure."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

import msgspec

from services.runtime.archives.layout import Data, Header, Item, Layout
from services.runtime.archives.records import Entry, central_bytes
from services.runtime.archives.selection import Chosen

FORMAT: Final = "1"
"""Part of every ETag. To be changed with anything that changes the bytes of an archive of the same objects."""

_NO_ROWS: Final = central_bytes((), 0)


class Part(msgspec.Struct, frozen=True, gc=False):
    """What a range has of an object: [start, end) of its local header, and of its content. Empty ones are (0, 0)."""

    index: int
    header: tuple[int, int]
    data: tuple[int, int]


class Row(msgspec.Struct, frozen=True, gc=False):
    """The bytes [start, end) of an object's header in the central directory."""

    index: int
    start: int
    end: int


class End(msgspec.Struct, frozen=True, gc=False):
    """The bytes [start, end) of the records behind the central directory, which is `length` bytes long."""

    length: int
    start: int
    end: int


class Archive:
    """Objects, stored as they are, one after the other. Raises nothing: what cannot be an archive, `select` has refused."""

    def __init__(self, chosen: Sequence[Chosen]) -> None:
        self.chosen = chosen
        self.layout = Layout(_item(one) for one in chosen)
        self.size = self.layout.size
        # Where each header of the central directory begins, counted from the first, at last where they end.
        self._rows = array("Q", accumulate((self._row_bytes(index) for index in range(len(chosen))), initial=0))
        self.etag = _etag(chosen)
        """Without quotes. Strong: the same for the same bytes, on any gateway and after any restart."""

    def _row_bytes(self, index: int) -> int:
        one = self.chosen[index]
        return central_bytes(((one.name, one.size, one.size, self.layout.headers[index]),), 0) - _NO_ROWS

    def entry(self, index: int, crc32: int) -> Entry:
        """As the records have it."""
        return _item(self.chosen[index]).entry(crc32)

    def needs_checksums(self, start: int, end: int) -> bool:
        """Whether the bytes [start, end) are more than a piece of one object."""
        first = next(self.layout.pieces(start, end), None)
        return first is not None and not (isinstance(first, Data) and first.end - first.start == end - start)

    def has_rows(self, end: int) -> bool:
        """Whether a range that ends there has something of the central directory."""
        return end > self.layout.central

    def parts(self, start: int, end: int) -> Iterator[Part]:
        """What [start, end) has of the objects, in order."""
        end = min(end, self.layout.central)
        if start >= end:
            return
        header: Header | None = None
        for piece in self.layout.pieces(start, end):
            match piece:
                case Header():
                    if header is not None:
                        yield Part(header.index, (header.start, header.end), (0, 0))
                    header = piece
                case Data(index, first, last):
                    yield Part(index, (0, 0) if header is None else (header.start, header.end), (first, last))
                    header = None
                case _:
                    raise AssertionError("the central directory lies behind all objects")
        if header is not None:
            yield Part(header.index, (header.start, header.end), (0, 0))

    def rows(self, start: int, end: int) -> Iterator[Row | End]:
        """What [start, end) has of the central directory and of what is behind it, in order."""
        # From the directory's beginning on.
        start, end = max(start - self.layout.central, 0), end - self.layout.central
        for index in range(bisect_right(self._rows, start) - 1, len(self.chosen)):
            at, after = self._rows[index], self._rows[index + 1]
            if at >= end:
                return
            yield Row(index, max(start - at, 0), min(end, after) - at)
        length = self._rows[-1]
        if length < end:
            yield End(length, max(start - length, 0), end - length)


def _item(one: Chosen) -> Item:
    return Item(name=one.name, size=one.size, modified_ms=one.modified_ms)


def _etag(chosen: Sequence[Chosen]) -> str:
    digest = hashlib.sha256(FORMAT.encode())
    for one in chosen:
        # JSON arrays: no value can pass for a part of its neighbour. The archive has whole seconds, and stores differ in the fractions.
        digest.update(msgspec.json.encode((one.name, one.bucket, one.key, one.etag, one.size, one.modified_ms // 1000)))
    return digest.hexdigest()[:40]
