"""The end of an archive: what was too little for parts, the central directory, and the proof that what appeared is what was meant."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from schemas.events import ObjectRef, Output
from services.runtime.archives import checksums
from services.runtime.archives.records import Entry, central_directory, header_bytes
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Cancelled, TaskError, Transient
from services.runtime.jobs.handler import Finished, Results
from services.runtime.storage.base import NotFound, ObjectInfo, PreconditionFailed, StorageError
from services.runtime.telemetry.logging import get_logger
from services.runtime.together import to_the_end
from services.zipper.archive import (
    Archive,
    Cost,
    CrcSource,
    HeadsWritten,
    MakePack,
    Moved,
    PackMade,
    RangesMoved,
    SliceJoined,
    Source,
    Stored,
    Target,
)
from services.zipper.compose import PART_BYTES, TAIL_PARTS, Layout, is_large
from services.zipper.joining import in_order
from services.zipper.meter import Meter
from services.zipper.packing import entry_of, stored_entry
from services.zipper.planning import target_exists
from services.zipper.uploads import ARCHIVE, CONTENT_TYPE, Uploads, appeared_key, leftover_key

COMPARED_BYTES: Final = 8 * 1024**2
"""Of the end of the archive, read back."""
_NOTE_LIMIT = 64 * 1024
_LATER_MS = 2000
"""Between the answer to a PUT and the time that the store gives the object, in whole seconds."""
log = get_logger(__name__)


class Appeared(msgspec.Struct, frozen=True, kw_only=True):
    """The note that the archive is there."""

    archive: ObjectInfo
    replaced: bool
    """There was an object of its name."""


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """The archive as all tasks together have made it."""

    placed: tuple[tuple[Entry, int], ...]
    """Entries with the offsets of their headers, in order."""
    at: int
    """Where the central directory begins."""
    left: tuple[int, ...]
    """Tasks whose leftovers stand at the end of the entries, in order."""
    body: int
    """Bytes that are parts."""


def whole(archive: Archive, layout: Layout, packs: Sequence[PackMade], crcs: dict[int, int]) -> Whole:
    """Where everything stands. Pure."""
    placed: list[tuple[Entry, int]] = []
    at = 0

    def place(entries: Iterator[Entry]) -> None:
        nonlocal at
        for entry in entries:
            placed.append((entry, at))
            at += header_bytes(entry.name, entry.size, entry.compressed) + entry.compressed

    place(stored_entry(source, crcs[n]) for n, source in enumerate(archive.sources) if is_large(source))
    makes = [(n, work) for n, work in enumerate(layout.moves) if isinstance(work, MakePack)]
    made = list(zip(makes, packs, strict=True))
    for (_, work), pack in made:
        if not pack.left:
            place(_entries(archive.sources[work.first : work.last], pack))
    body = at
    for (_, work), pack in made:
        if pack.left:
            place(_entries(archive.sources[work.first : work.last], pack))
    return Whole(placed=tuple(placed), at=at, left=tuple(n for (n, _), pack in made if pack.left), body=body)


def _entries(sources: Sequence[Source], pack: PackMade) -> Iterator[Entry]:
    for source, made in zip(sources, pack.entries, strict=True):
        yield entry_of(source, made)


async def finish(archive: Archive, layout: Layout, results: Results[Any], ctx: TaskContext) -> Finished:
    """Write the end, complete the archive, compare it, remember its checksums."""
    meter = Meter()
    moved, packs = _moves(results)
    heads, joined = results.of("heads", HeadsWritten), results.of("join", SliceJoined)
    crcs = {source: crc for made in heads for source, crc, _ in made.crcs}
    made = whole(archive, layout, packs, crcs)
    parts = [part for each in (*moved, *packs, *heads, *joined) for part in each.parts if part.slice == ARCHIVE]
    if sum(part.size for part in parts) != made.body:
        raise Transient(
            "incomplete", f"the parts of {archive.target.key!r} have {sum(p.size for p in parts)} bytes in place of {made.body}"
        )
    end = central_directory(made.placed, made.at)
    info = await _publish(archive, layout, made, parts, end, meter, ctx)
    await _remember(archive, heads, ctx)
    sources: Counter[CrcSource] = Counter(how for each in heads for _, _, how in each.crcs)
    sources["moved"] += len(archive.sources) - sum(sources.values())
    costs = [each.cost for each in (*moved, *packs, *heads, *joined)]
    total = _summed([*costs, meter.cost()])
    seconds = max(0.0, time.time() - archive.planned_ms / 1000)
    unpacked = sum(source.size for source in archive.sources)
    log.info(
        "archive is complete", bucket=info.bucket, key=info.key, entries=len(archive.sources), bytes_unpacked=unpacked, size=info.size,
        ratio=round(info.size / unpacked, 4) if unpacked else 1.0, bytes_in=total.bytes_in, bytes_out=total.bytes_out,
        copied_bytes=total.copied, seconds=round(seconds, 3), cpu_seconds=total.cpu_seconds, **_memory(),
    )  # fmt: skip
    return Finished(
        outputs=(
            Output(role="archive", bucket=info.bucket, key=info.key, size=info.size, content_type=CONTENT_TYPE, etag=info.etag),
        ),
        data={
            "target": msgspec.to_builtins(ObjectRef(key=info.key, bucket=info.bucket)),
            "size": info.size,
            "entries": len(archive.sources),
            "crc_sources": {how: count for how, count in sorted(sources.items()) if count},
            "bytes_in": total.bytes_in,
            "bytes_out": total.bytes_out,
            "copied_bytes": total.copied,
            "seconds": round(seconds, 3),
            "cpu_seconds": total.cpu_seconds,
        },
    )  # fmt: skip


def _moves(results: Results[Any]) -> tuple[list[RangesMoved], list[PackMade]]:
    made: list[Moved] = msgspec.convert(results.of("move"), list[Moved])
    return [m for m in made if isinstance(m, RangesMoved)], [m for m in made if isinstance(m, PackMade)]


async def _publish(
    archive: Archive, layout: Layout, made: Whole, parts: list[Stored], end: bytes, meter: Meter, ctx: TaskContext
) -> ObjectInfo:
    """Make the archive appear, or find that an earlier attempt has."""
    target, uploads = archive.target, Uploads(archive, ctx)
    store = uploads.store(ARCHIVE)
    try:
        if parts or made.at > PART_BYTES:
            parts = [*parts, *await _tail(layout, made, end, uploads, meter, ctx)]
            info = await _appear(lambda once: _complete(archive, parts, uploads, once=once), target, ctx)
        else:
            body = b"".join([*[await _left(n, meter, ctx) for n in made.left], end])
            meter.sent(len(body))
            info = await _appear(lambda once: store.put(target.key, body, content_type=CONTENT_TYPE, if_none_match=once), target, ctx)
    except (PreconditionFailed, NotFound) as wrong:
        return await _earlier(archive, made, end, wrong, ctx)
    if info.size != made.at + len(end):
        raise Transient("output", f"{target.key!r} has {info.size} bytes in place of {made.at + len(end)}")
    try:
        await _compare(info, end, ctx)
    except (PreconditionFailed, NotFound) as gone:
        # It did appear, with this size. Whoever has replaced it since meant to, as another job with the same target may.
        log.warning("archive was replaced before it was read back", bucket=info.bucket, key=info.key, etag=info.etag, error=str(gone))
    return info


async def _replaces(target: Target, ctx: TaskContext) -> bool:
    """Whether there is something to replace. Where there is not, the archive may appear only if that is still so, and can be taken back."""
    if not target.replace:
        return False
    try:
        await ctx.storage.bucket(target.bucket).head(target.key)
    except NotFound:
        return False
    return True


async def _complete(archive: Archive, parts: list[Stored], uploads: Uploads, *, once: bool) -> ObjectInfo:
    """Complete the upload. A worker that was thought dead may have written a part again: the same bytes, where no entry is deflated, yet
    under another ETag where ETags are no sums of the content (encrypted buckets)."""
    store, upload = uploads.store(ARCHIVE), await uploads.of(ARCHIVE)
    try:
        return await store.complete_upload(upload, in_order(parts), if_none_match=once)
    except PreconditionFailed:
        there = {part.number: part for part in await store.list_parts(upload)}
        named = in_order(parts)
        same = [part.number in there and there[part.number].size == part.size for part in named]
        if not all(same) or any(source.method != "store" for source in archive.sources):
            raise
        return await store.complete_upload(upload, [there[part.number] for part in named], if_none_match=once)


async def _appear(publish: Callable[[bool], Awaitable[ObjectInfo]], target: Target, ctx: TaskContext) -> ObjectInfo:
    """Make the archive appear and note that it has: another job may replace it before this attempt is counted, and a cancel may come in
    between. So a cancel waits for the note. Of a job that is over and tidied up nothing appears for long."""

    replaces = await _replaces(target, ctx)

    async def work() -> ObjectInfo:
        info, home = await publish(not replaces), ctx.storage.bucket("")
        note = Appeared(archive=info, replaced=replaces)
        await home.put(appeared_key(ctx.job_id), msgspec.json.encode(note), content_type="application/json")
        if await ctx.over():
            await withdraw(target, ctx)
            await home.delete(appeared_key(ctx.job_id))
            raise Cancelled("the job was tidied up before its archive appeared")
        return info

    return await to_the_end(work())


async def _noted(ctx: TaskContext) -> Appeared | None:
    try:
        return msgspec.json.decode(await ctx.storage.bucket("").read(appeared_key(ctx.job_id), limit=_NOTE_LIMIT), type=Appeared)
    except NotFound:
        return None


async def withdraw(target: Target, ctx: TaskContext) -> None:
    """Remove the archive of a job that has come to nothing: it was cancelled in the moment in which the archive appeared.

    Not one that has replaced another: there is nothing to go back to. An object of the same name that is not what appeared stays.
    """
    appeared = await _noted(ctx)
    if appeared is None or appeared.replaced:
        return
    noted = appeared.archive
    store = ctx.storage.bucket(target.bucket)
    with contextlib.suppress(NotFound):
        there = await store.head(target.key)
        same = (there.etag, there.size) == (noted.etag, noted.size)
        if same and abs(there.modified_ms - noted.modified_ms) < _LATER_MS:  # the same bytes may be another job's
            await store.delete(target.key)
            log.info("archive of a job that has come to nothing was removed", bucket=target.bucket, key=target.key)


async def _tail(layout: Layout, made: Whole, end: bytes, uploads: Uploads, meter: Meter, ctx: TaskContext) -> list[Stored]:
    """The parts behind those that the tasks have made: leftovers together, then the central directory."""
    number, buffer, sent = layout.tail_part, bytearray(), list[Stored]()
    part_bytes = max(PART_BYTES, 2 * (made.at - made.body) // TAIL_PARTS)
    for n in made.left:
        buffer += await _left(n, meter, ctx)
        if len(buffer) >= part_bytes:
            sent.append(await uploads.send(ARCHIVE, number + len(sent), bytes(buffer)))
            meter.sent(len(buffer))
            buffer.clear()
    buffer += end
    sent.append(await uploads.send(ARCHIVE, number + len(sent), bytes(buffer)))
    meter.sent(len(buffer))
    return sent


async def _left(number: int, meter: Meter, ctx: TaskContext) -> bytes:
    data = await ctx.storage.bucket("").read(leftover_key(ctx.job_id, number))
    meter.received(len(data))
    return data


async def _earlier(archive: Archive, made: Whole, end: bytes, wrong: StorageError, ctx: TaskContext) -> ObjectInfo:
    """The upload is over, or there is an object of the target's name: is it this archive, of an attempt that could not tell?"""
    target = archive.target
    refused: TaskError = target_exists(target)
    if target.replace:
        refused = Transient("target-appeared", f"an object {target.key!r} has appeared while the archive that may replace it was completed")
    if isinstance(wrong, NotFound):
        noted = await _noted(ctx)
        if noted is not None and noted.archive.size == made.at + len(end):
            return noted.archive
        refused = Transient("upload-ended", f"the upload of {target.key!r} was ended by somebody else: {wrong}")
    try:
        info = await ctx.storage.bucket(target.bucket).head(target.key)
    except NotFound:
        raise (refused if isinstance(wrong, NotFound) else Transient("storage", str(wrong))) from wrong
    if info.size != made.at + len(end):
        raise refused from wrong
    try:
        await _compare(info, end, ctx)
    except Transient:
        raise refused from wrong
    except (PreconditionFailed, NotFound) as changed:
        raise Transient("storage", f"{target.key!r} was replaced while it was looked at: {changed}") from wrong
    return info


