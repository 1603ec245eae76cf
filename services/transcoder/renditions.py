"""What a transcode makes in segments: before, as it is announced, and after, as it stands in the manifest. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.runtime.media import encode
from services.runtime.media.presentation import Encryption, Presentation, Rendition, SegmentEntry
from services.transcoder import layout
from services.transcoder.film import AudioMade, Film, VideoMade


def planned(film: Film) -> tuple[tuple[Rendition, ...], tuple[Rendition, ...]]:
    """Film and sound, in the order of the rungs and of the source's tracks. Codecs and segments are for the encoder to tell."""
    grid = film.grid
    videos = tuple(
        Rendition(
            name=name, kind="video", codecs="", timescale=grid.timescale, width=rung.width, height=rung.height,
            frame_rate=float(grid.rate), reorder=encode.REORDER_FRAMES * grid.ticks, ceiling=rung.max_rate,
        )
        for rung, name in zip(film.rungs, layout.video_renditions(film), strict=True)
    ) if grid else ()  # fmt: skip
    audios = tuple(
        Rendition(
            name=name, kind="audio", codecs="", timescale=encode.AUDIO_RATE, language=audio.language, label=audio.label,
            default=audio.default, channels=encode.AUDIO_CHANNELS, ceiling=encode.AUDIO_BITS,
        )
        for audio, name in zip(film.source.audios, layout.audio_renditions(film), strict=True)
    )  # fmt: skip
    return videos, audios


def names(film: Film) -> tuple[str, ...]:
    """Of all renditions that the job is to make."""
    return (*layout.video_renditions(film), *layout.audio_renditions(film))


def presentation(film: Film, folder: str, videos: Sequence[VideoMade], audios: Sequence[AudioMade]) -> Presentation:
    """What was made, verified before. A sound track in which nothing was is left out."""
    pictures, sounds = planned(film)
    chunks = sorted(videos, key=lambda made: made.chunk)
    made: list[Rendition] = []
    for rung, rendition in zip(film.rungs, pictures, strict=True):
        parts = [part for chunk in chunks for part in chunk.rungs if part.side == rung.side]
        made.append(_complete(rendition, [part.codecs for part in parts], [entry for part in parts for entry in part.segments]))
    for sound in sorted(audios, key=lambda made: made.track):
        made.append(_complete(sounds[sound.track], [sound.codecs], sound.segments))
    return Presentation(
        asset_id=film.asset_id,
        recipe=film.recipe_hash,
        folder=folder,
        renditions=tuple(rendition for rendition in made if rendition.segments),
        encryption=Encryption(iv=film.encryption.iv_hex) if film.encryption else None,
    )


def _complete(rendition: Rendition, codecs: Sequence[str], segments: Sequence[SegmentEntry]) -> Rendition:
    # A chunk behind the end of the film has no codec.
    return msgspec.structs.replace(rendition, codecs=next((c for c in codecs if c), ""), segments=tuple(segments))
