"""What every task of a stream job knows: the plan's data, the tasks' parameters and their results."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.events import Output
from services.runtime.media.encryption import SegmentKey
from services.runtime.media.probe import Source


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """A source that is packaged as it is."""

    bucket: str
    key: str
    etag: str
    """When it was planned. Another one later fails the job: parts of two films would be mixed."""
    source: Source
    start_seconds: float
    """What becomes 0: when its first picture, else its first sound, is to be seen or heard on its own clock."""
    frames: int
    """Pictures that it has."""
    segment_seconds: float
    """Groups of pictures are joined into a segment as long as it gets no longer than this."""
    thumbnail_at: str = "10%"
    """Where poster and thumbnail are taken, as the recipe says."""
    encryption: SegmentKey | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the flat layout goes."""

    bucket: str
    folder: str
    """With the slash at its end."""
    stem: str
    """What the names of this job's segments begin with, so that an older playlist beside them stays valid."""


class Film(msgspec.Struct, frozen=True, kw_only=True):
    """`Plan.data`."""

    asset_id: str
    recipe: str
    folder: str
    """Where manifest and segments lie, or will."""
    layout: Literal["asset", "flat-ts"]
    original: Original | None = None
    """None: the segments are there."""
    target: Target | None = None
    several: bool = False
    """Flat, and heights were asked for: output.m3u8 names a playlist for each."""


class PackageOriginal(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="package"):
    pass


class MakeStoryboard(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="make-storyboard"):
    pass


class WriteFlat(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="write-flat"):
    rendition: str
    window: int
    """Which part of the film, from 0."""
    last: bool
    """The last one takes whatever is left."""


Work = PackageOriginal | MakeStoryboard | WriteFlat


class PackagedMade(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="packaged"):
    segments: int
    size: int


class StoryboardMade(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="storyboard"):
    files: tuple[Output, ...]
    """And those of poster and thumbnail, where no transcode has made them."""


class FlatSegment(msgspec.Struct, frozen=True, array_like=True):
    name: str
    seconds: float
    size: int


class FlatMade(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="flat"):
    rendition: str
    window: int
    segments: tuple[FlatSegment, ...]


Made = PackagedMade | StoryboardMade | FlatMade