async def _compare(info: ObjectInfo, end: bytes, ctx: TaskContext) -> None:
    """The central directory has name, size, offset and CRC of every entry: an archive that ends with it is this one."""
    expected = end[-COMPARED_BYTES:]
    store = ctx.storage.bucket(info.bucket)
    there = b"".join([chunk async for chunk in store.get(info.key, start=info.size - len(expected), end=info.size, if_match=info.etag)])
    if there != expected:
        raise Transient("output", f"{info.key!r} does not end as the archive does")


async def _remember(archive: Archive, heads: Sequence[HeadsWritten], ctx: TaskContext) -> None:
    """Checksums that cost a pass over an object are kept for the next archive."""
    home = ctx.storage.bucket("")
    for made in heads:
        for n, crc, how in made.crcs:
            if how not in ("own", "head"):
                source = archive.sources[n]
                await checksums.save(home, checksums.identity_of(source), {source.key: crc})


def _summed(costs: Sequence[Cost]) -> Cost:
    return Cost(
        bytes_in=sum(c.bytes_in for c in costs), bytes_out=sum(c.bytes_out for c in costs), copied=sum(c.copied for c in costs),
        cpu_seconds=round(sum(c.cpu_seconds for c in costs), 3),
    )  # fmt: skip


def _memory() -> dict[str, int]:
    try:
        import resource
    except ImportError:
        return {}
    return {"peak_memory_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
