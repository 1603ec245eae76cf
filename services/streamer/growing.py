"""Writes playlists that grow while a film is being encoded, and gives way to their final form.

Every write is conditional on what was read or written before, so that no instance undoes what another one did: one that
lags, one that was thought dead, the stream job with the final playlists. What is found in place of what was expected is
read, and decides: with EXT-X-ENDLIST the film is over; with more segments than are known here, more must become known
before anything is written.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from schemas import envelope
from schemas.events import PlaylistChanged, StreamReady
from services.runtime.kafka.producer import Record, record
from services.runtime.media.presentation import MASTER, MEDIA, PLAYLIST_TYPE, init_key
from services.runtime.storage.base import NotFound, ObjectStore, PreconditionFailed, Refused, Storage, StorageError
from services.runtime.telemetry import metrics
from services.runtime.telemetry.logging import get_logger
from services.streamer import playlist
from services.streamer.shelf import Film, FilmId, Shelf

SOURCE: Final = "streamer-live"
"""CloudEvents source of what is told here."""
COALESCE_SECONDS: Final = 0.05
"""Segments of several renditions come together: they are written together."""
INTERVAL_SECONDS: Final = 0.5
"""A playlist is written at most twice a second. Players ask once in a target duration (RFC 8216 §6.3.4)."""
LOOK_SECONDS: Final = 30.0
LONGEST_LOOK_SECONDS: Final = 3600.0
"""When nothing is heard of a film, it is looked at after 30 s, then after twice as long each time: is it over?"""
RETRY_SECONDS: Final = 0.5
LONGEST_RETRY_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 2.0
AT_ONCE: Final = 8
"""Films that are written at the same time."""
ATTEMPTS: Final = 5
"""Of a conditional write: each time somebody else was quicker."""
log = get_logger(__name__)

Publish = Callable[[Record], Awaitable[object]]
Clock = Callable[[], float]
_LISTED = re.compile(rf"([^/\"\s]+)/{re.escape(MEDIA)}")


class Stored(msgspec.Struct):
    """A playlist in storage, as far as we know."""

    etag: str | None = None
    """None: it is to be looked at. Empty: there is none."""
    segments: int = 0
    """That a media playlist lists."""
    names: frozenset[str] = frozenset()
    """Renditions that a master lists."""
    told: str = ""
    """The ETag that was announced last."""


class GrowingFilm:
    """The playlists of one film."""

    def __init__(self, film: Film, store: ObjectStore, publish: Publish, clock: Clock = time.monotonic) -> None:
        self.film = film
        self.changed = asyncio.Event()
        self.closing = False
        """Once what is being written is written and told, nothing more."""
        self._store, self._publish, self._clock = store, publish, clock
        self._media: dict[str, Stored] = {}
        self._master = Stored()
        self._told_ready = False

    async def follow(self, turn: asyncio.Semaphore) -> None:
        """Write what changes, until the film is over."""
        retry, look = RETRY_SECONDS, LOOK_SECONDS
        await asyncio.sleep(COALESCE_SECONDS)
        while not self.film.over and not self.closing:
            self.changed.clear()
            began = self._clock()
            try:
                async with turn:
                    await self.write()
            except Refused as wrong:
                log.error("the playlists of a film cannot be written", asset_id=self.film.asset_id, error=str(wrong))
                self.film.over = True
            except Exception as wrong:  # a store that is away, a broker that is away: there is always a next time
                log.warning("playlists will be written later", asset_id=self.film.asset_id, error=f"{type(wrong).__name__}: {wrong}")
                await asyncio.sleep(retry)
                retry = min(LONGEST_RETRY_SECONDS, 2 * retry)
                continue
            retry = RETRY_SECONDS
            if await self._changes_within(self._until_due(look)):
                look = LOOK_SECONDS
                # Before there is a master nobody asks, and the first one is waited for.
                interval = INTERVAL_SECONDS if self._master.names else 0.0
                await asyncio.sleep(max(COALESCE_SECONDS, began + interval - self._clock()))
            elif self._until_due(look) == look:
                look = min(LONGEST_LOOK_SECONDS, 2 * look)
                self._look_again()

    async def write(self) -> None:
        """Bring what is in storage up to what is known. Raises StorageError, or what publishing raises."""
        names = self.film.playable()  # more may come while we write
        for name in names:
            await self._write_media(name)
            if self.film.over:
                return
        await self._write_master(names)

    async def _write_media(self, name: str) -> None:
        key, stored = self._key(name), self._media.setdefault(name, Stored())
        for _ in range(ATTEMPTS):
            if stored.etag is None:
                await self._look(key, stored)
            if not stored.etag:
                await self._check_there(name, stored)
            rendition = self.film.rendition(name)
            if self.film.over:
                return
            if len(rendition.segments) > stored.segments:
                if not await self._put(key, stored, playlist.media(rendition, ended=False, encryption=self.film.encryption)):
                    continue
                stored.segments = len(rendition.segments)
                metrics.LIVE_PLAYLISTS.labels("media").inc()
            await self._tell(key, stored)
            return
        raise StorageError(f"{key} was changed by others {ATTEMPTS} times")

    async def _write_master(self, names: Sequence[str]) -> None:
        key, stored = f"{self.film.folder}/{MASTER}", self._master
        if not stored.names and self._clock() < self.film.master_due(names):
            return
        for _ in range(ATTEMPTS):
            if stored.etag is None:
                await self._look(key, stored)
                # A master does not say whether it is final. But it is written last: then this one is final, too.
                await self._look(self._key(names[0]), self._media[names[0]])
            if self.film.over:
                return
            if not stored.names.issuperset(names):
                if not await self._put(key, stored, playlist.master([self.film.rendition(n) for n in names], ended=False)):
                    continue
                if not stored.names:
                    log.info("a film can be watched while it is encoded", asset_id=self.film.asset_id, master=key)
                stored.names = frozenset(names)
                metrics.LIVE_PLAYLISTS.labels("master").inc()
            await self._tell(key, stored)
            await self._tell_ready(key)
            return
        raise StorageError(f"{key} was changed by others {ATTEMPTS} times")

    async def _put(self, key: str, stored: Stored, text: str) -> bool:
        """Write in place of what we know of; when something else is there, it is to be looked at. Answers whether it was written."""
        try:
            info = await self._store.put(
                key, text.encode(), content_type=PLAYLIST_TYPE, if_none_match=not stored.etag, if_match=stored.etag or ""
            )
        except PreconditionFailed:
            stored.etag = None
            return False
        stored.etag = info.etag
        return True

    async def _look(self, key: str, stored: Stored) -> None:
        for _ in range(ATTEMPTS):
            try:
                info = await self._store.head(key)
                body = b"".join([chunk async for chunk in self._store.get(key, if_match=info.etag)])
            except NotFound:
                stored.etag, stored.segments, stored.names = "", 0, frozenset()
                return
            except PreconditionFailed:
                continue  # it was replaced in between
            text = body.decode("utf-8", "replace")
            stored.etag, stored.segments, stored.names = info.etag, text.count("\n#EXTINF:"), frozenset(_LISTED.findall(text))
            self.film.over = self.film.over or "\n#EXT-X-ENDLIST" in text
            return
        raise StorageError(f"{key} was changed by others {ATTEMPTS} times")

    async def _check_there(self, name: str, stored: Stored) -> None:
        """A film whose playlist or init segment was removed was deleted by somebody: no playlist may name its segments again."""
        try:
            if not stored.told:
                await self._store.head(init_key(self.film.folder, name))
                return
        except NotFound:
            pass
        log.info("a film was removed while it was encoded", asset_id=self.film.asset_id, rendition=name)
        self.film.over = True

    async def _tell(self, key: str, stored: Stored) -> None:
        if stored.etag and stored.etag != stored.told:
            film = self.film
            told = PlaylistChanged(
                asset_id=film.asset_id, bucket=self._store.bucket, key=key, etag=stored.etag, segments=stored.segments
            )  # fmt: skip
            await self._publish(record(told, key, source=SOURCE))
            stored.told = stored.etag

    async def _tell_ready(self, key: str) -> None:
        """Under a key of its own: that of the final one is the coordinator's."""
        if self._told_ready:
            return
        film = self.film
        ready = StreamReady(
            job_id=film.latest.job_id, subject=film.asset_id, kind="stream", finished_ms=int(time.time() * 1000), asset_id=film.asset_id,
            bucket=self._store.bucket, master=key, progressive=True, recipe=film.recipe, encrypted=film.encryption is not None,
        )  # fmt: skip
        event_id = envelope.derived_id(film.latest.job_id, key, "progressive")
        await self._publish(record(ready, f"{film.asset_id}:stream:progressive", source=SOURCE, event_id=event_id))
        self._told_ready = True

    def _key(self, name: str) -> str:
        return f"{self.film.folder}/{name}/{MEDIA}"

    def _until_due(self, look: float) -> float:
        """Seconds until there is something to do although nothing changed."""
        written = [name for name, stored in self._media.items() if stored.segments]
        return look if self._master.names else min(look, max(0.0, self.film.master_due(written) - self._clock()))

    async def _changes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        except TimeoutError:
            return False
        return True

    def _look_again(self) -> None:
        if self.film.stale(self._clock()):
            self.film.over = True
        for stored in list(self._media.values())[:1]:
            stored.etag = None


