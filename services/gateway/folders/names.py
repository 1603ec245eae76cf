"""Which folders are shown, which objects in them are films, and what of a flat stream players may have. Pure."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import quote

from services.gateway.delivery.paths import Place
from services.runtime.media.presentation import PLAYLIST_TYPE
from services.runtime.storage.folders import RESERVED
from services.runtime.storage.keys import key_fault

OUTPUT = "output.m3u8"
"""In `NAME.hls/`: what makes a film of it."""
STREAM = ".hls"
FILES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
PLAYABLE = (".mp4", ".mov", ".webm")
"""What browsers may play as it is. What is in an MP4 or QuickTime file decides; no browser takes AVI or Matroska."""
_SEGMENT_TYPE = "video/mp2t"
_STREAMED = re.compile(r"(?!\.)[^/]+\.(?P<ending>m3u8|ts)", re.DOTALL)


def is_shown(folder: str) -> bool:
    """Whether a folder is one of the bucket's owner: neither hidden nor our own."""
    return not folder.startswith(".") and folder not in RESERVED


def folder_fault(folder: str) -> str:
    """What is wrong with a folder's name, in words; "" when nothing is."""
    return "it holds a slash" if "/" in folder else key_fault(f"{folder}/{OUTPUT}")


def is_file(name: str) -> bool:
    """Whether an object in a folder is a film."""
    return not name.startswith(".") and name.lower().endswith(FILES)


def is_playable(name: str) -> bool:
    """Whether a browser may be able to play a file."""
    return name.lower().endswith(PLAYABLE)


def stream_name(folder: str) -> str:
    """NAME of a folder `NAME.hls`; "" for any other."""
    return folder.removesuffix(STREAM) if folder.endswith(STREAM) and not folder.startswith(".") else ""


def stream_prefix(folder: str, film: str) -> str:
    """The path below which the stream `film` (`NAME.hls`) lies, percent-encoded; what its playback token opens."""
    return f"/v1/folders/{quote(folder, safe='')}/{quote(film, safe='')}/"


def place(folder: str, film: str, file: str) -> Place | None:
    """The object that a path of a stream means, decoded; None for one that is not for players."""
    found = _STREAMED.fullmatch(file)
    key = f"{folder}/{film}/{file}"
    if found is None or not is_shown(folder) or not stream_name(film) or folder.count("/") + film.count("/") or key_fault(key):
        return None
    kind: Literal["media", "segment"] = "media" if found["ending"] == "m3u8" else "segment"
    return Place(key, kind, PLAYLIST_TYPE if kind == "media" else _SEGMENT_TYPE)
