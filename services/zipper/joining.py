"""Archives of more parts than an upload may have: slices of them are objects of their own, copied into the archive."""

from __future__ import annotations

import asyncio
from typing import Final

from services.runtime.jobs.context import TaskContext
from services.runtime.storage.base import NotFound, Part
from services.runtime.together import together
from services.zipper.archive import Archive, JoinSlice, SliceJoined, Stored
from services.zipper.compose import JOIN_BYTES, even
from services.zipper.meter import Meter
from services.zipper.uploads import ARCHIVE, Uploads, slice_key, stored

COPIES: Final = 8


async def join(work: JoinSlice, archive: Archive, parts: list[Stored], ctx: TaskContext) -> SliceJoined:
    """Complete a slice of these parts, unless an earlier attempt has, and copy it."""
    meter = Meter()
    if not parts:  # all that it was to have was put aside
        return SliceJoined(parts=(), cost=meter.cost())
    uploads = Uploads(archive, ctx)
    home, size = uploads.store(work.slice), sum(part.size for part in parts)
    key = slice_key(ctx.job_id, work.slice)
    try:
        made = await home.complete_upload(await uploads.of(work.slice), in_order(parts))
    except NotFound:
        made = await home.head(key)
    # What deflate left may be far less than was planned for, and every range but one must be long enough for a part.
    cuts = even(size, -(-size // JOIN_BYTES))
    upload = await uploads.of(ARCHIVE)
    target, turn = uploads.store(ARCHIVE), asyncio.Semaphore(COPIES)

    async def copy(number: int, start: int, end: int) -> Stored:
        async with turn:
            ctx.raise_if_cancelled()
            part = await target.copy_part(upload, number, home, key, start=start, end=end, if_match=made.etag)
            meter.copied(part.size)
            return stored(ARCHIVE, part)

    joined = await together(*(copy(work.part + n, start, end) for n, (start, end) in enumerate(cuts)))
    return SliceJoined(parts=tuple(joined), cost=meter.cost())


def in_order(parts: list[Stored]) -> list[Part]:
    """As an upload is completed with."""
    return sorted((Part(number=p.number, etag=p.etag, size=p.size, crc32=p.crc32) for p in parts), key=lambda part: part.number)
