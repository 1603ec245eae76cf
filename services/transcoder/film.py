"""What every task of a transcode knows: the plan's data, the tasks' parameters and their results."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.events import Recipe
from services.runtime.media.encryption import SegmentKey
from services.runtime.media.presentation import SegmentEntry
from services.runtime.media.probe import Source
from services.transcoder.ladder import Rung
from services.transcoder.segments import Chunk, Grid


class Film(msgspec.Struct, frozen=True, kw_only=True):
    """`Plan.data`."""

    asset_id: str
    title: str
    bucket: str
    """Of the source."""
    key: str
    etag: str
    """Of the source when it was planned. Another one later fails the job: parts of two films would be mixed."""
    source: Source
    recipe: Recipe
    recipe_hash: str
    watermark_etag: str = ""
    rungs: tuple[Rung, ...] = ()
    grid: Grid | None = None
    """None: there is no picture."""
    frames: int = 0
    """Expected; 0 when unknown."""
    frames_certain: bool = False
    origin_seconds: float = 0.0
    """Time of the first frame on the source's clock; of the first sound where there is no picture."""
    copied: bool = False
    """The film is taken over as it is."""
    encryption: SegmentKey | None = None
    """Of the segments. Made by chance, once: plans are."""

    @property
    def beside(self) -> bool:
        return self.recipe.layout == "beside"


class EncodeVideo(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="encode-video"):
    chunk: Chunk


class EncodeAudio(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="encode-audio"):
    track: int = 0
    """Which of `Source.audios`."""


class ComposeMp4(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="compose-mp4"):
    side: int
    """0: sound only."""


class CopyMp4(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="copy-mp4"):
    copy_audio: bool


class MakeStills(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="make-stills"):
    pass


Work = EncodeVideo | EncodeAudio | ComposeMp4 | CopyMp4 | MakeStills


class RungMade(msgspec.Struct, frozen=True, kw_only=True):
    side: int
    frames: int
    segments: tuple[SegmentEntry, ...]
    init_hash: str
    """Every chunk of a rung must have the same init segment."""
    codecs: str


class VideoMade(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="video"):
    chunk: int
    frames: int
    rungs: tuple[RungMade, ...]


class AudioMade(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="audio"):
    track: int
    """Which of `Source.audios`."""
    seconds: float
    segments: tuple[SegmentEntry, ...]
    """None: the source announces the track and has no sound in it."""
    codecs: str


class FileMade(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="file"):
    """An object that is an output of the job."""

    role: Literal["rendition", "poster", "thumbnail"]
    bucket: str
    key: str
    size: int
    etag: str
    content_type: str
    name: str = ""
    width: int = 0
    height: int = 0
    bit_rate: int = 0
    codecs: str = ""
    frames: int = 0
    seconds: float = 0.0


class StillsMade(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="stills"):
    files: tuple[FileMade, ...]


Made = VideoMade | AudioMade | FileMade | StillsMade
