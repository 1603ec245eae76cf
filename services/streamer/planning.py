"""Finds the film of a request, and lists what is to be done with it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from schemas import envelope
from schemas.events import FollowUp, Outcome, Recipe, StreamRequested
from services.runtime.jobs import sources
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent
from services.runtime.jobs.handler import Job
from services.runtime.jobs.plan import Plan, Stage
from services.runtime.media import binaries, encryption, keyframes, structure
from services.runtime.media.presentation import Presentation, Rendition, audio_names, folder_of, video_name
from services.runtime.media.probe import Source, probe
from services.runtime.storage.base import NotFound, ObjectInfo, ObjectStore
from services.runtime.storage.folders import folders
from services.runtime.telemetry.logging import get_logger
from services.streamer import eligibility, flat, manifests
from services.streamer.film import Film, MakeStoryboard, Original, PackageOriginal, Target, Work, WriteFlat

SERVICE = "streamer"
VERSION = "1"
"""Of all that decides bytes of segments that are packaged as they are: part of their folder's name."""
log = get_logger(__name__)


async def plan(job: Job, ctx: TaskContext) -> Plan:
    """The plan of a stream job. Raises Permanent saying what is wrong with the request or its film."""
    request = job.typed(StreamRequested)
    target = await _target(request, job, ctx)
    cause = request.cause if request.cause is not None and request.cause.kind == "transcode" else None
    if cause is not None:
        return _of_presentation(await _transcoded(cause, ctx), request, target)
    if not request.key:
        if request.asset_id is None:
            raise Permanent("nothing-named", "neither an asset nor an object is named", "Name one of them: `asset_id` or `key`.")
        found = await _newest(request, request.asset_id, ctx)
        if found is not None:
            return _of_presentation(found, request, target)
        key = await manifests.source_of(ctx.storage.bucket(""), request.asset_id)
        if not key:
            raise Permanent(
                "no-segments", f"nothing was transcoded of the asset {request.asset_id!r}, and its source is not there", "Upload it again."
            )
        request = msgspec.structs.replace(request, key=key, bucket="")
    return await _of_object(request, job, target, ctx)


async def _target(request: StreamRequested, job: Job, ctx: TaskContext) -> Target | None:
    """Where the flat layout goes, checked: nothing is written that an old server would show wrongly."""
    if request.layout == "asset":
        if request.target:
            raise Permanent("target", "a target was named, and the layout `asset` has none", "Ask for the layout `flat-ts`.")
        return None
    folder, name = flat.parse_target(request.target)
    if request.recipe.encryption != "none":
        raise Permanent("encryption", "the flat layout has no encryption: old servers have no keys to hand out")
    source = ctx.storage.bucket(request.bucket)
    store = ctx.storage.bucket(request.target_bucket or request.bucket)
    if request.key.startswith(request.target) and source.bucket == store.bucket:
        raise Permanent("target", f"the film {request.key!r} lies in the target, which is written anew", flat.ACCEPTED)
    async for other in folders(store, ""):
        beside = f"{other}/{name}.hls/"
        if other != folder and not await manifests.is_empty(store, beside):
            raise Permanent(
                "target", f"there is {beside!r} already; a server would mix it up with {request.target!r}", "Take another name."
            )
    return Target(bucket=store.bucket, folder=request.target, stem=flat.stem_of(job.job_id))


async def _transcoded(cause: Outcome, ctx: TaskContext) -> Presentation:
    """What the transcode left that this request follows upon."""
    if cause.state != "succeeded":
        error = cause.error
        if error is None:
            raise Permanent("transcode", f"the transcode {cause.job_id} was {cause.state}")
        raise Permanent(error.code, error.message, error.hint)
    folder = folder_of(str(cause.data.get("asset_id", cause.subject)), str(cause.data.get("recipe", "")))
    try:
        return await manifests.read(ctx.storage.bucket(""), folder)
    except NotFound:
        raise Permanent("no-segments", f"the transcode {cause.job_id} left no segments in {folder}") from None


async def _newest(request: StreamRequested, asset_id: str, ctx: TaskContext) -> Presentation | None:
    found = await manifests.of_asset(ctx.storage.bucket(""), asset_id)
    if request.recipe.encryption != "none":
        found = [p for p in found if p.encryption is not None]
    elif request.layout == "flat-ts":
        found = [p for p in found if p.encryption is None] or found
    return found[0] if found else None


def _of_presentation(presentation: Presentation, request: StreamRequested, target: Target | None) -> Plan:
    """For a film that lies there in segments."""
    film = Film(
        asset_id=presentation.asset_id,
        recipe=presentation.recipe,
        folder=presentation.folder,
        layout=request.layout,
        target=target,
        several=bool(request.recipe.heights),
    )
    if target is None:
        work: list[Work] = [MakeStoryboard()] if presentation.videos else []
        return _plan(film, storyboard=work)
    if presentation.encryption is not None:
        raise Permanent(
            "encryption",
            f"the segments of the asset {presentation.asset_id!r} are encrypted, and the flat layout would lay them open",
            "Stream its source, by `key`, into the flat layout.",
        )
    chosen = flat.choose(presentation, request.recipe.heights)
    for rendition in chosen:
        flat.refuse_long(rendition)
    film = msgspec.structs.replace(film, several=film.several and chosen[0].kind == "video")
    return _plan(film, flat=_windows([(r.name, r.seconds) for r in chosen]))


