"""Reads the segments of a film, decrypted where they are encrypted."""

from __future__ import annotations

from services.runtime.jobs.failures import Permanent
from services.runtime.media.encryption import SegmentKey
from services.runtime.media.presentation import KEY, SEGMENT_LIMIT, Presentation, Rendition, init_key, segment_key
from services.runtime.storage.base import ObjectStore
from services.streamer import manifests


class Segments:
    """Those of one film."""

    def __init__(self, store: ObjectStore, film: Presentation, key: SegmentKey | None = None) -> None:
        self.film = film
        self._store, self._key = store, key

    async def init(self, rendition: Rendition) -> bytes:
        return await self._store.read(init_key(self.film.folder, rendition.name))

    async def segment(self, rendition: Rendition, number: int) -> bytes:
        """Raises Permanent when it was replaced by something else."""
        key = segment_key(self.film.folder, rendition.name, number)
        data = await self._store.read(key, limit=SEGMENT_LIMIT)
        if len(data) != rendition.segments[number].size:
            raise replaced(key, len(data), rendition.segments[number].size)
        if self._key is None:
            return data
        try:
            return self._key.decrypt(data)
        except ValueError:
            raise Permanent("segments", f"{key} cannot be decrypted with the key beside it", "Transcode the film again.") from None

    async def first_picture(self, rendition: Rendition, number: int) -> bytes:
        """A segment from its beginning to the end of its first picture, or to its own end where nothing tells more."""
        intra = rendition.segments[number].intra
        if self._key is not None or not intra:
            return await self.segment(rendition, number)
        key = segment_key(self.film.folder, rendition.name, number)
        return b"".join([chunk async for chunk in self._store.get(key, start=0, end=intra)])


async def open_film(store: ObjectStore, folder: str) -> Segments:
    """The film whose manifest lies in a folder, with its key. Raises what storage raises, and Permanent for what is no manifest."""
    film = await manifests.read(store, folder)
    if film.encryption is None:
        return Segments(store, film)
    key = await store.read(f"{folder}/{KEY}", limit=1024)
    return Segments(store, film, SegmentKey(key=key, iv=bytes.fromhex(film.encryption.iv)))


def replaced(key: str, size: int, expected: int) -> Permanent:
    """What to raise for a segment that is not the one of the manifest."""
    return Permanent("segments", f"{key} has {size} bytes instead of {expected}: it was replaced", "Transcode the film again.")
