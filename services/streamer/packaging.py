"""The task that packages a film as it is: its streams become segments, and nothing is encoded."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent
from services.runtime.jobs.sources import confinement, locate
from services.runtime.media import binaries, cmaf, presentation, remux
from services.runtime.media.packaging import Packaged, SegmentWriter, store_key, take_all
from services.runtime.media.presentation import MANIFEST, Encryption, Presentation, Rendition
from services.runtime.media.process import spawn
from services.runtime.media.progress import Progress
from services.streamer import eligibility
from services.streamer.film import Film, Original, PackagedMade
from services.streamer.planning import planned
from services.streamer.reading import Segments

# A picture of the slowest film, and more than a piece of sound: `eligibility.cut_obstacle` lets no larger hole pass.
_LATEST_SOUND_SECONDS = 1.1


async def package(film: Film, ctx: TaskContext) -> PackagedMade:
    """Segments of all tracks, then their manifest."""
    original = film.original
    assert original is not None
    store, source = ctx.storage.bucket(""), original.source
    location = await locate(ctx, bucket=original.bucket, key=original.key, etag=original.etag)
    programs = await binaries.find(ctx.settings)
    if original.encryption is not None:
        await store_key(store, film.folder, original.encryption)
    renditions = planned(original)
    writers = [
        SegmentWriter(
            store, film.folder, rendition.name, first_tick=None, encrypted=original.encryption, check=ctx.raise_if_cancelled,
            # A fragment of film is a group of pictures; one of sound is as long as a segment already.
            longest_seconds=original.segment_seconds if rendition.kind == "video" else 0.0,
        )
        for rendition in renditions
    ]  # fmt: skip

    def arguments(descriptors: Sequence[int]) -> list[str]:
        return remux.tracks(
            programs.ffmpeg, location, start=original.start_seconds, segment_seconds=eligibility.SEGMENT_SECONDS, descriptors=descriptors,
            video=source.video.index if source.video else None, audios=[a.index for a in source.audios],
        )  # fmt: skip

    def on_progress(seen: Progress) -> None:
        seconds = source.duration_seconds
        ctx.progress(seen.seconds / seconds if seconds else 0.0, "packaging")

    within, timeout = confinement(ctx, location), ctx.settings.task_timeout_seconds
    async with spawn(arguments, within=within, outputs=len(writers), timeout=timeout, check=ctx.raise_if_cancelled) as running:
        made = await take_all(running, writers, on_progress)
    complete = [_complete(rendition, packaged) for rendition, packaged in zip(renditions, made, strict=True)]
    kept = tuple(rendition for rendition in complete if rendition.segments)
    _verify(original, made, kept)
    whole = _presentation(film, original, kept)
    await _verify_beginnings(Segments(store, whole, original.encryption))
    await store.put(f"{film.folder}/{MANIFEST}", presentation.encode(whole), content_type="application/json")
    return PackagedMade(segments=sum(len(r.segments) for r in kept), size=sum(r.size for r in kept))


def _presentation(film: Film, original: Original, renditions: tuple[Rendition, ...]) -> Presentation:
    key = original.encryption
    return Presentation(
        asset_id=film.asset_id, recipe=film.recipe, folder=film.folder, renditions=renditions,
        encryption=Encryption(iv=key.iv_hex) if key else None,
    )  # fmt: skip


def _complete(rendition: Rendition, made: Packaged) -> Rendition:
    if made.init is None:
        return rendition
    return msgspec.structs.replace(
        rendition, codecs=made.init.codecs, timescale=made.init.timescale, reorder=made.reorder, segments=tuple(made.segments)
    )


def _verify(original: Original, made: list[Packaged], kept: Sequence[Rendition]) -> None:
    """Raises Permanent for a film that is not all there."""
    if original.source.video is not None:
        frames = made[0].frames
        if frames != original.frames:
            raise Permanent(
                "truncated",
                f"the film has {original.frames} pictures by its index, and {frames} of them could be read",
                "Upload the whole file again.",
            )
    elif not kept:
        raise Permanent("no-sound", "the file announces sound, and there is none in it")


async def _verify_beginnings(segments: Segments) -> None:
    """Raises Permanent when a track did not come at its time: sound and picture would not lie together."""
    for rendition in segments.film.renditions:
        begin = cmaf.decode_time(await segments.first_picture(rendition, 0)) / rendition.timescale
        if begin > (0.0 if rendition.kind == "video" else _LATEST_SOUND_SECONDS):
            raise Permanent(
                "clock", f"{rendition.name} begins {begin:.3f} s after the beginning that its index tells", "Transcode the film: upload it."
            )
