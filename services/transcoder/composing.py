"""The tasks of the second stage: one MP4 per rung out of its segments, poster and thumbnail. Nothing is encoded twice."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import msgspec

from services.runtime.jobs import plan as plans
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent, Transient
from services.runtime.jobs.sources import confinement
from services.runtime.media import binaries, cmaf, encode, probe
from services.runtime.media.presentation import SEGMENT_LIMIT, init_key, segment_key, video_name
from services.runtime.media.process import output_of, spawn
from services.runtime.media.stills import seconds_of, take
from services.runtime.storage.base import ObjectStore
from services.transcoder import decision, layout, verification
from services.transcoder.encoding import locate, picture, watermark
from services.transcoder.film import AudioMade, ComposeMp4, CopyMp4, FileMade, Film, Made, StillsMade, VideoMade
from services.transcoder.ladder import Rung

_READ_BYTES = 1 << 20
_READERS = 16
_SEGMENT = re.compile(r"(\d{5,})\.m4s")


async def mp4(work: ComposeMp4, film: Film, ctx: TaskContext) -> FileMade:
    """The MP4 of one rung, or of the sound alone."""
    made = await _encoded(film, ctx)
    programs = await binaries.find(ctx.settings)
    store, folder = ctx.storage.bucket(""), layout.folder(film, ctx.job_id)
    path = ctx.scratch() / "composed.mp4"
    rung = next((r for r in film.rungs if r.side == work.side), None)
    ctx.progress(0.0, f"composing {rung.name}" if rung else "composing the sound")
    codecs: list[str] = []
    sound, codec = await _fetch_sound(film, made, store, folder, ctx)
    codecs += [codec] if sound else []
    if rung is None:
        if not sound:
            raise Permanent("no-sound", "the file announces sound, and not one piece of it could be decoded", probe.ACCEPTED)
        argv = encode.progressive(programs.ffmpeg, str(path), audio_path=sound, video=False)
        await output_of(argv, within=confinement(ctx), timeout=ctx.settings.task_timeout_seconds, check=ctx.raise_if_cancelled)
    else:
        codecs.insert(0, await _compose(programs.ffmpeg, film, rung, store, folder, path, sound, ctx))
    return await _upload(programs.ffprobe, film, rung, path, ",".join(codecs), ctx)


async def copied(work: CopyMp4, film: Film, ctx: TaskContext) -> FileMade:
    """The source as an MP4 that can be played while it loads, its film not encoded."""
    programs = await binaries.find(ctx.settings)
    path = ctx.scratch() / "copied.mp4"
    ctx.progress(0.0, "copying")
    location = await locate(film, ctx)
    argv = encode.remux(programs.ffmpeg, location, film.source, path=str(path), copy_audio=work.copy_audio)
    await output_of(argv, within=confinement(ctx, location), timeout=ctx.settings.task_timeout_seconds, check=ctx.raise_if_cancelled)
    return await _upload(programs.ffprobe, film, film.rungs[0], path, "", ctx)


async def stills(film: Film, ctx: TaskContext) -> StillsMade:
    """Poster in the size of the largest rung (not beside the input) and thumbnail."""
    if not film.copied:
        await _encoded(film, ctx)
    programs = await binaries.find(ctx.settings)
    location, overlay = await locate(film, ctx), await watermark(film, ctx)
    assert film.grid is not None
    frame = float(1 / film.grid.rate)
    position = "1s" if film.beside and film.recipe.thumbnail_at == "10%" else film.recipe.thumbnail_at
    wanted = seconds_of(position, film.frames * frame, frame)
    top = picture(film, 0)
    ctx.progress(0.0, "taking the poster and the thumbnail")
    taken = await take(
        programs.ffmpeg, location, film.source, at=wanted, origin=film.origin_seconds, picture=top, folder=ctx.scratch(), overlay=overlay,
        within=confinement(ctx, location), timeout=ctx.settings.task_timeout_seconds, check=ctx.raise_if_cancelled,
    )  # fmt: skip
    files: list[FileMade] = []
    store = ctx.storage.bucket(layout.results_bucket(film))
    made = [("thumbnail", layout.thumbnail(film), taken.thumbnail, taken.width, taken.height)]
    if not film.beside:
        made.insert(0, ("poster", layout.poster(film), taken.poster, top.width, top.height))
    for role, key, path, w, h in made:
        info = await store.put(key, await asyncio.to_thread(path.read_bytes), content_type="image/jpeg")
        files.append(
            FileMade(
                role="poster" if role == "poster" else "thumbnail",
                bucket=store.bucket, key=key, size=info.size, etag=info.etag, content_type="image/jpeg", width=w, height=h,
            )
        )  # fmt: skip
    return StillsMade(files=tuple(files))


async def _encoded(film: Film, ctx: TaskContext) -> list[Made]:
    """What the first stage has made, in the order of its tasks.

    Checked before anything appears under a name that readers look at: is the film whole? Raises what verification raises.
    """
    store, limit = ctx.storage.bucket(""), asyncio.Semaphore(_READERS)

    async def result(number: int) -> Made:
        async with limit:
            return msgspec.json.decode(await store.read(plans.result_key(ctx.job_id, 1, number)), type=Made)

    encoding, _ = decision.stages(film)
    made = await asyncio.gather(*(result(n) for n in range(len(encoding))))
    if film.grid is not None:
        verification.frames(film, [m for m in made if isinstance(m, VideoMade)], [m for m in made if isinstance(m, AudioMade)])
    return made


async def _compose(ffmpeg: str, film: Film, rung: Rung, store: ObjectStore, folder: str, path: Path, sound: str, ctx: TaskContext) -> str:
    """Feed the rung's segments to ffmpeg. Answers the codec."""
    grid = film.grid
    assert grid is not None
    rendition = video_name(rung.side)
    init = await store.read(init_key(folder, rendition))
    argv = encode.progressive(ffmpeg, str(path), rate=grid.rate, timescale=grid.timescale, audio_path=sound)

    async def fragments() -> AsyncGenerator[bytes]:
        yield init
        expected = 0
        async for number, key in segments(store, folder, rendition):
            fragment = await _segment(film, store, key)
            if cmaf.decode_time(fragment) != expected:
                raise Transient("segments", f"segment {number} of {rendition} begins at tick {cmaf.decode_time(fragment)}, not {expected}")
            expected += cmaf.read_samples(fragment).duration
            yield cmaf.shift_composition(fragment, encode.REORDER_FRAMES * grid.ticks)
            ctx.progress(0.9 * expected / (grid.ticks * max(film.frames, 1)))
            ctx.check_scratch()

    within, timeout = confinement(ctx), ctx.settings.task_timeout_seconds
    async with spawn(argv, within=within, stdin=True, timeout=timeout, check=ctx.raise_if_cancelled) as running:
        await running.feed(fragments())
    return cmaf.read_init(init).codecs


