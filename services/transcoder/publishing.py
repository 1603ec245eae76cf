"""Stores the segments of one rendition from one task, and tells who plays along."""

from __future__ import annotations

import asyncio

from schemas.events import Segment, SegmentsReady
from services.runtime.jobs.context import TaskContext
from services.runtime.media.packaging import Packaged, SegmentWriter, StoredSegment
from services.runtime.media.presentation import Rendition, init_key
from services.transcoder import layout, renditions
from services.transcoder.film import Film


class Publisher:
    """Segments of one rendition, from one task."""

    def __init__(
        self,
        film: Film,
        ctx: TaskContext,
        rendition: Rendition,
        *,
        first_segment: int = 0,
        first_tick: int = 0,
        total: int = 0,
        together: int = 1,
    ) -> None:
        """`total`: segments of the whole rendition, 0 when unknown. `together`: how many are announced with one event."""
        self._film, self._ctx, self._rendition = film, ctx, rendition
        self._total, self._together = total, together
        self._folder = layout.folder(film, ctx.job_id)
        self._store = ctx.storage.bucket("")
        self._ready: list[Segment] = []
        # Every chunk has the same init segment (`finish` checks it), so the one of the first writes it.
        self._writer = SegmentWriter(
            self._store, self._folder, rendition.name, first_segment=first_segment, first_tick=first_tick,
            encrypted=film.encryption, on_segment=None if film.beside else self._stored, check=ctx.raise_if_cancelled,
        )  # fmt: skip

    async def take(self, stream: asyncio.StreamReader) -> Packaged:
        """Everything that comes, up to the end of the stream. Raises what storage raises."""
        made = await self._writer.take(stream)
        await self._tell()
        return made

    async def _stored(self, segment: StoredSegment) -> None:
        self._ready.append(Segment(number=segment.number, key=segment.key, duration_seconds=segment.seconds, size=segment.entry.size))
        if len(self._ready) >= self._together:
            await self._tell()

    async def _tell(self) -> None:
        init, rendition = self._writer.made.init, self._rendition
        if not self._ready or init is None:
            return
        await self._ctx.emit(
            SegmentsReady(
                asset_id=self._film.asset_id,
                job_id=self._ctx.job_id,
                bucket=self._store.bucket,
                recipe=self._film.recipe_hash,
                rendition=rendition.name,
                init_key=init_key(self._folder, rendition.name),
                segments=tuple(self._ready),
                renditions=renditions.names(self._film),
                total=self._total,
                codecs=init.codecs,
                width=rendition.width,
                height=rendition.height,
                frame_rate=rendition.frame_rate,
                language=rendition.language,
                label=rendition.label,
                default=rendition.default,
                channels=rendition.channels,
                ceiling=rendition.ceiling,
                iv=self._film.encryption.iv_hex if self._film.encryption else "",
            ),
            self._film.asset_id,
        )
        self._ready.clear()
