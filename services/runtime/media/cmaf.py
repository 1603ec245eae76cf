"""CMAF by hand: the boxes of fragmented MP4, split, counted and put at their place in time. Pure but for `fragments`.

Box layouts are those of ISO/IEC 14496-12 (ISO base media file format) and 14496-15 (AVC).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from itertools import repeat

import msgspec

from services.runtime.media.failures import StreamBroken

# A fragment is a few seconds of film. One box larger than this is a fault of whoever wrote it.
_LARGEST_BOX = 256 * 1024**2

_DURATION, _SIZE, _FLAGS, _COMPOSITION = 0x100, 0x200, 0x400, 0x800
"""`trun` flags (8.8.8.2): which fields each sample has."""
_DATA_OFFSET, _FIRST_FLAGS = 0x1, 0x4
_NON_SYNC = 0x10000
"""`sample_is_non_sync_sample` (8.8.3.1): the picture cannot be decoded alone."""


class NotCmaf(ValueError):
    """Bytes that are not what ffmpeg writes with our options: a defect, never the user's fault."""


class Init(msgspec.Struct, frozen=True):
    """What an init segment tells."""

    timescale: int
    codecs: str
    """RFC 6381."""
    video: bool
    """Pictures, not sound."""


class Samples(msgspec.Struct, frozen=True):
    """What a fragment holds."""

    count: int
    duration: int
    """In ticks."""
    earliest: int
    """Smallest composition offset in ticks; negative where frames are reordered."""


