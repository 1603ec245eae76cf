"""The end of a stream job: everything is checked, then playlists appear, the one that players open last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from schemas.events import Output
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent, Transient
from services.runtime.jobs.handler import Finished
from services.runtime.media.presentation import (
    IFRAMES,
    KEY,
    MASTER,
    MEDIA,
    PLAYLIST_TYPE,
    Presentation,
    init_key,
    segment_key,
)
from services.runtime.storage.base import ObjectInfo, ObjectStore
from services.streamer import flat, manifests, playlist
from services.streamer.film import Film, FlatMade, FlatSegment, StoryboardMade
from services.streamer.reading import replaced

_WRITERS = 8


async def asset(film: Film, storyboard: StoryboardMade | None, ctx: TaskContext) -> Finished:
    """The final playlists under the asset. They take the place of those that grew."""
    store = ctx.storage.bucket("")
    presentation = await manifests.read(store, film.folder)
    await _verify(presentation, store)
    texts: list[tuple[str, str]] = []
    for rendition in presentation.renditions:
        if presentation.encryption is None and playlist.has_iframes(rendition):
            texts.append((f"{rendition.name}/{IFRAMES}", playlist.iframes(rendition)))
        texts.append((f"{rendition.name}/{MEDIA}", playlist.media(rendition, ended=True, encryption=presentation.encryption)))
    await asyncio.gather(*(_put(store, f"{film.folder}/{name}", text) for name, text in texts))
    # Last: it names the others.
    written = await _put(store, f"{film.folder}/{MASTER}", playlist.master(presentation.renditions, ended=True))
    files = storyboard.files if storyboard else ()
    return Finished(outputs=(_output(written), *files), data=_data(film, presentation, store.bucket, written.key))


async def flattened(film: Film, made: Sequence[FlatMade], ctx: TaskContext) -> Finished:
    """The playlists of the flat layout; what no playlist names any more is removed."""
    target = film.target
    assert target is not None
    store = ctx.storage.bucket(target.bucket)
    presentation = await manifests.read(ctx.storage.bucket(""), film.folder)
    segments: dict[str, list[FlatSegment]] = {}
    for part in sorted(made, key=lambda m: m.window):
        segments.setdefault(part.rendition, []).extend(part.segments)
    chosen = [r for r in presentation.renditions if r.name in segments]
    for rendition in chosen:
        if len(segments[rendition.name]) != len(rendition.segments):
            raise Transient("flat", f"{rendition.name} has {len(segments[rendition.name])} of {len(rendition.segments)} segments")
    there = {item.key.removeprefix(target.folder): item.size async for item in store.list(target.folder)}
    for segment in (s for several in segments.values() for s in several):
        if there.get(segment.name) != segment.size:
            raise Transient("flat", f"{target.folder}{segment.name} is not the object that was written: does another job write there?")
    named = {s.name for several in segments.values() for s in several} | {flat.OUTPUT}
    text = ""
    variants: list[playlist.FlatVariant] = []
    for rendition in chosen:
        text = playlist.flat_media([(s.name, s.seconds) for s in segments[rendition.name]])
        if film.several:
            name = flat.playlist_name(rendition)
            await _put(store, target.folder + name, text)
            named.add(name)
            sizes = [(s.seconds, s.size) for s in segments[rendition.name]]
            variants.append(playlist.FlatVariant(name=name, rendition=rendition, sound=flat.sound(presentation), segments=sizes))
    written = await _put(store, target.folder + flat.OUTPUT, playlist.flat_master(variants) if film.several else text)
    await store.delete_many([target.folder + name for name in there if flat.is_ours(name) and name not in named])
    return Finished(outputs=(_output(written),), data=_data(film, presentation, store.bucket, written.key))


async def _verify(presentation: Presentation, store: ObjectStore) -> None:
    """Raises Permanent when a segment is missing or another one than the manifest says. One listing."""
    folder = presentation.folder
    there = {item.key: item.size async for item in store.list(f"{folder}/")}
    for rendition in presentation.renditions:
        expected = {segment_key(folder, rendition.name, n): s.size for n, s in enumerate(rendition.segments)}
        for key in (init_key(folder, rendition.name), *expected):
            if key not in there:
                raise Permanent("segments", f"{key} is missing", "Transcode the film again.")
            if there[key] != expected.get(key, there[key]):
                raise replaced(key, there[key], expected[key])
    if presentation.encryption is not None and f"{folder}/{KEY}" not in there:
        raise Permanent("segments", f"{folder}/{KEY} is missing, and without it nothing can be played", "Transcode the film again.")


async def _put(store: ObjectStore, key: str, text: str) -> ObjectInfo:
    return await store.put(key, text.encode(), content_type=PLAYLIST_TYPE)


def _output(written: ObjectInfo) -> Output:
    return Output(role="playlist", bucket=written.bucket, key=written.key, size=written.size, etag=written.etag, content_type=PLAYLIST_TYPE)


def _data(film: Film, presentation: Presentation, bucket: str, master: str) -> dict[str, object]:
    return {
        "asset_id": film.asset_id,
        "bucket": bucket,
        "master": master,
        "progressive": False,
        "recipe": film.recipe,
        "layout": film.layout,
        "duration_seconds": round(presentation.seconds, 3),
        "encrypted": presentation.encryption is not None,
    }