async def segments(store: ObjectStore, folder: str, rendition: str) -> AsyncIterator[tuple[int, str]]:
    """Number and key of the segments of a rendition, in order. Raises Transient when one is missing in between."""
    names = [item.key.rpartition("/")[2] async for item in store.list(f"{folder}/{rendition}/")]
    for expected, number in enumerate(sorted(int(match[1]) for name in names if (match := _SEGMENT.fullmatch(name)))):
        if number != expected:
            raise Transient("segments", f"segment {expected} of {rendition} is missing")
        yield number, segment_key(folder, rendition, number)


async def _segment(film: Film, store: ObjectStore, key: str) -> bytes:
    """A segment as it was before it was encrypted."""
    data = await store.read(key, limit=SEGMENT_LIMIT)
    return film.encryption.decrypt(data) if film.encryption else data


async def _fetch_sound(film: Film, made: list[Made], store: ObjectStore, folder: str, ctx: TaskContext) -> tuple[str, str]:
    """The sound that the MP4s hold: a file in scratch space, and its codec; no path when there is none.

    It is the default track, or where that turned out empty the first that did not.
    """
    # Tasks are in the order of preference (`decision.sounds`).
    sound = next((m for m in made if isinstance(m, AudioMade) and m.segments), None)
    if sound is None:
        return "", ""
    rendition = layout.audio_renditions(film)[sound.track]
    path = ctx.scratch() / "sound.mp4"
    with path.open("wb") as file:
        file.write(await store.read(init_key(folder, rendition)))
        async for _, key in segments(store, folder, rendition):
            ctx.raise_if_cancelled()
            file.write(await _segment(film, store, key))
            ctx.check_scratch()
    return str(path), sound.codecs


async def _upload(ffprobe: str, film: Film, rung: Rung | None, path: Path, codecs: str, ctx: TaskContext) -> FileMade:
    """Measure the file, then let it appear."""
    measured = await probe.probe(ffprobe, str(path), within=confinement(ctx), check=ctx.raise_if_cancelled)
    size = (await asyncio.to_thread(path.stat)).st_size
    content_type = "video/mp4" if rung else "audio/mp4"
    store = ctx.storage.bucket(layout.results_bucket(film))
    ctx.progress(0.9, "storing")
    async with contextlib.aclosing(_chunks(path, ctx)) as body:
        info = await store.put(layout.mp4(film, rung.side if rung else 0), body, size=size, content_type=content_type)
    return FileMade(
        role="rendition",
        bucket=store.bucket,
        key=info.key,
        size=size,
        etag=info.etag,
        content_type=content_type,
        name=rung.name if rung else "audio",
        width=rung.width if rung else 0,
        height=rung.height if rung else 0,
        bit_rate=round(size * 8 / measured.duration_seconds) if measured.duration_seconds else 0,
        codecs=codecs,
        frames=measured.video.frames if measured.video else 0,
        seconds=measured.video.duration_seconds if measured.video else measured.duration_seconds,
    )


async def _chunks(path: Path, ctx: TaskContext) -> AsyncGenerator[bytes]:
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, _READ_BYTES):
            ctx.raise_if_cancelled()
            yield data
