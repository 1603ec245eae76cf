"""The tasks of the first stage: a chunk of the film in all rungs, or the whole of a sound track."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.runtime.jobs import sources
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent
from services.runtime.media import binaries, encode, packaging, sandbox
from services.runtime.media.failures import BadMedia
from services.runtime.media.packaging import Packaged, take_all
from services.runtime.media.probe import refused
from services.runtime.media.process import ProcessFailed, output_of, spawn
from services.runtime.media.progress import Progress
from services.transcoder import layout, renditions
from services.transcoder.film import AudioMade, EncodeAudio, EncodeVideo, Film, RungMade, VideoMade
from services.transcoder.publishing import Publisher

WATERMARK_LIMIT = 16 * 1024**2
"""Bytes of a watermark's file."""
_IMAGE_SECONDS = 60.0


async def video(work: EncodeVideo, film: Film, ctx: TaskContext) -> VideoMade:
    """One chunk, all rungs."""
    grid, chunk = film.grid, work.chunk
    assert grid is not None
    programs = await binaries.find(ctx.settings)
    location = await locate(film, ctx)
    most = math.ceil(ctx.settings.max_source_seconds * grid.rate)
    span = encode.Span(
        first_frame=chunk.first_frame,
        # The last one takes whatever is left, up to where a film is too long.
        frames=max(1, most - chunk.first_frame + 1) if chunk.last else chunk.frames,
        rate=grid.rate,
        origin=film.origin_seconds,
        segment_frames=grid.segment_frames,
        timescale=grid.timescale,
    )
    overlay = await watermark(film, ctx)
    total = grid.segments_of(film.frames) if film.frames_certain else 0
    pictures, _ = renditions.planned(film)
    publishers = [
        Publisher(film, ctx, r, first_segment=chunk.first_segment, first_tick=chunk.first_frame * grid.ticks, total=total) for r in pictures
    ]
    await _hand_out_key(film, ctx)
    note = "encoding " + ", ".join(rung.name for rung in film.rungs)

    def arguments(descriptors: Sequence[int]) -> list[str]:
        return encode.video_chunk(
            programs.ffmpeg, location, film.source, span, [picture(film, i) for i in range(len(film.rungs))], descriptors,
            overlay=overlay, threads=ctx.settings.ffmpeg_threads,
        )  # fmt: skip

    def on_progress(seen: Progress) -> None:
        ctx.progress(seen.frames / chunk.frames if chunk.frames else 0.0, note)

    within, timeout = sources.confinement(ctx, location), ctx.settings.task_timeout_seconds
    try:
        async with spawn(arguments, within=within, outputs=len(film.rungs), timeout=timeout, check=ctx.raise_if_cancelled) as running:
            made = await take_all(running, publishers, on_progress)
    except ProcessFailed as failed:
        if not failed.nothing_came:
            raise
        # The film ended before this chunk. Whether it may have is for verification to say, which sees all of them.
        made = [Packaged() for _ in publishers]
    counts = {m.frames for m in made}
    if len(counts) != 1:
        raise Permanent("broken", f"the renditions of one chunk differ in length: {sorted(counts)} frames")
    if chunk.first_frame + max(counts) > most:
        raise sources.too_long(ctx.settings.max_source_seconds)
    return VideoMade(
        chunk=chunk.number,
        frames=counts.pop(),
        rungs=tuple(
            RungMade(
                side=rung.side, frames=m.frames, segments=tuple(m.segments), init_hash=m.init_hash, codecs=m.init.codecs if m.init else ""
            )
            for rung, m in zip(film.rungs, made, strict=True)
        ),
    )


async def audio(work: EncodeAudio, film: Film, ctx: TaskContext) -> AudioMade:
    """The whole of a sound track."""
    programs = await binaries.find(ctx.settings)
    location = await locate(film, ctx)
    track = film.source.audios[work.track]
    seconds = film.grid.segment_seconds if film.grid else 4.0
    longest = ctx.settings.max_source_seconds + 1

    def arguments(descriptors: Sequence[int]) -> list[str]:
        return encode.audio_track(
            programs.ffmpeg, location, track, origin=film.origin_seconds, longest=longest, segment_seconds=seconds,
            descriptor=descriptors[0],
        )  # fmt: skip

    def on_progress(seen: Progress) -> None:
        ctx.progress(seen.seconds / track.duration_seconds if track.duration_seconds else 0.0, "encoding the sound")

    # Sound comes a hundred times faster than it plays: one event for half a minute of it.
    _, sounds = renditions.planned(film)
    publisher = Publisher(film, ctx, sounds[work.track], together=8)
    await _hand_out_key(film, ctx)
    within, timeout = sources.confinement(ctx, location), ctx.settings.task_timeout_seconds
    try:
        async with spawn(arguments, within=within, outputs=1, timeout=timeout, check=ctx.raise_if_cancelled) as running:
            (made,) = await take_all(running, [publisher], on_progress)
    except ProcessFailed as failed:
        # A header that announces sound with nothing behind it: the pictures are a film without it. And a film is not lost for
        # a further track that cannot be decoded.
        if not failed.nothing_came and (track.default or not isinstance(refused(failed), BadMedia)):
            raise
        made = Packaged()
    if made.seconds > ctx.settings.max_source_seconds:
        raise sources.too_long(ctx.settings.max_source_seconds)
    codecs = made.init.codecs if made.init else ""
    return AudioMade(track=work.track, seconds=made.seconds, segments=tuple(made.segments), codecs=codecs)


async def _hand_out_key(film: Film, ctx: TaskContext) -> None:
    """Before anything is announced that needs it; any task may be the first."""
    if film.encryption is not None:
        await packaging.store_key(ctx.storage.bucket(""), layout.folder(film, ctx.job_id), film.encryption)


def picture(film: Film, number: int) -> encode.Picture:
    rung = film.rungs[number]
    return encode.Picture(width=rung.width, height=rung.height, max_rate=rung.max_rate)


async def locate(film: Film, ctx: TaskContext) -> str:
    """Where ffmpeg reads the source. Raises Permanent when it is another object than was planned."""
    return await sources.locate(ctx, bucket=film.bucket, key=film.key, etag=film.etag)


async def watermark(film: Film, ctx: TaskContext) -> encode.Overlay | None:
    """The watermark's image, fetched. Raises Permanent for what is no image."""
    mark = film.recipe.watermark
    if mark is None:
        return None
    store = ctx.storage.bucket(mark.bucket)
    data = await store.read(mark.key, limit=WATERMARK_LIMIT)
    if not data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")):
        raise Permanent("watermark", f"the watermark {mark.key!r} is no PNG, JPEG or WebP", "Name an image of one of these kinds.")
    path = ctx.scratch() / "watermark"
    path.write_bytes(data)
    programs = await binaries.find(ctx.settings)
    try:
        argv = encode.decode(programs.ffmpeg, str(path))
        await output_of(argv, within=sources.confinement(ctx), timeout=_IMAGE_SECONDS, check=ctx.raise_if_cancelled)
    except ProcessFailed as failed:
        reason = refused(failed)
        if not isinstance(reason, BadMedia):
            raise
        raise Permanent(
            "watermark", f"the watermark {mark.key!r} is damaged, or larger than {sandbox.IMAGE_PIXELS} pixels", "Name a PNG, JPEG or WebP."
        ) from None
    return encode.Overlay(path=str(path), opacity=mark.opacity, position=mark.position, width=mark.width, offset=mark.offset)
