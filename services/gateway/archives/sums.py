"""The CRC-32 of each object of an archive: remembered, told by the store, or computed from its bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from services.gateway.archives.archive import Archive
from services.gateway.archives.reading import chunks
from services.runtime.archives import checksums
from services.runtime.archives.checksums import crc32
from services.runtime.archives.selection import Chosen
from services.runtime.storage.base import Storage

LARGE_BYTES: Final = 2 * 1024**2
"""Objects of more than this are not held in memory. Where nobody knows their CRC they are read twice, and it is kept for each of them."""
_SAVE_SECONDS: Final = 60.0
"""So often what was learned is saved on the way: a gateway that is killed has lost no more."""


class Sums:
    """Of one archive. What is learned is kept under its ETag, so that a download that goes on later reads only what it sends."""

    def __init__(self, archive: Archive, storage: Storage) -> None:
        self._archive = archive
        self._storage = storage
        self._known: dict[int, int] = {}
        self._learned: set[int] = set()
        self._saved = time.monotonic()
        self._line: list[asyncio.Event] = []

    async def load(self) -> None:
        """What earlier downloads have learned."""
        kept = await checksums.load(self._storage.bucket(), self._archive.etag)
        self._known = {int(index): crc for index, crc in kept.items() if index.isdecimal()}

    def known(self, index: int) -> int | None:
        return self._known.get(index)

    def learn(self, index: int, crc: int) -> None:
        """Of all bytes of the object, as they were read."""
        if self._known.get(index) != crc:
            self._known[index] = crc
            self._learned.add(index)

    async def find(self, index: int) -> int:
        """Raises StorageError, of its kinds PreconditionFailed and NotFound for an object that is not the one that was chosen."""
        crc = self._known.get(index)
        if crc is None:
            one = self._archive.chosen[index]
            crc = 0 if one.size == 0 else await (self._of_large(one) if one.size > LARGE_BYTES else self._of_small(one))
            self.learn(index, crc)
        return crc

    async def _of_small(self, one: Chosen) -> int:
        told = await self._told(one)
        return await self._read(one) if told is None else told

    async def _of_large(self, one: Chosen) -> int:
        # One is read at a time, in the order in which they are asked for: the first is waited for.
        with self._turn() as turn:
            kept = await checksums.load(self._storage.bucket(), checksums.identity_of(one))
            if one.key in kept:
                return kept[one.key]
            if (told := await self._told(one)) is not None:
                return told
            await turn.wait()
            crc = await self._read(one)
            await self._keep(one, crc)
            return crc

    @contextmanager
    def _turn(self) -> Generator[asyncio.Event]:
        """A place in the line; what it answers is set when nobody is in front."""
        turn = asyncio.Event()
        self._line.append(turn)
        self._line[0].set()
        try:
            yield turn
        finally:
            self._line.remove(turn)
            if self._line:
                self._line[0].set()

    async def _told(self, one: Chosen) -> int | None:
        """By the store."""
        return await self._storage.bucket(one.bucket).checksum(one.key, etag=one.etag)

    async def _read(self, one: Chosen) -> int:
        crc = 0
        async for chunk in chunks(self._storage, one, 0, one.size):
            crc = crc32(chunk, crc)
        return crc

    async def agrees(self, index: int, crc: int) -> bool:
        """Whether what all bytes of a large object give is what was known of it. If not, it is what is known from now on."""
        known = self.known(index)
        self.learn(index, crc)
        if known not in (None, crc):
            await self._keep(self._archive.chosen[index], crc)
            return False
        return True

    async def _keep(self, one: Chosen, crc: int) -> None:
        await checksums.save(self._storage.bucket(), checksums.identity_of(one), {one.key: crc})

    async def save_now_and_then(self) -> None:
        """`save`, when the last time is long ago."""
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            await self.save()

    async def save(self) -> None:
        """Keep what was learned, beside what other downloads have learned meanwhile."""
        self._saved = time.monotonic()
        if not self._learned:
            return
        store = self._storage.bucket()
        learned = {str(index): self._known[index] for index in self._learned}
        self._learned.clear()
        await checksums.save(store, self._archive.etag, await checksums.load(store, self._archive.etag) | learned)
