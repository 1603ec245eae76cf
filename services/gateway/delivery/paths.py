"""Which objects of a film may be streamed, by path below `/v1/assets/{asset}/hls/`. Pure.

Everything else below the film's folder, its source above all, is not for players.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import msgspec

from services.runtime.media.presentation import IFRAMES, INIT, INIT_TYPE, KEY, MASTER, MEDIA, PLAYLIST_TYPE, SEGMENT_TYPE

STORYBOARD = "storyboard.vtt"
"""WebVTT with a picture of the film for each moment: regions of `storyboard.jpg`."""
_STORYBOARD_PICTURE = "storyboard.jpg"
_VTT_TYPE = "text/vtt; charset=utf-8"
_ASSET_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_RECIPE = r"(?P<recipe>(?!source/)[A-Za-z0-9_-]{1,64})"
_RENDITION = r"[a-z]+-[A-Za-z0-9_.-]{1,64}"

Kind = Literal["master", "media", "text", "segment", "picture", "key"]
"""`media`: a Media Playlist, of I-frames too. `text`: WebVTT."""


class Place(msgspec.Struct, frozen=True):
    """An object that players may have."""

    key: str
    kind: Kind
    content_type: str
    recipe: str = ""
    """The folder of its renditions; "" for what belongs to the film whatever the recipe."""


_Shape = tuple[str, Kind, str]
_KINDS: tuple[_Shape, ...] = (
    (rf"{_RECIPE}/{_RENDITION}/\d{{5,}}\.m4s", "segment", SEGMENT_TYPE),
    (rf"{_RECIPE}/{_RENDITION}/({re.escape(MEDIA)}|{re.escape(IFRAMES)})", "media", PLAYLIST_TYPE),
    (rf"{_RECIPE}/{_RENDITION}/{re.escape(INIT)}", "segment", INIT_TYPE),
    (rf"{_RECIPE}/{re.escape(MASTER)}", "master", PLAYLIST_TYPE),
    (rf"{_RECIPE}/{re.escape(KEY)}", "key", "application/octet-stream"),
    (rf"{re.escape(STORYBOARD)}|captions-[A-Za-z0-9_.-]{{1,64}}\.vtt", "text", _VTT_TYPE),
    (re.escape(_STORYBOARD_PICTURE), "picture", "image/jpeg"),
)
_SHAPES: list[tuple[re.Pattern[str], Kind, str]] = [
    (re.compile(pattern, re.ASCII), kind, content_type) for pattern, kind, content_type in _KINDS
]


@lru_cache(maxsize=8192)
def place(asset_id: str, path: str) -> Place | None:
    """The object at a path, decoded, below the film's; None for one that is not for players."""
    if not _ASSET_ID.fullmatch(asset_id):
        return None
    for shape, kind, content_type in _SHAPES:
        if found := shape.fullmatch(path):
            return Place(f"assets/{asset_id}/{path}", kind, content_type, found.groupdict().get("recipe") or "")
    return None
