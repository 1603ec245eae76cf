"""Writes segments where they belong the moment they are whole, and tells who plays along."""

from __future__ import annotations

import asyncio
import hashlib

from schemas.events import Segment, SegmentsReady
from services.runtime.jobs.context import TaskContext
from services.runtime.media import cmaf
from services.transcoder import layout
from services.transcoder.film import Film

SEGMENT_TYPE = "video/iso.segment"
"""RFC 8216bis leaves it open; DASH-IF and CDNs use this for media segments."""


class Published:
    """What one rendition has got from one task."""

    def __init__(self) -> None:
        self.frames = 0
        self.ticks = 0
        self.segments = 0
        self.size = 0
        self.init_hash = ""
        self.codecs = ""
        self.timescale = 0


class Publisher:
    """Segments of one rendition, from one task."""

    def __init__(
        self,
        film: Film,
        ctx: TaskContext,
        rendition: str,
        *,
        first_segment: int = 0,
        first_tick: int = 0,
        width: int = 0,
        height: int = 0,
        total: int = 0,
        together: int = 1,
    ) -> None:
        self._film, self._ctx, self._rendition = film, ctx, rendition
        self._folder = layout.folder(film, ctx.job_id)
        self._store = ctx.storage.bucket("")
        self._first_segment, self._first_tick = first_segment, first_tick
        self._size, self._total, self._together = (width, height), total, together
        self._ready: list[Segment] = []
        self.made = Published()

    async def take(self, stream: asyncio.StreamReader) -> Published:
        """Everything that comes, up to the end of the stream. Raises what storage raises."""
        async for part in cmaf.fragments(stream):
            self._ctx.raise_if_cancelled()
            if self.made.init_hash:
                await self._segment(part)
            else:
                await self._init(part)
        await self._tell()
        return self.made

    async def _init(self, data: bytes) -> None:
        told = cmaf.read_init(data)
        self.made.init_hash = hashlib.sha256(data).hexdigest()[:16]
        self.made.codecs, self.made.timescale = told.codecs, told.timescale
        if self._first_segment == 0:
            # The same bytes in every chunk (`finish` checks it), so one of them writes it.
            await self._store.put(layout.init(self._folder, self._rendition), data, content_type="video/mp4")

    async def _segment(self, fragment: bytes) -> None:
        samples = cmaf.read_samples(fragment)
        number = self._first_segment + self.made.segments
        placed = cmaf.place(fragment, number=number + 1, decode_time=self._first_tick + self.made.ticks)
        key = layout.segment(self._folder, self._rendition, number)
        await self._store.put(key, placed, content_type=SEGMENT_TYPE)
        self.made.frames += samples.count
        self.made.ticks += samples.duration
        self.made.segments += 1
        self.made.size += len(placed)
        self._ready.append(Segment(number=number, key=key, duration_seconds=samples.duration / self.made.timescale, size=len(placed)))
        if len(self._ready) >= self._together:
            await self._tell()

    async def _tell(self) -> None:
        if not self._ready or self._film.beside:
            self._ready.clear()
            return
        film, grid = self._film, self._film.grid
        names = [layout.video_rendition(r.side) for r in film.rungs] + ([layout.audio_rendition(film)] if film.source.audio else [])
        await self._ctx.emit(
            SegmentsReady(
                asset_id=film.asset_id,
                job_id=self._ctx.job_id,
                bucket=self._store.bucket,
                recipe=film.recipe_hash,
                rendition=self._rendition,
                init_key=layout.init(self._folder, self._rendition),
                segments=tuple(self._ready),
                renditions=tuple(names),
                total=self._total,
                codecs=self.made.codecs,
                width=self._size[0],
                height=self._size[1],
                frame_rate=float(grid.rate) if grid and self._size[0] else 0.0,
            ),
            film.asset_id,
        )
        self._ready.clear()
