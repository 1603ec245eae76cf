"""Playlists from memory: storage is asked once for each version, however many players poll.

A version is what `media.playlists` announced last, or, once the film is whole, what its StreamReady says. Used on the event loop only.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable

from schemas.events import PlaylistChanged
from services.gateway.counters import Counters
from services.gateway.delivery.paths import Place
from services.gateway.views.ready import Ready
from services.runtime.storage.base import NotFound, StorageError
from services.runtime.telemetry.logging import get_logger

GROWING_SECONDS = 1.0
"""How old a copy may be of what grows, or is not there, when nobody announces its versions: half a player's shortest poll (RFC 8216
§6.3.4: half a target duration)."""
WHOLE_SECONDS = 300.0
"""The same of what has ended."""
STALL_SECONDS = 2.0
"""Who has a copy, an older one, does not let players wait longer for storage."""
PATIENCE_SECONDS = 10.0
"""Who has none waits so long."""
_FILMS = 4096
_BYTES = 128 * 1024**2
"""Of all copies: some thousand playlists of long films."""
_OVERHEAD = 1024
_ENDED = b"#EXT-X-ENDLIST"

log = get_logger(__name__)


class Copy:
    """What storage held."""

    __slots__ = ("good_until", "growing", "ready", "retry_at", "version")

    def __init__(self, ready: Ready | None, *, growing: bool, version: str, good_until: float) -> None:
        self.ready = ready
        """None: there is no such object."""
        self.growing = growing
        self.version = version
        """As it was announced; "" when it was not."""
        self.good_until = good_until
        self.retry_at = 0.0
        """When storage has failed: not before is it asked again."""

    @property
    def size(self) -> int:
        """Bytes of memory, roughly."""
        return _OVERHEAD + (len(self.ready.body) if self.ready is not None else 0)


class _Film:
    """What is known of a film's playlists. One that was dropped lives on in loads that are under way, and nowhere else."""

    __slots__ = ("announced", "copies", "loading", "size")

    def __init__(self) -> None:
        self.announced: dict[str, PlaylistChanged] = {}
        self.copies: dict[str, Copy] = {}
        self.loading: dict[str, asyncio.Task[Copy]] = {}
        self.size = 0


