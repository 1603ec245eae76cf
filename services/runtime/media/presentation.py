"""A film in segments: which renditions there are, of which segments each consists, and under which names they lie. Pure.

What writes segments (an encode, or packaging by copy) leaves this as `manifest.json` in the film's folder; what writes
playlists reads it, and no segment is opened for it again.

    {folder}/manifest.json, master.m3u8, aes.key        {folder} = assets/{asset}/{recipe}
    {folder}/{rendition}/init.mp4, 00000.m4s …, index.m3u8, iframes.m3u8
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

MANIFEST = "manifest.json"
MASTER = "master.m3u8"
MEDIA = "index.m3u8"
IFRAMES = "iframes.m3u8"
INIT = "init.mp4"
KEY = "aes.key"
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
"""RFC 8216 §4."""
SEGMENT_TYPE = "video/iso.segment"
"""RFC 8216bis leaves it open; DASH-IF and CDNs use this for media segments."""
INIT_TYPE = "video/mp4"
MANIFEST_LIMIT = 64 * 1024**2
"""Bytes; a day of film in five renditions has 2 MB."""
SEGMENT_LIMIT = 256 * 1024**2
"""Bytes; what is read as one segment is held in memory."""


class SegmentEntry(msgspec.Struct, frozen=True, array_like=True):
    """One segment. An array in JSON: a long film has thousands."""

    ticks: int
    """Its length, in the rendition's time scale."""
    size: int
    """Bytes as stored."""
    intra: int = 0
    """Bytes from its beginning to the end of its first picture, which is a key frame. 0: unknown, sound, or encrypted."""


class Rendition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of several versions of picture or sound, in segments numbered from 0 without a hole."""

    name: str
    """Its folder: `video-720`, `audio-eng`."""
    kind: Literal["video", "audio"]
    codecs: str
    """RFC 6381."""
    timescale: int
    """Ticks per second."""
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    language: str = "und"
    """ISO 639 as the source tells it, `und` when it does not."""
    label: str = ""
    """For people, when the source names the track."""
    default: bool = False
    """The sound that plays when nobody chose."""
    channels: int = 0
    reorder: int = 0
    """Ticks by which composition offsets go below 0 at most: how long before its decoding time a picture may be shown."""
    ceiling: int = 0
    """Bits per second that the encoder was told to stay under, over two seconds; 0 when nobody told it."""
    segments: tuple[SegmentEntry, ...] = ()

    @property
    def seconds(self) -> float:
        """The sum of its segments."""
        return sum(s.ticks for s in self.segments) / self.timescale if self.timescale else 0.0

    @property
    def size(self) -> int:
        """Bytes of its segments."""
        return sum(s.size for s in self.segments)

    def durations(self) -> list[float]:
        """Of each segment, in seconds."""
        return [s.ticks / self.timescale for s in self.segments]


class Encryption(msgspec.Struct, frozen=True, kw_only=True):
    """AES-128 of whole segments (RFC 8216 §4.3.2.4); init segments stay clear. The key lies in `KEY`, 16 bytes."""

    iv: str
    """32 hexadecimal digits."""


class Presentation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `manifest.json` holds."""

    asset_id: str
    recipe: str
    """Name of the folder below the asset's."""
    folder: str
    renditions: tuple[Rendition, ...]
    encryption: Encryption | None = None

    @property
    def videos(self) -> tuple[Rendition, ...]:
        """Largest picture first."""
        return tuple(sorted((r for r in self.renditions if r.kind == "video"), key=lambda r: -r.width * r.height))

    @property
    def audios(self) -> tuple[Rendition, ...]:
        return tuple(r for r in self.renditions if r.kind == "audio")

    @property
    def seconds(self) -> float:
        return max((r.seconds for r in self.renditions), default=0.0)


def folder_of(asset_id: str, recipe: str) -> str:
    return f"assets/{asset_id}/{recipe}"


def segment_name(number: int) -> str:
    return f"{number:05d}.m4s"


def segment_key(folder: str, rendition: str, number: int) -> str:
    return f"{folder}/{rendition}/{segment_name(number)}"


def init_key(folder: str, rendition: str) -> str:
    return f"{folder}/{rendition}/{INIT}"


def video_name(side: int) -> str:
    """Folder of a rung, by its short side in pixels."""
    return f"video-{side}"


def audio_names(languages: Sequence[str]) -> list[str]:
    """Folders of sound tracks: `audio-eng`, and `audio-eng-2` for a second one of the same language."""
    seen: dict[str, int] = {}
    names: list[str] = []
    for language in languages:
        seen[language] = seen.get(language, 0) + 1
        names.append(f"audio-{language}" if seen[language] == 1 else f"audio-{language}-{seen[language]}")
    return names


def encode(presentation: Presentation) -> bytes:
    """JSON; equal presentations give equal bytes."""
    return msgspec.json.encode(presentation, order="deterministic")


_DECODER = msgspec.json.Decoder(Presentation)


def decode(body: bytes) -> Presentation:
    """Raises msgspec.ValidationError or DecodeError for what is no manifest."""
    return _DECODER.decode(body)