async def fragments(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """First the init segment (`ftyp` and `moov`), then each `moof` with its `mdat`, the moment it is whole. Other boxes are left out.

    A stream that ends inside of a box raises StreamBroken.
    """
    # Joined once: they are nearly all of what is moved through here.
    parts: list[bytes] = []
    while header := await _header(stream):
        size, kind = int.from_bytes(header[:4], "big"), header[4:]
        if not 8 <= size <= _LARGEST_BOX:
            raise NotCmaf(f"a box {kind!r} of {size} bytes")
        try:
            body = await stream.readexactly(size - 8)
        except asyncio.IncompleteReadError:
            raise StreamBroken(f"the stream ends inside of the box {kind!r}") from None
        if kind in (b"ftyp", b"moov", b"moof", b"mdat"):
            parts += header, body
        if kind in (b"moov", b"mdat"):
            yield b"".join(parts)
            parts.clear()


async def _header(stream: asyncio.StreamReader) -> bytes:
    """Size and type of a box; empty at the end of the stream."""
    try:
        return await stream.readexactly(8)
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise StreamBroken("the stream ends inside of a box header") from None
        return b""


def read_init(data: bytes) -> Init:
    """Time scale and codec of the one track of an init segment."""
    mdia = _path(data, b"moov", b"trak", b"mdia")
    mdhd = _path(mdia, b"mdhd")
    timescale = int.from_bytes(mdhd[20:24] if mdhd[0] == 1 else mdhd[12:16], "big")
    stsd = _path(mdia, b"minf", b"stbl", b"stsd")
    kind, entry = next(_children(stsd[8:]))
    return Init(timescale, _codecs(kind, entry), kind == b"avc1")


def read_samples(fragment: bytes) -> Samples:
    """Counts and times of a fragment."""
    found = samples(fragment)
    return Samples(len(found), sum(s[0] for s in found), min([0, *(s[3] for s in found)]))


def samples(fragment: bytes) -> list[tuple[int, int, int, int]]:
    """Duration, size, flags and composition offset of each sample of a fragment, in order."""
    traf = _path(fragment, b"moof", b"traf")
    defaults = _defaults(_path(traf, b"tfhd"))
    return [sample for kind, body in _children(traf) if kind == b"trun" for sample in _trun(body, defaults)[1]]


def place(fragment: bytes, *, number: int, decode_time: int) -> bytes:
    """The fragment at another place: its number in `mfhd` and its first decoding time, in ticks, in `tfdt` (version 1)."""
    moof = bytearray(fragment[: int.from_bytes(fragment[:4], "big")])
    mfhd = _find(fragment, b"moof", b"mfhd")
    struct.pack_into(">I", moof, mfhd + 4, number)
    tfdt = _find(fragment, b"moof", b"traf", b"tfdt")
    if fragment[tfdt] != 1:
        raise NotCmaf("tfdt has no 64-bit time")
    struct.pack_into(">Q", moof, tfdt + 4, decode_time)
    return b"".join((moof, memoryview(fragment)[len(moof) :]))


def decode_time(fragment: bytes) -> int:
    """What `tfdt` says, in ticks."""
    tfdt = _find(fragment, b"moof", b"traf", b"tfdt")
    return struct.unpack_from(">Q" if fragment[tfdt] == 1 else ">I", fragment, tfdt + 4)[0]


def intra_size(segment: bytes) -> int:
    """Bytes from the beginning of a segment to the end of its first sample: what shows its first picture. 0 when that is no key frame.

    A segment of several fragments counts by its first. Data offsets are from the `moof` (default-base-is-moof, 8.8.7.1).
    """
    traf = _path(segment, b"moof", b"traf")
    tfhd, trun = _path(traf, b"tfhd"), _path(traf, b"trun")
    flags, entries = _trun(trun, _defaults(tfhd))
    if not entries or not flags & _DATA_OFFSET:
        return 0
    first = int.from_bytes(trun[12:16], "big") if flags & _FIRST_FLAGS else entries[0][2]
    if first & _NON_SYNC:
        return 0
    return int.from_bytes(trun[8:12], "big", signed=True) + entries[0][1]


def shift_composition(fragment: bytes, ticks: int) -> bytes:
    """The fragment with `ticks` added to each composition offset, all of which must then be 0 or more; `trun` version 0.

    ffmpeg's reader derives one delay for the whole file from the smallest negative offset it has seen so far, which moves
    when a later fragment has a smaller one. Offsets without a sign leave it nothing to guess.
    """
    moof_size = int.from_bytes(fragment[:4], "big")
    moof = fragment[:moof_size]
    traf = _path(moof, b"traf", start=8)
    defaults = _defaults(_path(traf, b"tfhd"))
    rebuilt, grown = [], 0
    for kind, body in _children(traf):
        if kind == b"trun":
            flags, entries = _trun(body, defaults)
            if any(e[3] + ticks < 0 for e in entries):
                raise NotCmaf("frames are reordered further than the encoder was told to")
            head = body[4:8] + body[8 : 8 + 4 * (bool(flags & _DATA_OFFSET) + bool(flags & _FIRST_FLAGS))]
            fields = b"".join(
                (e[0].to_bytes(4, "big") if flags & _DURATION else b"")
                + (e[1].to_bytes(4, "big") if flags & _SIZE else b"")
                + (e[2].to_bytes(4, "big") if flags & _FLAGS else b"")
                + (e[3] + ticks).to_bytes(4, "big")
                for e in entries
            )
            new = (flags | _COMPOSITION).to_bytes(4, "big") + head + fields
            grown += len(new) - len(body)
            body = new
        rebuilt.append(boxed(kind, body))
    if grown:
        rebuilt = [_moved(box, grown) for box in rebuilt]
    children = [boxed(b"traf", b"".join(rebuilt)) if kind == b"traf" else boxed(kind, body) for kind, body in _children(moof[8:])]
    return boxed(b"moof", b"".join(children)) + fragment[moof_size:]


def _moved(box: bytes, by: int) -> bytes:
    """A `trun` whose data begin `by` bytes later, counted from the `moof` (default-base-is-moof)."""
    if box[4:8] != b"trun" or not int.from_bytes(box[9:12], "big") & _DATA_OFFSET:
        return box
    return box[:16] + struct.pack(">i", struct.unpack_from(">i", box, 16)[0] + by) + box[20:]


def _trun(body: bytes, defaults: tuple[int, int, int]) -> tuple[int, list[tuple[int, int, int, int]]]:
    """Flags, and duration, size, flags and composition offset of each sample."""
    version, flags = body[0], int.from_bytes(body[1:4], "big")
    count = int.from_bytes(body[4:8], "big")
    at = 8 + 4 * (bool(flags & _DATA_OFFSET) + bool(flags & _FIRST_FLAGS))
    wanted = (_DURATION, _SIZE, _FLAGS, _COMPOSITION)
    there = [flag for flag in wanted if flags & flag]
    row = struct.Struct(">" + "".join("i" if flag == _COMPOSITION and version == 1 else "I" for flag in there))
    if at + count * row.size > len(body):
        raise NotCmaf("trun is shorter than its samples")
    # Column by column: a minute of film and sound has five thousand samples.
    columns = dict(zip(there, zip(*row.iter_unpack(body[at : at + count * row.size]), strict=True), strict=False)) if there else {}
    entries = list(zip(*(columns.get(f, repeat(d, count)) for f, d in zip(wanted, (*defaults, 0), strict=True)), strict=True))
    return flags, entries


def _defaults(tfhd: bytes) -> tuple[int, int, int]:
    """Duration, size and flags of samples that do not tell theirs (8.8.7.2: the optional fields stand in the order of their flags)."""
    flags = int.from_bytes(tfhd[1:4], "big")
    at = 8 + 8 * bool(flags & 0x1) + 4 * bool(flags & 0x2)
    values: list[int] = []
    for flag in (0x8, 0x10, 0x20):
        values.append(int.from_bytes(tfhd[at : at + 4], "big") if flags & flag else 0)
        at += 4 * bool(flags & flag)
    return values[0], values[1], values[2]


def _codecs(kind: bytes, entry: bytes) -> str:
    if kind == b"avc1":
        # A visual sample entry is 78 bytes, then boxes (12.1.3); AVCDecoderConfigurationRecord: version, profile, constraints, level.
        avcc = _path(entry[78:], b"avcC")
        return f"avc1.{avcc[1:4].hex()}"
    if kind == b"mp4a":
        # An audio sample entry is 28 bytes, then boxes (12.2.3).
        return f"mp4a.40.{_audio_object_type(_path(entry[28:], b'esds')[4:])}"
    raise NotCmaf(f"a sample entry {kind!r}")


def _audio_object_type(descriptors: bytes) -> int:
    """Of MPEG-4 audio: 2 is AAC-LC, 5 HE-AAC. ISO/IEC 14496-1 §7.2.6 for the descriptors, 14496-3 §1.6.2.1 for what is in the last."""
    at = 0
    # ES_Descriptor (3 bytes, then descriptors), DecoderConfigDescriptor (13 bytes, then descriptors), DecoderSpecificInfo.
    for tag, head in ((0x03, 3), (0x04, 13), (0x05, 0)):
        if at >= len(descriptors) or descriptors[at] != tag:
            raise NotCmaf(f"esds has no descriptor {tag}")
        at += 1
        # The length is in groups of 7 bits; the last one has no bit 8.
        while at < len(descriptors) and descriptors[at] & 0x80:
            at += 1
        at += 1 + head
    if at + 2 > len(descriptors):
        raise NotCmaf("esds does not tell its object type")
    config = int.from_bytes(descriptors[at : at + 2], "big")
    return config >> 11 if config >> 11 != 31 else 32 + (config >> 5 & 0x3F)


def boxed(kind: bytes, body: bytes) -> bytes:
    """A box with its head."""
    return struct.pack(">I", len(body) + 8) + kind + body


def _children(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if not 8 <= size <= len(data) - at:
            raise NotCmaf(f"a box of {size} bytes in {len(data) - at}")
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _path(data: bytes, *kinds: bytes, start: int = 0) -> bytes:
    """The body of a box inside of boxes; the first of each kind."""
    at, end = _span(data, kinds, start)
    return data[at:end]


def _find(data: bytes, *kinds: bytes) -> int:
    """Where the body of a box inside of boxes begins."""
    return _span(data, kinds, 0)[0]


def _span(data: bytes, kinds: tuple[bytes, ...], start: int) -> tuple[int, int]:
    end = len(data)
    for wanted in kinds:
        at = start
        while at + 8 <= end:
            size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
            if not 8 <= size <= end - at:
                raise NotCmaf(f"a box {kind!r} of {size} bytes in {end - at}")
            if kind == wanted:
                start, end = at + 8, at + size
                break
            at += size
        else:
            raise NotCmaf(f"there is no box {b'/'.join(kinds).decode()}")
    return start, end
