"""Where every byte of a stored archive comes from, before any of its data is read. Pure.

A stored archive whose names and sizes are known has a known length, and any range of it can be made on its own: so a download has a
Content-Length and can be resumed in the middle.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from services.runtime.archives.records import Entry, central_bytes, header_bytes


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry that is stored as it is."""

    name: str
    size: int
    modified_ms: int

    def entry(self, crc32: int) -> Entry:
        """With the CRC-32 of its bytes."""
        return Entry(name=self.name, size=self.size, compressed=self.size, crc32=crc32, method="store", modified_ms=self.modified_ms)


class Header(msgspec.Struct, frozen=True, gc=False):
    """The bytes [start, end) of the local header of item `index`."""

    index: int
    start: int
    end: int


class Data(msgspec.Struct, frozen=True, gc=False):
    """The bytes [start, end) of the content of item `index`."""

    index: int
    start: int
    end: int


class Central(msgspec.Struct, frozen=True, gc=False):
    """The bytes [start, end) of the central directory with its end records."""

    start: int
    end: int


Piece: TypeAlias = Header | Data | Central


class Layout:
    """Offsets of items that follow one another without gaps, and of the central directory behind them. 16 bytes of memory an item."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.headers = array("Q")
        """Offset of each local header, at last that of the central directory."""
        self.data = array("Q")
        """Offset of each item's content."""
        position = 0
        placed: list[tuple[str, int, int, int]] = []
        for item in items:
            placed.append((item.name, item.size, item.size, position))
            self.headers.append(position)
            position += header_bytes(item.name, item.size, item.size)
            self.data.append(position)
            position += item.size
        self.headers.append(position)
        self.central = position
        """Offset of the central directory."""
        self.size = position + central_bytes(placed, position)
        """Bytes of the whole archive."""

    def __len__(self) -> int:
        return len(self.data)

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """What the bytes [start, end) of the archive consist of, in order, without empty pieces.

        Raises ValueError for a range that the archive does not have.
        """
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"the bytes [{start}, {end}) of an archive of {self.size}")
        return self._pieces(start, end)

    def _pieces(self, start: int, end: int) -> Iterator[Piece]:
        if start == end:
            return
        index = bisect_right(self.headers, start) - 1
        while index < len(self.data) and self.headers[index] < end:
            header, data, after = self.headers[index], self.data[index], self.headers[index + 1]
            if start < data:
                yield Header(index, max(start - header, 0), min(end, data) - header)
            if data < min(end, after):
                yield Data(index, max(start - data, 0), min(end, after) - data)
            index += 1
        if end > self.central:
            yield Central(max(start - self.central, 0), end - self.central)
