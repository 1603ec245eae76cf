"""The bytes of any range of an archive, read as they are wanted, in constant memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Final

from services.gateway.archives.archive import Archive, End, Part, Row
from services.gateway.archives.reading import chunks, whole
from services.gateway.archives.sums import LARGE_BYTES, Sums
from services.runtime.ahead import ahead
from services.runtime.archives.checksums import crc32
from services.runtime.archives.records import central_header, end_records, local_header
from services.runtime.storage.base import Storage, StorageError

AHEAD_OBJECTS: Final = 32
"""Objects that are on their way at once: with 20 ms of latency, 1,600 small ones a second."""
AHEAD_BYTES: Final = 16 * 1024**2
"""That may wait in memory for their turn, in each download."""
_PASS_COST: Final = AHEAD_BYTES // 2
"""Of reading a large object for its CRC, at most: it holds but a chunk, and yet should not be done long before its turn."""
_TOGETHER: Final = 64 * 1024
"""Headers and small objects are sent together up to this size."""
_ROWS_AT_ONCE: Final = 256
"""Of the central directory: some milliseconds of work, between which others have their turn."""
_NOTHING: Final = (0, 0)


class Changed(StorageError):
    """The bytes of an object do not give the CRC-32 that its header has announced."""


async def stream(archive: Archive, storage: Storage, start: int, end: int) -> AsyncGenerator[bytes]:
    """The bytes [start, end) of the archive. What is learned about checksums on the way is kept, however it ends.

    Raises StorageError when they cannot all be read: what was answered until then is the beginning of the right archive.
    """
    sums = Sums(archive, storage)
    if archive.needs_checksums(start, end):
        await sums.load()
    pieces = _Range(archive, storage, sums, start, end)
    held = b""
    try:
        # The directory comes when every CRC that the objects give is known.
        for half in (pieces.objects, pieces.directory):
            async with aclosing(_joined(half())) as joined:
                async for piece in joined:
                    if held:
                        yield held
                    held = piece
        # Before the last piece: a client that has everything may ask for more at once, of what is known then.
        await sums.save()
        yield held
    finally:
        await sums.save()


class _Range:
    """The bytes [start, end) of an archive, in pieces of any size."""

    def __init__(self, archive: Archive, storage: Storage, sums: Sums, start: int, end: int) -> None:
        self._archive = archive
        self._storage = storage
        self._sums = sums
        self._start, self._end = start, end
        self._has_rows = archive.has_rows(end)

    # ── Objects ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def objects(self) -> AsyncGenerator[bytes]:
        parts = ahead(
            self._archive.parts(self._start, self._end),
            self._begin,
            cost=self._cost,
            most_items=AHEAD_OBJECTS,
            most_cost=AHEAD_BYTES,
        )
        async with aclosing(parts):
            async for part, data in parts:
                if part.header != _NOTHING:
                    first, last = part.header
                    yield local_header(self._archive.entry(part.index, await self._sums.find(part.index)))[first:last]
                if data:
                    yield data
                elif part.data != _NOTHING:
                    async with aclosing(self._large(part)) as pieces:
                        async for piece in pieces:
                            yield piece
                await self._sums.save_now_and_then()

    def _begin(self, part: Part) -> Coroutine[Any, Any, bytes] | None:
        if part.data != _NOTHING and self._is_small(part.index):
            return self._small(part)
        return self._checksum(part.index) if self._lacks_header(part) else None

    def _cost(self, part: Part) -> int:
        size = self._archive.chosen[part.index].size
        return size if self._is_small(part.index) else min(size, _PASS_COST) if self._lacks_header(part) else 0

    def _is_small(self, index: int) -> bool:
        return self._archive.chosen[index].size <= LARGE_BYTES

    def _lacks_header(self, part: Part) -> bool:
        return part.header != _NOTHING and self._sums.known(part.index) is None

    async def _small(self, part: Part) -> bytes:
        """The part's data. All of the object is read where its CRC will be wanted."""
        one = self._archive.chosen[part.index]
        first, last = part.data
        if not self._lacks_header(part) and not (self._has_rows and self._sums.known(part.index) is None):
            return await whole(self._storage, one, first, last)
        data = await whole(self._storage, one, 0, one.size)
        self._sums.learn(part.index, crc32(data))
        return data[first:last]

    async def _checksum(self, index: int) -> bytes:
        await self._sums.find(index)
        return b""

    async def _large(self, part: Part) -> AsyncGenerator[bytes]:
        """Raises Changed when all of the object was read and has another CRC than it was said to have."""
        one = self._archive.chosen[part.index]
        crc = 0
        async with aclosing(chunks(self._storage, one, *part.data)) as pieces:
            async for piece in pieces:
                crc = crc32(piece, crc)
                yield piece
        if part.data == (0, one.size) and not await self._sums.agrees(part.index, crc):
            raise Changed(f"{one.key!r} in bucket {one.bucket!r} has another CRC-32 than was known of it, or was changed while it was read")

    # ── The central directory ──────────────────────────────────────────────────────────────────────────────────────

    async def directory(self) -> AsyncGenerator[bytes]:
        rows = ahead(
            self._archive.rows(self._start, self._end),
            self._begin_row,
            cost=self._cost_of_row,
            most_items=AHEAD_OBJECTS,
            most_cost=AHEAD_BYTES,
        )
        async with aclosing(rows):
            async for row, _ in rows:
                if isinstance(row, End):
                    yield end_records(len(self._archive.chosen), row.length, self._archive.layout.central)[row.start : row.end]
                    continue
                entry = self._archive.entry(row.index, await self._sums.find(row.index))
                yield central_header(entry, self._archive.layout.headers[row.index])[row.start : row.end]
                if row.index % _ROWS_AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _begin_row(self, row: Row | End) -> Coroutine[Any, Any, bytes] | None:
        return self._checksum(row.index) if isinstance(row, Row) and self._sums.known(row.index) is None else None

    def _cost_of_row(self, row: Row | End) -> int:
        if isinstance(row, End) or self._sums.known(row.index) is not None:
            return 0
        return min(self._archive.chosen[row.index].size, _PASS_COST)


async def _joined(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same bytes in pieces that are worth sending."""
    held: list[bytes] = []
    size = 0
    async with aclosing(pieces):
        async for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= _TOGETHER:
                yield b"".join(held) if len(held) > 1 else piece
                held, size = [], 0
    if held:
        yield b"".join(held)