async def _of_object(request: StreamRequested, job: Job, target: Target | None, ctx: TaskContext) -> Plan:
    """For any object: packaged as it is, or transcoded first."""
    store = ctx.storage.bucket(request.bucket)
    info = await store.head(request.key)
    # Of a flat layout the job is about its target.
    asset_id = request.asset_id or (envelope.derived_id(info.bucket, request.key) if target else job.subject)
    original, why = await _examine(request, store, info, ctx)
    if original is None:
        log.info("the transcoder must come first", job_id=ctx.job_id, key=request.key, why=why)
        return Plan(stages=[], needs=_transcode(request, info, asset_id))
    if request.recipe.encryption == "aes-128":
        original = msgspec.structs.replace(original, encryption=encryption.random_key())
    recipe = _copy_hash(original)
    film = Film(
        asset_id=asset_id,
        recipe=recipe,
        # Of a flat layout only the result is wanted: these segments go with the job.
        folder=f"jobs/{ctx.job_id}/segments" if target else folder_of(asset_id, recipe),
        layout=request.layout,
        original=original,
        target=target,
        several=bool(request.recipe.heights) and original.source.video is not None,
    )
    video = original.source.video
    if target is None:
        return _plan(film, package=[PackageOriginal()], storyboard=[MakeStoryboard()] if video else [])
    rendition = planned(original)[0].name if video else next(r.name for r in planned(original) if r.default)
    seconds = original.source.duration_seconds
    return _plan(film, package=[PackageOriginal()], flat=_windows([(rendition, seconds)]))


def planned(original: Original) -> tuple[Rendition, ...]:
    """What packaging makes, the film first. Codecs, time scales and segments are for it to tell."""
    video, audios = original.source.video, original.source.audios
    made: list[Rendition] = []
    if video is not None:
        side = min(video.width, video.height)
        made.append(
            Rendition(
                name=video_name(side), kind="video", codecs="", timescale=0, width=video.width, height=video.height,
                frame_rate=float(video.rate),
            )
        )  # fmt: skip
    for audio, name in zip(audios, audio_names([a.language for a in audios]), strict=True):
        made.append(
            Rendition(
                name=name, kind="audio", codecs="", timescale=0, language=audio.language, label=audio.label, default=audio.default,
                channels=audio.channels,
            )
        )  # fmt: skip
    return tuple(made)


async def _examine(request: StreamRequested, store: ObjectStore, info: ObjectInfo, ctx: TaskContext) -> tuple[Original | None, str]:
    """The object as a source that is packaged as it is, or None and why it cannot be."""

    name, read = request.key.rpartition("/")[2], sources.reader(store, info)
    sources.refuse_empty(info, name)
    found = await structure.examine(read, info.size)
    sources.refuse_incomplete(found, name)
    programs = await binaries.find(ctx.settings)
    timeout = ctx.settings.task_timeout_seconds
    location = await store.source_for(request.key, seconds=sources.readable(ctx))
    within = sources.confinement(ctx, location)
    source = await probe(programs.ffprobe, location, within=within, container=found.container, check=ctx.raise_if_cancelled)
    why = eligibility.obstacle(source, request.recipe, info.size)
    try:
        sources.refuse_long(source, ctx.settings.max_source_seconds)
    except Permanent as odd:
        # The transcoder finds out whether it is so, by reading it.
        why = odd.message
    if why:
        return None, why
    cuts: keyframes.Cuts | None = None
    if source.video is not None:
        ctx.progress(0.3, "looking at the key frames")
        cuts = await keyframes.of_index(read, found.index, source.video.index)
        if cuts is None:
            cuts = await keyframes.of_packets(
                programs.ffprobe, location, source.video.index,
                longest=eligibility.LONGEST_SECONDS, within=within, timeout=timeout, check=ctx.raise_if_cancelled,
            )  # fmt: skip
        why = eligibility.cut_obstacle(cuts, source.video, source)
        if why:
            return None, why
    return _original(info, source, cuts, request.recipe), ""


def _original(info: ObjectInfo, source: Source, cuts: keyframes.Cuts | None, recipe: Recipe) -> Original:
    sound = source.audio
    return Original(
        bucket=info.bucket,
        key=info.key,
        etag=info.etag,
        source=source,
        start_seconds=cuts.start_seconds if cuts else sound.start_seconds if sound else 0.0,
        frames=cuts.frames if cuts else 0,
        thumbnail_at=recipe.thumbnail_at,
        segment_seconds=eligibility.joined_seconds(cuts.longest_seconds) if cuts else eligibility.SEGMENT_SECONDS,
    )


def _transcode(request: StreamRequested, info: ObjectInfo, asset_id: str) -> FollowUp:
    # This job is the HLS that would follow upon it.
    recipe: Recipe = msgspec.structs.replace(request.recipe, hls=False, layout="asset")
    data: dict[str, Any] = {
        "key": request.key, "bucket": info.bucket, "etag": info.etag, "asset_id": asset_id, "title": request.title,
        "recipe": msgspec.to_builtins(recipe),
    }  # fmt: skip
    return FollowUp(type="UploadReceived", data=data)


def _copy_hash(original: Original) -> str:
    """Names the folder: another source, or what another key encrypted, never mixes with it."""
    key = original.encryption
    body = msgspec.json.encode(["copy", VERSION, original.etag, key.iv_hex if key else ""])
    return hashlib.sha256(body).hexdigest()[:12]


def _windows(renditions: list[tuple[str, float]]) -> list[Work]:
    work: list[Work] = []
    for name, seconds in renditions:
        count = flat.windows(seconds)
        work += [WriteFlat(rendition=name, window=n, last=n + 1 == count) for n in range(count)]
    return work


def _plan(film: Film, *, package: list[Work] | None = None, storyboard: list[Work] | None = None, flat: list[Work] | None = None) -> Plan:
    stages = (("package", package), ("storyboard", storyboard), ("flat", flat))
    return Plan(stages=[Stage(name=n, service=SERVICE, tasks=list[Any](w)) for n, w in stages if w], data=film)
