"""The tasks that move bytes through this worker: packs of small sources, large ones that are deflated, and heads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from services.runtime.ahead import ahead
from services.runtime.archives.checksums import combine, crc32
from services.runtime.archives.records import Entry, local_header
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Transient
from services.runtime.telemetry.logging import get_logger
from services.runtime.together import together
from services.zipper import methods
from services.zipper.archive import Archive, CrcSource, Head, HeadsWritten, MakePack, PackEntry, PackMade, Source, Stored, Sum, WriteHeads
from services.zipper.compose import LARGE_BYTES, MIB
from services.zipper.meter import Meter
from services.zipper.parts import PartWriter
from services.zipper.uploads import Uploads, leftover_key

log = get_logger(__name__)
FETCHES: Final = 64
"""Objects that are read at once: enough to hide a latency of 20 ms behind the work."""
FETCHED_BYTES: Final = 32 * MIB
"""That may be in memory, waiting for their turn."""
HEADS_AT_ONCE: Final = 4
_THREAD_BYTES: Final = 256 * 1024
"""More than this is deflated in a thread, so that the loop goes on."""


async def pack(work: MakePack, number: int, archive: Archive, ctx: TaskContext) -> PackMade:
    """Sources one after the other. What is too little for a part is kept beside the job's results."""
    meter = Meter()
    uploads = Uploads(archive, ctx)
    piece = uploads.place(work.slice)
    sources = archive.sources[work.first : work.last]

    async def send(part: int, data: bytes) -> Stored:
        meter.sent(len(data))
        return await uploads.send(piece, part, data)

    # A single large source that is deflated: its header is known when its end is.
    alone = len(sources) == 1 and sources[0].size >= LARGE_BYTES
    async with PartWriter(send, first=work.part, count=work.parts, part_bytes=work.part_bytes, hold=alone) as writer:
        if alone:
            entry, front = await _deflate_large(sources[0], writer, meter, ctx)
            entries = [entry]
        else:
            entries, front = await _fill(sources, writer, meter, ctx), b""
        parts, left = await writer.finish(front)
    if left:
        await ctx.storage.bucket("").put(leftover_key(ctx.job_id, number), left)
        meter.sent(len(left))
    return PackMade(entries=tuple(entries), parts=tuple(parts), left=len(left), cost=meter.cost())


async def _fill(sources: Sequence[Source], writer: PartWriter, meter: Meter, ctx: TaskContext) -> list[PackEntry]:
    entries: list[PackEntry] = []
    fetched = ahead(sources, lambda s: read(s, meter, ctx), cost=lambda s: s.size, most_items=FETCHES, most_cost=FETCHED_BYTES)
    async for source, data in fetched:
        assert data is not None
        entry, body = await _packed(source, data)
        await writer.write(local_header(entry_of(source, entry)))
        await writer.write(body)
        entries.append(entry)
        _log(source, entry)
        ctx.raise_if_cancelled()
        ctx.progress(len(entries) / len(sources), f"packing {len(entries):,} of {len(sources):,} objects")
    return entries


async def read(source: Source, meter: Meter, ctx: TaskContext, *, start: int = 0, end: int | None = None) -> bytes:
    """Bytes of a source. Raises PreconditionFailed when it is not what was planned any more."""
    end = source.size if end is None else end
    if start == end:
        return b""
    data = b"".join(
        [chunk async for chunk in ctx.storage.bucket(source.bucket).get(source.key, start=start, end=end, if_match=source.etag)]
    )
    meter.received(len(data))
    if len(data) != end - start:
        raise Transient("short-read", f"{source.key!r} gave {len(data)} bytes in place of {end - start}")
    return data


async def _packed(source: Source, data: bytes) -> tuple[PackEntry, bytes]:
    """The entry of a source whose bytes are at hand, and its bytes in the archive."""
    crc = crc32(data)
    wanted = source.method == "deflate" or (source.method == "look" and methods.worthwhile(data[: methods.SAMPLE_BYTES]))
    if wanted and data:
        body = methods.deflated(data) if len(data) <= _THREAD_BYTES else await asyncio.to_thread(methods.deflated, data)
        if len(body) < len(data):
            return PackEntry(crc, len(body), "deflate"), body
    return PackEntry(crc, len(data), "store"), data


