"""Looks at the input and lists the tasks."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from schemas.events import UploadReceived
from services.runtime.jobs import sources
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent
from services.runtime.jobs.handler import Job
from services.runtime.jobs.plan import Plan, Stage
from services.runtime.media import binaries, encode, encryption, progress, structure
from services.runtime.media.probe import Source, VideoStream, probe, refused
from services.runtime.media.process import ProcessFailed, spawn
from services.runtime.storage.base import ObjectInfo, ObjectStore
from services.transcoder import decision, layout
from services.transcoder.film import Film
from services.transcoder.segments import grid

SERVICE = "transcoder"
# Beyond this start of the picture after the sound, the sound before it is a part of the film and not of how it was recorded.
_LATE_PICTURE_SECONDS = 0.5


async def plan(job: Job, ctx: TaskContext) -> Plan:
    """The plan of a transcode. Raises Permanent saying what is wrong with the input."""
    request = job.typed(UploadReceived)
    decision.refuse_recipe(request.recipe)
    store = ctx.storage.bucket(request.bucket)
    info = await store.head(request.key)
    name = request.filename or request.key.rpartition("/")[2]
    sources.refuse_empty(info, name)
    if request.etag and request.etag.strip('"') != info.etag:
        raise Permanent("object-changed", f"{request.key!r} is not the object that the request is about", "Send the request again.")
    # Both read the head of the file only; side by side they take one round trip to a distant store.
    found, watermark_etag = await asyncio.gather(structure.examine(sources.reader(store, info), info.size), _watermark_etag(request, ctx))
    sources.refuse_incomplete(found, name)
    source = await look(ctx, store, info, found.container)
    sources.refuse_long(source, ctx.settings.max_source_seconds)
    film = describe(request, job, info, source, watermark_etag, ctx.settings.max_source_pixels)
    encoding, composing = decision.stages(film)
    named = (("encode", encoding), ("compose", composing))
    return Plan(stages=[Stage(name=n, service=SERVICE, tasks=list[Any](w)) for n, w in named if w], data=film)


async def look(ctx: TaskContext, store: ObjectStore, info: ObjectInfo, container: str) -> Source:
    """What is in the source; counted where the container does not tell how long it is, or tells what cannot be."""
    programs = await binaries.find(ctx.settings)
    location = await store.source_for(info.key, seconds=sources.readable(ctx))
    within = sources.confinement(ctx, location)
    source = await probe(programs.ffprobe, location, within=within, container=container, check=ctx.raise_if_cancelled)
    video = source.video
    if video is None or (video.frames and video.fits(info.size)):
        return source
    # Recordings made in a browser, broken headers: the file must be read through once, or its chunks could not be told apart.
    ctx.progress(0.1, "measuring the duration")
    last = progress.Progress()
    try:
        argv = encode.count(programs.ffmpeg, location, video.index)
        async with spawn(argv, within=within, timeout=ctx.settings.task_timeout_seconds, check=ctx.raise_if_cancelled) as running:
            async for seen in progress.follow(running.stdout):
                last = seen
    except ProcessFailed as failed:
        raise refused(failed) from None
    seconds = max(last.seconds - max(video.start_seconds, 0.0), last.frames / float(video.rate) if video.constant else 0.0)
    frames = max(1, round(seconds * video.rate))
    measured = msgspec.structs.replace(video, duration_seconds=seconds, frames=frames, own_duration=True)
    # Sound without a length of its own was given the file's.
    audios = tuple(
        msgspec.structs.replace(a, duration_seconds=seconds) if a.duration_seconds == source.duration_seconds else a for a in source.audios
    )
    return msgspec.structs.replace(source, video=measured, audios=audios, duration_seconds=seconds)


def describe(request: UploadReceived, job: Job, info: ObjectInfo, source: Source, watermark_etag: str, pixels: int) -> Film:
    """The plan's data."""
    recipe = request.recipe
    if recipe.layout == "beside":
        # One MP4 is made, and it holds one track.
        source = msgspec.structs.replace(source, audios=tuple(a for a in source.audios if a.default))
    key = encryption.random_key() if recipe.encryption == "aes-128" else None
    film = Film(
        asset_id=request.asset_id or job.subject,
        title=request.title or request.filename or request.key.rpartition("/")[2],
        bucket=info.bucket,
        key=request.key,
        etag=info.etag,
        source=source,
        recipe=recipe,
        recipe_hash=layout.recipe_hash(recipe, info.etag, watermark_etag, key.iv_hex if key else ""),
        watermark_etag=watermark_etag,
        encryption=key,
    )
    video = source.video
    if video is None:
        assert source.audio is not None
        return msgspec.structs.replace(film, origin_seconds=source.audio.start_seconds)
    decision.refuse_size(video, pixels)
    rungs = decision.rungs(video, recipe)
    origin, frames = _origin(source, video)
    return msgspec.structs.replace(
        film,
        rungs=rungs,
        grid=grid(video.rate),
        frames=frames,
        frames_certain=video.exact and origin == video.start_seconds,
        origin_seconds=origin,
        copied=decision.may_copy(source, recipe, rungs[0]),
    )


def _origin(source: Source, video: VideoStream) -> tuple[float, int]:
    """When the film begins on its clock and how many frames it has from there.

    With its first picture, so that every frame is kept and none is added. Sound that began long before it counts as
    film: then the first picture is held.
    """
    early = source.audio.start_seconds if source.audio else video.start_seconds
    if video.start_seconds - early <= _LATE_PICTURE_SECONDS:
        return video.start_seconds, video.frames
    return early, video.frames + round((video.start_seconds - early) * video.rate) if video.frames else 0


async def _watermark_etag(request: UploadReceived, ctx: TaskContext) -> str:
    mark = request.recipe.watermark
    return (await ctx.storage.bucket(mark.bucket).head(mark.key)).etag if mark else ""
