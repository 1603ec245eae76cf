"""Poster and thumbnail: one picture of a film, in its own size and small."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.runtime.media import encode
from services.runtime.media.confinement import Confinement
from services.runtime.media.failures import BadMedia
from services.runtime.media.probe import ACCEPTED, Source
from services.runtime.media.process import ProcessFailed, output_of

THUMBNAIL_SIDE = 320
"""Neither side of a thumbnail is longer: what clients of the older transcoder expect."""


class Stills(msgspec.Struct, frozen=True, kw_only=True):
    """Two JPEG files, and the size of the smaller picture."""

    poster: Path
    thumbnail: Path
    width: int
    height: int


async def take(
    ffmpeg: str,
    location: str,
    source: Source,
    *,
    at: float,
    origin: float,
    picture: encode.Picture,
    folder: Path,
    overlay: encode.Overlay | None = None,
    within: Confinement | None,
    timeout: float,
    check: Callable[[], None],
) -> Stills:
    """The picture that is shown `at` seconds after `origin`; the first one of a film that is shorter than it says.

    Raises BadMedia `no-picture` when there is none, ProcessFailed, and what `check` raises.
    """
    # No extensions: by `.jpg` ffmpeg would take it for a numbered series of pictures.
    full, small = folder / "poster", folder / "thumbnail"
    for seconds in dict.fromkeys((at, 0.0)):
        argv = encode.still(ffmpeg, location, source, at=seconds, origin=origin, picture=picture, path=str(full), overlay=overlay)
        try:
            await output_of(argv, within=within, timeout=timeout, check=check)
        except ProcessFailed as failed:
            if not failed.nothing_came:
                raise
        if await asyncio.to_thread(lambda: full.exists() and full.stat().st_size > 0):
            break
    else:
        raise BadMedia("no-picture", "not one picture of the film could be decoded", ACCEPTED)
    width, height = _fit(picture.width, picture.height)
    shrunk = encode.shrink(ffmpeg, str(full), width=width, height=height, path=str(small))
    await output_of(shrunk, within=within, timeout=timeout, check=check)
    return Stills(poster=full, thumbnail=small, width=width, height=height)


def seconds_of(position: str, seconds: float, frame_seconds: float) -> float:
    """`10%` or `1s` as seconds after the first frame, inside of a film of `seconds`."""
    number = float(position[:-1])
    at = seconds * number / 100 if position.endswith("%") else number
    return max(0.0, min(at, seconds - frame_seconds))


def _fit(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, THUMBNAIL_SIDE / max(width, height))
    return max(2, round(width * scale)), max(2, round(height * scale))
