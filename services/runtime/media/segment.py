"""A stored segment opened again: its fragments one by one, its first picture alone, a part of its sound. Pure.

Box layouts are those of ISO/IEC 14496-12, written as `cmaf` and ffmpeg write them: one track, offsets from the `moof`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from services.runtime.media import cmaf

_KEY_FLAGS = 0x02000000
"""Sample flags (8.8.3.1): depends on no other, is a sync sample."""
_DEFAULT_BASE_IS_MOOF = 0x020000
_TRUN_FLAGS = 0x1 | 0x100 | 0x200 | 0x400
"""Data offset; duration, size and flags of each sample (8.8.8.1)."""


def fragments_of(segment: bytes) -> Iterator[bytes]:
    """Each `moof` with its `mdat`: a segment that was packaged by copy has one for each group of pictures. Raises NotCmaf."""
    begin = at = 0
    while at < len(segment):
        size, kind = int.from_bytes(segment[at : at + 4], "big"), segment[at + 4 : at + 8]
        if not 8 <= size <= len(segment) - at:
            raise cmaf.NotCmaf(f"a box {kind!r} of {size} bytes in {len(segment) - at}")
        at += size
        if kind == b"mdat":
            yield segment[begin:at]
            begin = at


def first_picture(segment: bytes, *, number: int, decode_time: int, duration: int) -> bytes:
    """A fragment of the first picture alone, shown from `decode_time` on for `duration`, in ticks.

    `segment` may end where the picture ends (`SegmentEntry.intra`). Raises NotCmaf when it is no key frame or not all there.
    """
    begin, end = _data(segment), cmaf.intra_size(segment)
    if not begin < end <= len(segment):
        raise cmaf.NotCmaf("a segment does not begin with a whole key frame")
    return _fragment([(duration, end - begin, _KEY_FLAGS)], segment[begin:end], number, decode_time)


def between(fragment: bytes, begin: int, end: int) -> bytes:
    """Those samples of a fragment of sound that begin at `begin` or later, and before `end`, in ticks. Empty when there are none."""
    kept: list[tuple[int, int, int]] = []
    at, position = cmaf.decode_time(fragment), _data(fragment)
    first_time = first_byte = 0
    for duration, size, flags, _ in cmaf.samples(fragment):
        if begin <= at < end:
            if not kept:
                first_time, first_byte = at, position
            kept.append((duration, size, flags))
        at, position = at + duration, position + size
    if not kept:
        return b""
    data = fragment[first_byte : first_byte + sum(size for _, size, _ in kept)]
    return _fragment(kept, data, 1, first_time)


def _data(segment: bytes) -> int:
    """Where the samples begin: behind the `moof` and the head of the `mdat`."""
    return int.from_bytes(segment[:4], "big") + 8


def _fragment(samples: list[tuple[int, int, int]], data: bytes, number: int, decode_time: int) -> bytes:
    """`samples`: duration, size and flags of each."""
    mfhd = cmaf.boxed(b"mfhd", struct.pack(">II", 0, number))
    tfhd = cmaf.boxed(b"tfhd", struct.pack(">II", _DEFAULT_BASE_IS_MOOF, 1))
    tfdt = cmaf.boxed(b"tfdt", struct.pack(">IQ", 0x01000000, decode_time))
    # Sizes are known beforehand, so the offset is.
    trun_size = 8 + 12 + 12 * len(samples)
    moof_size = 8 + len(mfhd) + 8 + len(tfhd) + len(tfdt) + trun_size
    entries = b"".join(struct.pack(">III", *sample) for sample in samples)
    trun = cmaf.boxed(b"trun", struct.pack(">IIi", _TRUN_FLAGS, len(samples), moof_size + 8) + entries)
    return cmaf.boxed(b"moof", mfhd + cmaf.boxed(b"traf", tfhd + tfdt + trun)) + cmaf.boxed(b"mdat", data)
