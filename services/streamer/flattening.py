"""The tasks of the flat layout: a part of the film as MPEG-TS segments, by copy from the CMAF ones."""

from __future__ import annotations

import asyncio
import contextlib
from fractions import Fraction
from itertools import accumulate, pairwise
from math import ceil
from pathlib import Path

import msgspec

from schemas.events import StreamRequested
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Transient
from services.runtime.jobs.sources import confinement
from services.runtime.media import binaries, cmaf, remux, segment
from services.runtime.media.presentation import Rendition
from services.runtime.media.process import output_of
from services.runtime.storage.base import NotFound, ObjectStore, Refused
from services.streamer import flat
from services.streamer.eligibility import LONGEST_SECONDS
from services.streamer.film import Film, FlatMade, FlatSegment, WriteFlat
from services.streamer.reading import Segments, open_film

TS_TYPE = "video/mp2t"
"""RFC 3555 §4.2.9, and RFC 8216 §3.2's transport streams."""
_WRITERS = 8
# A track may begin so much after 0; its segments then lie later than their lengths say.
_SOUND_SLACK_SECONDS = 1.0


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """Of a film, as one task sees it. Times in seconds of the film."""

    rendition: Rendition
    sound: Rendition | None
    numbers: range
    starts: list[Fraction]
    """Of each of its segments, and where the last one ends."""

    @property
    def sound_span(self) -> tuple[Fraction, Fraction]:
        """Pieces of sound that begin from the first of these times up to the second go with this part. Each goes with exactly one."""
        begin = self.starts[0] if self.numbers.start else Fraction(0)
        if self.numbers.stop < len(self.rendition.segments):
            return begin, self.starts[-1]
        # Sound that goes on behind the last picture cannot be cut into segments of its own there: they would have no picture.
        return begin, max(self.starts[-1], self.starts[-2] + Fraction(LONGEST_SECONDS))


async def write(work: WriteFlat, film: Film, ctx: TaskContext) -> FlatMade:
    """The segments of one part of one rendition."""
    segments = await open_film(ctx.storage.bucket(""), film.folder)
    rendition = next(r for r in segments.film.renditions if r.name == work.rendition)
    flat.refuse_long(rendition)
    numbers = flat.members(rendition, work.window, last=work.last)
    if not numbers:
        return FlatMade(rendition=work.rendition, window=work.window, segments=())
    part = _Part(
        rendition=rendition,
        sound=flat.sound(segments.film) if rendition.kind == "video" else None,
        numbers=numbers,
        starts=flat.starts(rendition)[numbers.start : numbers.stop + 1],
    )
    ctx.progress(0.0, "writing transport streams")
    files = await _remux(segments, part, ctx)
    made = await _upload(files, part, film, ctx)
    return FlatMade(rendition=work.rendition, window=work.window, segments=made)


async def _remux(segments: Segments, part: _Part, ctx: TaskContext) -> list[Path]:
    """The files, in order."""
    programs = await binaries.find(ctx.settings)
    folder, film, sound = ctx.scratch() / "ts", ctx.scratch() / "film.mp4", ctx.scratch() / "sound.mp4"
    await asyncio.to_thread(folder.mkdir)
    counts = await _fetch(segments, part, film, ctx)
    if part.sound is not None:
        await _fetch_sound(segments, part.sound, part.sound_span, sound, ctx)
    alone = part.rendition.kind == "audio"
    argv = remux.transport_stream(
        programs.ffmpeg,
        video="" if alone else str(film),
        reorder_seconds=part.rendition.reorder / part.rendition.timescale,
        audio=str(film) if alone else str(sound) if part.sound else "",
        cuts=list(accumulate(counts[:-1])),
        first_number=part.numbers.start + 1,
        pattern=str(folder / "%05d.ts"),
    )
    await output_of(argv, within=confinement(ctx), timeout=ctx.settings.task_timeout_seconds, check=ctx.raise_if_cancelled)
    ctx.check_scratch()
    files = await asyncio.to_thread(lambda: sorted(folder.iterdir()))
    if len(files) != len(part.numbers):
        raise Transient("flat", f"{len(files)} transport streams were made of {len(part.numbers)} segments")
    return files


async def _fetch(segments: Segments, part: _Part, path: Path, ctx: TaskContext) -> list[int]:
    """Init segment and fragments, a film's offsets without sign, all moved alike. Answers how many pictures each segment has."""
    counts: list[int] = []
    with path.open("wb") as file:
        file.write(await segments.init(part.rendition))
        for number in part.numbers:
            count = 0
            for fragment in segment.fragments_of(await segments.segment(part.rendition, number)):
                count += cmaf.read_samples(fragment).count
                film = part.rendition.kind == "video"
                file.write(cmaf.shift_composition(fragment, part.rendition.reorder) if film else fragment)
            counts.append(count)
            ctx.raise_if_cancelled()
            ctx.check_scratch()
            ctx.progress(0.5 * len(counts) / len(part.numbers))
    return counts


async def _fetch_sound(segments: Segments, sound: Rendition, span: tuple[Fraction, Fraction], path: Path, ctx: TaskContext) -> None:
    """The sound of a span, behind its init segment."""
    begin, end = (ceil(at * sound.timescale) for at in span)
    slack = round(_SOUND_SLACK_SECONDS * sound.timescale)
    borders = accumulate((s.ticks for s in sound.segments), initial=0)
    with path.open("wb") as file:
        file.write(await segments.init(sound))
        for number, (at, after) in enumerate(pairwise(borders)):
            if after + slack <= begin or at >= end:
                continue
            for fragment in segment.fragments_of(await segments.segment(sound, number)):
                file.write(segment.between(fragment, begin, end))
            ctx.raise_if_cancelled()


async def _upload(files: list[Path], part: _Part, film: Film, ctx: TaskContext) -> tuple[FlatSegment, ...]:
    target = film.target
    assert target is not None
    store = ctx.storage.bucket(target.bucket)
    durations = part.rendition.durations()
    limit = asyncio.Semaphore(_WRITERS)

    async def put(number: int, path: Path) -> FlatSegment:
        async with limit:
            ctx.raise_if_cancelled()
            name = flat.segment_name(target.stem, part.rendition, number + 1, several=film.several)
            data = await asyncio.to_thread(path.read_bytes)
            await store.put(target.folder + name, data, content_type=TS_TYPE)
            return FlatSegment(name, durations[number], len(data))

    return tuple(await asyncio.gather(*(put(number, path) for number, path in zip(part.numbers, files, strict=True))))


async def discard(request: StreamRequested, job_id: str, ctx: TaskContext) -> None:
    """Remove what a job has written into its target and no playlist there names. What another program put there stays."""
    stem = flat.stem_of(job_id)
    try:
        store = ctx.storage.bucket(request.target_bucket or request.bucket)
        written = [item.key async for item in store.list(f"{request.target}{stem}-")]
    except Refused:
        # A target that never was one.
        return
    if not written:
        return
    named = await _named(store, request.target)
    remaining = await store.delete_many([key for key in written if key.removeprefix(request.target) not in named])
    if remaining:
        raise Transient("cleanup", f"{len(remaining)} segments could not be removed: {next(iter(remaining.values()))}")


async def _named(store: ObjectStore, folder: str) -> set[str]:
    """What output.m3u8 names, and what the playlists name that it names."""
    named: set[str] = set()
    waiting = [flat.OUTPUT]
    while waiting:
        with contextlib.suppress(NotFound):
            found = flat.named_in((await store.read(folder + waiting.pop())).decode("utf-8", "replace"))
            waiting += [name for name in found if name.endswith(".m3u8") and name not in named]
            named.update(found)
    return named
