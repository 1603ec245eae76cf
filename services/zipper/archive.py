"""What every task of an archive knows: the plan's data, the tasks' parameters and their results."""

from __future__ import annotations

from typing import Literal

import msgspec

from services.runtime.archives.records import Method

CrcSource = Literal["own", "head", "copy", "read", "moved"]
"""See `ZipCompleted.crc_sources`."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An object that goes into the archive, pinned to what it was when the job was planned."""

    bucket: str
    key: str
    etag: str
    size: int
    modified_ms: int
    name: str
    """In the archive."""
    method: Literal["store", "deflate", "look"] = "look"
    """`look`: its content decides."""
    crc32: int | None = None
    crc_source: CrcSource = "moved"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the archive is to appear."""

    bucket: str
    key: str
    replace: bool = False


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """`Plan.data`. The sources stand as the archive has them: first those that are cut, then those that are packed."""

    target: Target
    sources: tuple[Source, ...]
    copied: bool = False
    """Ranges of large sources are copied inside the store."""
    checksums: bool = False
    """The store is asked for the CRC-32 of what it copies."""
    slices: tuple[int, ...] = ()
    """More parts than an upload may have: the archive is put together from so many objects; most parts of each in the archive."""
    planned_ms: int = 0


# ── Tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes [start, end) of a source that become a part as they are."""

    source: int
    start: int
    end: int
    part: int
    slice: int = 0


class MoveRanges(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="move"):
    """Ranges of large sources."""

    ranges: tuple[Range, ...]


class MakePack(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="pack"):
    """The sources [first, last), one after the other with their headers, in parts of `part_bytes`."""

    first: int
    last: int
    part: int
    """Number of the first one; as many as `parts` are kept free."""
    parts: int
    """0: all of it is put aside for `finish`."""
    part_bytes: int
    slice: int = 0


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The part that begins a large source: its header and its first bytes, up to where its ranges begin."""

    source: int
    end: int
    part: int
    slice: int = 0


class WriteHeads(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="heads"):
    heads: tuple[Head, ...]


class JoinSlice(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="join"):
    """Complete a slice and copy it into the archive."""

    slice: int
    part: int
    """Number of its first part in the archive."""


Work = MoveRanges | MakePack | WriteHeads | JoinSlice


# ── Results ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A part that was written. `slice` -1: of the archive itself."""

    number: int
    etag: str
    size: int
    slice: int = 0
    crc32: int | None = None
    """Where the upload is one with checksums: it is completed with them."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a task has moved, in bytes, and its processor time."""

    bytes_in: int = 0
    bytes_out: int = 0
    copied: int = 0
    cpu_seconds: float = 0.0


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """CRC-32 of the bytes [start, end) of a source."""

    source: int
    start: int
    end: int
    crc32: int
    how: CrcSource


class RangesMoved(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="ranges"):
    parts: tuple[Stored, ...]
    sums: tuple[Sum, ...]
    cost: Cost


class PackEntry(msgspec.Struct, frozen=True, array_like=True):
    """Of a source in a pack."""

    crc32: int
    compressed: int
    method: Method


class PackMade(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="pack"):
    entries: tuple[PackEntry, ...]
    """In the order of the sources."""
    parts: tuple[Stored, ...]
    left: int
    """Bytes that are too few for a part; they lie in an object of the job."""
    cost: Cost


class HeadsWritten(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="heads"):
    parts: tuple[Stored, ...]
    crcs: tuple[tuple[int, int, CrcSource], ...]
    """Source, CRC-32 of the whole of it, and where that came from."""
    cost: Cost


class SliceJoined(msgspec.Struct, frozen=True, kw_only=True, tag_field="made", tag="slice"):
    parts: tuple[Stored, ...]
    cost: Cost


Moved = RangesMoved | PackMade
Made = Moved | HeadsWritten | SliceJoined