class Growing:
    """All films that grow. One task for each, so that a slow store holds up no other film."""

    def __init__(self, storage: Storage, publish: Publish, clock: Clock = time.monotonic) -> None:
        self._storage, self._publish, self._clock = storage, publish, clock
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._films: dict[FilmId, tuple[GrowingFilm, asyncio.Task[None]]] = {}
        self._closed = False

    def changed(self, film: Film) -> None:
        """Something was added to a film. Never blocks, never raises."""
        if self._closed:
            return
        film_id = (film.asset_id, film.recipe)
        growing, task = self._films.get(film_id, (None, None))
        if growing is not None and task is not None and growing.film is film and not task.done():
            growing.changed.set()
            return
        try:
            store = self._storage.bucket(film.latest.bucket)
        except Refused as wrong:
            log.error("the playlists of a film cannot be written", asset_id=film.asset_id, error=str(wrong))
            film.over = True
            return
        growing = GrowingFilm(film, store, self._publish, self._clock)
        task = asyncio.create_task(growing.follow(self._turn), name=f"grow-{film.asset_id}")
        self._films[film_id] = (growing, task)
        task.add_done_callback(lambda done: self._ended(film_id, done))
        metrics.LIVE_FILMS.set(len(self._films))

    def replace(self, shelf: Shelf) -> None:
        """Begin anew with other films, knowing nothing of what is stored."""
        self._cancel()
        for film in shelf.films.values():
            self.changed(film)

    async def close(self) -> None:
        """Finish what is being written, and tell it. What is not done in `CLOSE_SECONDS` is cut off."""
        self._closed = True
        tasks = [task for _, task in self._films.values()]
        for film, _ in self._films.values():
            film.closing = True
            film.changed.set()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        await asyncio.gather(*self._cancel(), return_exceptions=True)

    def _cancel(self) -> list[asyncio.Task[None]]:
        tasks = [task for _, task in self._films.values()]
        self._films.clear()
        for task in tasks:
            task.cancel()
        return tasks

    def _ended(self, film_id: FilmId, task: asyncio.Task[None]) -> None:
        if film_id in self._films and self._films[film_id][1] is task:
            del self._films[film_id]
        metrics.LIVE_FILMS.set(len(self._films))
