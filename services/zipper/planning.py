"""Looks at the sources, decides, and lists the tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from schemas.events import ZipEntry, ZipRequested
from services.runtime.archives import checksums, manifest, selection
from services.runtime.archives.selection import Chosen, Unusable
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent
from services.runtime.jobs.handler import Job
from services.runtime.jobs.plan import Plan, Stage
from services.runtime.storage import copies
from services.runtime.storage.base import NotFound, ObjectInfo
from services.runtime.storage.copies import Copies
from services.runtime.storage.folders import RESERVED
from services.runtime.storage.keys import check_key
from services.runtime.telemetry.logging import get_logger
from services.runtime.together import together
from services.zipper import compose, methods
from services.zipper.archive import Archive, Source, Target
from services.zipper.compose import Layout

SERVICE: Final = "zipper"
LOOKS: Final = 32
"""Objects that are looked at at once."""
_OWN: Final = frozenset(RESERVED) - {"archives"}
log = get_logger(__name__)


async def plan(job: Job, ctx: TaskContext) -> Plan:
    """The plan of an archive. Raises Permanent saying what is wrong with the request, or with its objects."""
    request = job.typed(ZipRequested)
    planned_ms = int(time.time() * 1000)
    target = target_of(request, ctx)
    await _check_target(request, target, ctx)
    try:
        chosen = await selection.select(
            ctx.storage, entries=await _entries(request, ctx), prefix=request.prefix, bucket=request.bucket,
            exclude=(target.bucket, target.key), limits=selection.limits_of(ctx.settings), concurrency=LOOKS,
        )  # fmt: skip
    except Unusable as wrong:
        raise Permanent(wrong.code, wrong.message, wrong.hint) from None
    ctx.progress(0.3, f"looking at {len(chosen):,} objects")
    sources = compose.ordered(await _described(chosen, request.method, ctx))
    found = await _copies(sources, target, ctx)
    if found.possible:
        sources = await _summed(sources, ctx)
    archive = Archive(target=target, sources=sources, copied=found.possible, checksums=found.checksums, planned_ms=planned_ms)
    try:
        layout = layout_of(archive)
    except compose.TooManyParts as wrong:
        raise Permanent("too-many-parts", str(wrong), "Make several archives.") from None
    archive = msgspec.structs.replace(archive, slices=layout.slices, checksums=layout.checksums)
    stages: list[tuple[str, Sequence[Any]]] = [("move", layout.moves), ("heads", layout.heads), ("join", layout.joins)]
    return Plan(stages=[Stage(name=name, service=SERVICE, tasks=list(tasks)) for name, tasks in stages if tasks], data=archive)


def layout_of(archive: Archive) -> Layout:
    """The same for the same archive, wherever it is asked for. Raises TooManyParts."""
    known = all(source.crc32 is not None for source in archive.sources if compose.is_large(source))
    return compose.compose(archive.sources, copied=archive.copied, known=known, told=archive.checksums)


async def _entries(request: ZipRequested, ctx: TaskContext) -> tuple[ZipEntry, ...]:
    """Those of the request, or of its manifest. Raises Unusable."""
    if request.manifest is None:
        return request.entries
    if request.entries:
        raise Unusable("both-given", "objects were asked for one by one and by a manifest", "Give entries or a manifest.")
    return await manifest.load(ctx.storage, request.manifest)


def target_of(request: ZipRequested, ctx: TaskContext) -> Target:
    return Target(
        bucket=request.target.bucket or ctx.storage.default_bucket, key=request.target.key, replace=request.if_exists == "replace"
    )  # fmt: skip


def _as_info(source: Source) -> ObjectInfo:
    """The object as HEAD told of it."""
    return ObjectInfo(bucket=source.bucket, key=source.key, size=source.size, etag=source.etag, modified_ms=source.modified_ms)


async def _check_target(request: ZipRequested, target: Target, ctx: TaskContext) -> None:
    """Raises Refused for a key or a bucket that cannot be used, Permanent for a folder of our own, for the manifest, or when there is an
    object already."""
    store = ctx.storage.bucket(target.bucket)
    check_key(target.key)
    folder = manifest.OWN if target.key.startswith(manifest.OWN) else target.key.split("/")[0] + "/"
    if folder == manifest.OWN or folder.rstrip("/") in _OWN:
        raise Permanent(
            "target", f"Reelworks keeps objects of its own in {folder!r}", "Name a target elsewhere, such as archives/films.zip."
        )
    listed = request.manifest
    if listed is not None and (listed.bucket or ctx.storage.default_bucket, listed.key) == (target.bucket, target.key):
        raise Permanent("target", f"{target.key!r} is the manifest of the archive", "Name another target.")
    if target.replace:
        return
    try:
        await store.head(target.key)
    except NotFound:
        return
    raise target_exists(target)


def target_exists(target: Target) -> Permanent:
    return Permanent(
        "target-exists",
        f"there is an object {target.key!r} in bucket {target.bucket!r} already",
        "Name another target, or say if_exists: replace.",
    )


async def _described(chosen: Sequence[Chosen], method: str, ctx: TaskContext) -> list[Source]:
    """The sources with their methods. Only large ones whose name says nothing are looked into; small ones are read as a whole later."""
    turn = asyncio.Semaphore(LOOKS)

    async def one(each: Chosen) -> Source:
        found = methods.by_name(each.key) if method == "auto" else "deflate" if method == "deflate" else "store"
        if each.size > methods.DEFLATE_BYTES:
            found = "store"
        elif found == "look" and each.size >= compose.LARGE_BYTES:
            async with turn:
                found = "deflate" if await _pays(each, ctx) else "store"
        return Source(
            bucket=each.bucket, key=each.key, etag=each.etag, size=each.size, modified_ms=each.modified_ms, name=each.name, method=found
        )  # fmt: skip

    return await together(*(one(each) for each in chosen))


async def _pays(each: Chosen, ctx: TaskContext) -> bool:
    store = ctx.storage.bucket(each.bucket)
    samples: list[bytes] = []
    for start, end in methods.sample_places(each.size):
        samples += [chunk async for chunk in store.get(each.key, start=start, end=end, if_match=each.etag)]
    return methods.worthwhile(b"".join(samples))


async def _copies(sources: Sequence[Source], target: Target, ctx: TaskContext) -> Copies:
    """Whether the store copies ranges of all large sources into the target's bucket, and only of what they were when they were planned."""
    first = {source.bucket: source for source in reversed(sources) if compose.is_large(source)}
    checksums = bool(first)
    for source in first.values():
        found = await copies.probe(ctx.storage.bucket(source.bucket), _as_info(source), ctx.storage.bucket(target.bucket))
        if not (found.possible and found.pinned):
            log.info("ranges are not copied inside the store", source=source.bucket, target=target.bucket, reason=found.reason)
            return Copies(possible=False)
        checksums = checksums and found.checksums
    return Copies(possible=bool(first), pinned=True, checksums=checksums)


async def _summed(sources: tuple[Source, ...], ctx: TaskContext) -> tuple[Source, ...]:
    """With the CRCs of large sources that are known without reading them: from an earlier archive, or to the store."""
    turn = asyncio.Semaphore(LOOKS)
    home = ctx.storage.bucket("")

    async def one(source: Source) -> Source:
        if not compose.is_large(source):
            return source
        async with turn:
            own = await checksums.load(home, checksums.identity_of(source))
            if source.key in own:
                return msgspec.structs.replace(source, crc32=own[source.key], crc_source="own")
            crc = await ctx.storage.bucket(source.bucket).checksum(source.key, etag=source.etag)
        return source if crc is None else msgspec.structs.replace(source, crc32=crc, crc_source="head")

    return tuple(await together(*(one(source) for source in sources)))