class Playlists:
    """Copies by film and key, the least used film leaving first.

    `read` gets an object's bytes; `whole` says whether a film's stream of a recipe has ended, which a master does not tell;
    `answer` makes the answer of a body.
    """

    def __init__(
        self,
        read: Callable[[str], Awaitable[bytes]],
        *,
        whole: Callable[[str, str], bool],
        answer: Callable[[Place, bytes, bool], Ready],
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._whole = whole
        self._answer = answer
        self._counters = counters
        self._clock = clock
        self._films: OrderedDict[str, _Film] = OrderedDict()
        self._size = 0
        self._hearing = False

    # ── What changes ───────────────────────────────────────────────────────────────────────────────────────────────

    def announced(self, changes: Iterable[PlaylistChanged]) -> None:
        """Newer versions are in storage."""
        for change in changes:
            self._film(change.asset_id).announced[change.key] = change

    def hearing(self, hearing: bool) -> None:
        """Whether announcements are being heard. While not, some may be missed: what was announced counts no longer."""
        self._hearing = hearing
        if not hearing:
            for film in self._films.values():
                film.announced.clear()

    def forget(self, asset_ids: Iterable[str]) -> None:
        """Their streams were made anew, or are gone."""
        for asset_id in asset_ids:
            if (film := self._films.pop(asset_id, None)) is not None:
                self._size -= film.size

    def clear(self) -> None:
        """Whatever was kept may have changed."""
        self.forget(list(self._films))

    def close(self) -> None:
        """End what is under way."""
        for film in self._films.values():
            for loading in film.loading.values():
                loading.cancel()

    # ── Answers ────────────────────────────────────────────────────────────────────────────────────────────────────

    def peek(self, asset_id: str, key: str) -> Copy | None:
        """The present version, if it is in memory."""
        film = self._films.get(asset_id)
        if film is None or (copy := film.copies.get(key)) is None or not self._is_good(film, key, copy):
            return None
        self._counters.playlist_hits += 1
        self._films.move_to_end(asset_id)
        return copy

    async def get(self, asset_id: str, place: Place) -> Copy:
        """The present version, or the one before it while storage cannot be read. Raises StorageError where there is neither."""
        if (copy := self.peek(asset_id, place.key)) is not None:
            return copy
        film = self._film(asset_id)
        # A load that began before the newest announcement may bring the version before it: then once more.
        copy = await self._loaded_or_older(asset_id, film, place)
        return copy if self._is_good(film, place.key, copy) else await self._loaded_or_older(asset_id, film, place)

    async def _loaded_or_older(self, asset_id: str, film: _Film, place: Place) -> Copy:
        older = film.copies.get(place.key)
        if older is not None and older.ready is None:
            older = None
        loading = film.loading.get(place.key)
        if loading is None:
            loading = film.loading[place.key] = asyncio.create_task(self._load(asset_id, film, place))
            loading.add_done_callback(lambda done: self._loaded(asset_id, film, place.key, done))
        # Whoever leaves does not take the load from the others.
        done, _ = await asyncio.wait({loading}, timeout=STALL_SECONDS if older is not None else PATIENCE_SECONDS)
        wrong = loading.exception() if done else StorageError(f"{place.key!r} could not be read within {PATIENCE_SECONDS:g} s")
        if wrong is None:
            return loading.result()
        if older is None:
            raise wrong
        self._counters.playlist_stale += 1
        older.retry_at = self._clock() + GROWING_SECONDS
        return older

    def _is_good(self, film: _Film, key: str, copy: Copy) -> bool:
        now = self._clock()
        if now < copy.retry_at:
            return True
        announced = film.announced.get(key) if self._hearing else None
        if announced is not None and copy.version != announced.etag:
            return False
        return now < copy.good_until or (announced is not None and copy.ready is not None)

    async def _load(self, asset_id: str, film: _Film, place: Place) -> Copy:
        # Whoever announces has written before: what is read from now on is this version or a newer one.
        announced = film.announced.get(place.key)
        self._counters.playlist_reads += 1
        try:
            body = await self._read(place.key)
        except NotFound:
            body = None
        growing = body is None or not (
            _ENDED in body or place.kind == "text" or (place.kind == "master" and self._has_ended(asset_id, place, announced))
        )
        return Copy(
            None if body is None else self._answer(place, body, growing),
            growing=growing,
            version="" if announced is None else announced.etag,
            good_until=self._clock() + (GROWING_SECONDS if growing else WHOLE_SECONDS),
        )

    def _has_ended(self, asset_id: str, place: Place, announced: PlaylistChanged | None) -> bool:
        return (announced is not None and announced.ended) or self._whole(asset_id, place.recipe)

    def _loaded(self, asset_id: str, film: _Film, key: str, task: asyncio.Task[Copy]) -> None:
        film.loading.pop(key, None)
        if task.cancelled():
            return
        older = film.copies.get(key)
        if (wrong := task.exception()) is not None:
            log.warning("a playlist could not be read", key=key, reason=str(wrong) or type(wrong).__name__, copy=older is not None)
            return
        copy = film.copies[key] = task.result()
        more = copy.size - (older.size if older is not None else 0)
        film.size += more
        if self._films.get(asset_id) is film:
            self._size += more
        while self._size > _BYTES:
            self.forget([next(iter(self._films))])

    def _film(self, asset_id: str) -> _Film:
        film = self._films.get(asset_id)
        if film is None:
            film = self._films[asset_id] = _Film()
            if len(self._films) > _FILMS:
                self.forget([next(iter(self._films))])
        return film
