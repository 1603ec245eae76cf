"""Sources and films to build on."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.events import Recipe
from services.runtime.media.probe import AudioStream, Source, VideoStream
from services.transcoder import decision
from services.transcoder.film import Film
from services.transcoder.segments import grid


def video(**fields: Any) -> VideoStream:
    whole = VideoStream(
        index=0, codec="h264", width=1280, height=720, coded_width=1280, coded_height=720, rate_num=25, rate_den=1, constant=True,
        start_seconds=0, duration_seconds=100, frames=2500, exact=True, own_duration=True, rotation=0, sample_aspect="1:1",
        pixel_format="yuv420p", transfer="", interlaced=False, bit_rate=2_000_000,
    )  # fmt: skip
    return msgspec.structs.replace(whole, **fields)


def audio(**fields: Any) -> AudioStream:
    whole = AudioStream(
        index=1, codec="aac", channels=2, sample_rate=48000, language="und", start_seconds=0, duration_seconds=100, profile="LC",
        default=True,
    )  # fmt: skip
    return msgspec.structs.replace(whole, **fields)


def source(film: VideoStream | None = None, *sounds: AudioStream, **fields: Any) -> Source:
    """`sounds`: none given is one."""
    whole = Source(container="mov", seekable=True, indexed=True, duration_seconds=100, video=film or video(), audios=sounds or (audio(),))
    return msgspec.structs.replace(whole, **fields)


def film(of: Source | None = None, recipe: Recipe | None = None, **fields: Any) -> Film:
    of, recipe = of or source(), recipe or Recipe()
    whole = Film(asset_id="a1", title="t", bucket="b", key="in/foo.mov", etag="e", source=of, recipe=recipe, recipe_hash="0123456789ab")
    if of.video:
        whole = msgspec.structs.replace(
            whole, rungs=decision.rungs(of.video, recipe), grid=grid(of.video.rate), frames=of.video.frames, frames_certain=of.video.exact
        )
    return msgspec.structs.replace(whole, **fields)
