"""The tasks about large sources: their ranges become parts, by copies inside the store where it can do that, else through here."""

from __future__ import annotations

import asyncio
from typing import Final

from services.runtime.archives.checksums import crc32
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Transient
from services.runtime.storage.base import MultipartUpload, Part
from services.runtime.together import together
from services.zipper.archive import Archive, MoveRanges, Range, RangesMoved, Stored, Sum
from services.zipper.meter import Meter
from services.zipper.packing import read
from services.zipper.uploads import Uploads, stored

COPIES: Final = 8
"""Ranges that are copied at once."""
MOVES: Final = 2
"""Ranges that are in memory at once."""


async def ranges(work: MoveRanges, archive: Archive, ctx: TaskContext) -> RangesMoved:
    """Make parts of ranges, but for those that an earlier attempt has made."""
    meter = Meter()
    uploads = Uploads(archive, ctx)
    there = await _there(work, uploads)
    turn = asyncio.Semaphore(COPIES if archive.copied else MOVES)
    total = sum(each.end - each.start for each in work.ranges)
    done = 0

    async def one(each: Range) -> tuple[Stored, Sum | None]:
        nonlocal done
        async with turn:
            ctx.raise_if_cancelled()
            made = (
                await _copy(each, archive, uploads, there, meter, ctx)
                if archive.copied
                else await _move(each, archive, uploads, meter, ctx)
            )
        done += each.end - each.start
        ctx.progress(done / total, "copying inside the store" if archive.copied else "copying")
        return made

    made = await together(*(one(each) for each in work.ranges))
    return RangesMoved(parts=tuple(part for part, _ in made), sums=tuple(s for _, s in made if s is not None), cost=meter.cost())


async def _there(work: MoveRanges, uploads: Uploads) -> dict[tuple[int, int], Part]:
    """Parts that are stored already, by slice and number."""
    found: dict[tuple[int, int], Part] = {}
    for piece in {uploads.place(each.slice) for each in work.ranges}:
        upload = await uploads.known(piece)
        if upload is not None:
            found |= {(piece, part.number): part for part in await uploads.store(piece).list_parts(upload)}
    return found


async def _copy(
    each: Range, archive: Archive, uploads: Uploads, there: dict[tuple[int, int], Part], meter: Meter, ctx: TaskContext
) -> tuple[Stored, Sum | None]:
    source, piece = archive.sources[each.source], uploads.place(each.slice)
    part = there.get((piece, each.part))
    if part is None or part.size != each.end - each.start:
        upload: MultipartUpload = await uploads.of(piece)
        part = await uploads.store(piece).copy_part(
            upload, each.part, ctx.storage.bucket(source.bucket), source.key, start=each.start, end=each.end, if_match=source.etag
        )
        meter.copied(part.size)
    made = stored(piece, part)
    if source.crc32 is not None:
        return made, None
    if part.crc32 is not None:
        return made, Sum(source=each.source, start=each.start, end=each.end, crc32=part.crc32, how="copy")
    return made, Sum(source=each.source, start=each.start, end=each.end, crc32=await _read_through(each, archive, meter, ctx), how="read")


async def _read_through(each: Range, archive: Archive, meter: Meter, ctx: TaskContext) -> int:
    """CRC-32 of a range, keeping nothing of it."""
    source = archive.sources[each.source]
    crc = size = 0
    async for chunk in ctx.storage.bucket(source.bucket).get(source.key, start=each.start, end=each.end, if_match=source.etag):
        crc = crc32(chunk, crc)
        size += len(chunk)
        meter.received(len(chunk))
        ctx.raise_if_cancelled()
    if size != each.end - each.start:
        raise Transient("short-read", f"{source.key!r} gave {size} bytes in place of {each.end - each.start}")
    return crc


async def _move(each: Range, archive: Archive, uploads: Uploads, meter: Meter, ctx: TaskContext) -> tuple[Stored, Sum | None]:
    source = archive.sources[each.source]
    data = await read(source, meter, ctx, start=each.start, end=each.end)
    meter.sent(len(data))
    made = await uploads.send(uploads.place(each.slice), each.part, data)
    return made, Sum(source=each.source, start=each.start, end=each.end, crc32=crc32(data), how="moved")