async def _deflate_large(source: Source, writer: PartWriter, meter: Meter, ctx: TaskContext) -> tuple[PackEntry, bytes]:
    """Deflate a source of any size as it is read. Answers its entry and its header."""
    packer = methods.compressor()
    crc = size = 0

    def step(chunk: bytes) -> tuple[int, bytes]:
        return crc32(chunk, crc), packer.compress(chunk)

    async for chunk in ctx.storage.bucket(source.bucket).get(source.key, if_match=source.etag):
        meter.received(len(chunk))
        crc, body = await asyncio.to_thread(step, chunk)
        size += len(chunk)
        await writer.write(body)
        ctx.raise_if_cancelled()
        ctx.progress(size / source.size, f"deflating {source.name}")
    if size != source.size:
        raise Transient("short-read", f"{source.key!r} gave {size} bytes in place of {source.size}")
    await writer.write(packer.flush())
    entry = PackEntry(crc, writer.written, "deflate")
    _log(source, entry)
    return entry, local_header(entry_of(source, entry))


def _log(source: Source, made: PackEntry) -> None:
    ratio = round(made.compressed / source.size, 4) if source.size else 1.0
    log.debug("entry", name=source.name, size=source.size, compressed=made.compressed, method=made.method, ratio=ratio)


def entry_of(source: Source, made: PackEntry) -> Entry:
    """As the archive has it."""
    return Entry(
        name=source.name, size=source.size, compressed=made.compressed, crc32=made.crc32, method=made.method, modified_ms=source.modified_ms
    )


def stored_entry(source: Source, crc: int) -> Entry:
    """Of a source that is stored as it is."""
    return entry_of(source, PackEntry(crc, source.size, "store"))


async def heads(work: WriteHeads, archive: Archive, sums: Sequence[Sum], ctx: TaskContext) -> HeadsWritten:
    """The parts that begin large sources, which need the CRCs of the whole of them."""
    meter = Meter()
    uploads = Uploads(archive, ctx)
    turn = asyncio.Semaphore(HEADS_AT_ONCE)
    by_source: dict[int, list[Sum]] = {}
    for each in sums:
        by_source.setdefault(each.source, []).append(each)

    async def one(head: Head) -> tuple[Stored, tuple[int, int, CrcSource]]:
        async with turn:
            ctx.raise_if_cancelled()
            source = archive.sources[head.source]
            first = await read(source, meter, ctx, end=head.end)
            crc, how = _whole(source, head, first, by_source.get(head.source, []))
            entry = stored_entry(source, crc)
            _log(source, PackEntry(crc, entry.compressed, entry.method))
            data = local_header(entry) + first
            meter.sent(len(data))
            return await uploads.send(uploads.place(head.slice), head.part, data), (head.source, crc, how)

    made = await together(*(one(head) for head in work.heads))
    return HeadsWritten(parts=tuple(part for part, _ in made), crcs=tuple(crc for _, crc in made), cost=meter.cost())


def _whole(source: Source, head: Head, first: bytes, sums: Sequence[Sum]) -> tuple[int, CrcSource]:
    """CRC-32 of a large source: as it is known, or of its head and its ranges together."""
    if source.crc32 is not None:
        return source.crc32, source.crc_source
    crc, at, how = crc32(first), head.end, "moved"
    for each in sorted(sums, key=lambda s: s.start):
        if each.start != at:
            raise Transient("incomplete", f"the checksum of {source.key!r} lacks the bytes [{at}, {each.start})")
        crc, at = combine(crc, each.crc32, each.end - each.start), each.end
        how = each.how if how in ("moved", each.how) else "read"
    if at != source.size:
        raise Transient("incomplete", f"the checksum of {source.key!r} lacks the bytes from {at} on")
    return crc, how
