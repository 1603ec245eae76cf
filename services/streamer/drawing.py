"""The task that draws pictures of a film: the storyboard, out of key frames alone; poster and thumbnail where nobody made them before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from schemas.events import Output
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent
from services.runtime.jobs.sources import confinement, locate
from services.runtime.media import binaries, encode, remux, segment, stills
from services.runtime.media.presentation import Rendition
from services.runtime.media.process import spawn
from services.streamer import storyboard
from services.streamer.film import Film, Original, StoryboardMade
from services.streamer.reading import Segments, open_film

_READERS = 8
"""Pictures that are fetched ahead."""


async def draw(film: Film, ctx: TaskContext) -> StoryboardMade:
    """Of the smallest rendition, whose pictures are the fewest bytes."""
    store = ctx.storage.bucket("")
    segments = await open_film(store, film.folder)
    rendition = segments.film.videos[-1]
    board = storyboard.board(rendition)
    programs = await binaries.find(ctx.settings)
    # No extension: by `.jpg` ffmpeg would take it for a numbered series of pictures.
    path = ctx.scratch() / "storyboard"
    argv = remux.storyboard(programs.ffmpeg, width=board.width, height=board.height, columns=board.columns, rows=board.rows, path=str(path))
    ctx.progress(0.0, "drawing the storyboard")
    within, timeout = confinement(ctx), ctx.settings.task_timeout_seconds
    async with spawn(argv, within=within, stdin=True, timeout=timeout, check=ctx.raise_if_cancelled) as running:
        await running.feed(_pictures(segments, rendition, board, ctx))
    picture = await asyncio.to_thread(lambda: path.read_bytes() if path.exists() else b"")
    if not picture:
        raise Permanent("no-picture", "not one key frame of the film could be decoded")
    text = storyboard.vtt(board, rendition.durations()).encode()
    drawn = await store.put(f"assets/{film.asset_id}/{storyboard.PICTURE}", picture, content_type="image/jpeg")
    # The text names the picture, so the picture is there first.
    written = await store.put(f"assets/{film.asset_id}/{storyboard.TEXT}", text, content_type="text/vtt")
    taken = await _stills(film, film.original, ctx) if film.original is not None else ()
    return StoryboardMade(
        files=(
            *taken,
            Output(
                role="storyboard", bucket=store.bucket, key=drawn.key, size=drawn.size, etag=drawn.etag, content_type="image/jpeg",
                width=board.columns * board.width, height=board.rows * board.height,
            ),
            Output(
                role="storyboard-vtt", bucket=store.bucket, key=written.key, size=written.size, etag=written.etag, content_type="text/vtt"
            ),
        )
    )  # fmt: skip


async def _stills(film: Film, original: Original, ctx: TaskContext) -> tuple[Output, ...]:
    """Of a film that is packaged as it is."""
    video = original.source.video
    assert video is not None
    programs, store = await binaries.find(ctx.settings), ctx.storage.bucket("")
    frame = float(1 / video.rate)
    location = await locate(ctx, bucket=original.bucket, key=original.key, etag=original.etag)
    taken = await stills.take(
        programs.ffmpeg, location, original.source, origin=original.start_seconds,
        at=stills.seconds_of(original.thumbnail_at, original.frames * frame, frame),
        picture=encode.Picture(width=video.width, height=video.height, max_rate=0), folder=ctx.scratch(),
        within=confinement(ctx, location), timeout=ctx.settings.task_timeout_seconds, check=ctx.raise_if_cancelled,
    )  # fmt: skip
    outputs: list[Output] = []
    for role, path, width, height in (
        ("poster", taken.poster, video.width, video.height),
        ("thumbnail", taken.thumbnail, taken.width, taken.height),
    ):
        body = await asyncio.to_thread(path.read_bytes)
        info = await store.put(f"assets/{film.asset_id}/{role}.jpg", body, content_type="image/jpeg")
        outputs.append(
            Output(
                role=role, bucket=store.bucket, key=info.key, size=info.size, etag=info.etag, content_type="image/jpeg",
                width=width, height=height,
            )
        )  # fmt: skip
    return tuple(outputs)


async def _pictures(segments: Segments, rendition: Rendition, board: storyboard.Board, ctx: TaskContext) -> AsyncGenerator[bytes]:
    """The init segment, then one fragment a second, each with one picture."""
    yield await segments.init(rendition)
    for first in range(0, len(board.segments), _READERS):
        ctx.raise_if_cancelled()
        numbers = board.segments[first : first + _READERS]
        for at, data in enumerate(await asyncio.gather(*(segments.first_picture(rendition, n) for n in numbers)), first):
            yield segment.first_picture(data, number=at + 1, decode_time=at * rendition.timescale, duration=rendition.timescale)
        ctx.progress((first + len(numbers)) / len(board.segments))
