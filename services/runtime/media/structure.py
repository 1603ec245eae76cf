"""Whether a file is all there, by the sizes that its container declares. Cheap: a few short reads, nothing is decoded.

ffprobe answers happily for an MP4 that was cut off behind its `moov`; only decoding to the end would show it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

Read = Callable[[int, int], Awaitable[bytes]]
"""The bytes [start, end) of the input; fewer at its end."""

_TYPES = frozenset(
    "ftyp moov mdat moof mfra free skip wide udta uuid meta sidx ssix styp pdin emsg prft pnot PICT junk".split()  # noqa: SIM905
)
"""What may stand outermost (ISO/IEC 14496-12 table 1, and QuickTime's)."""
# A fragmented film has a box every few seconds: looking at more than the first hundred would mean a request each.
_MOST_BOXES = 100
_HEADER = 16


class Structure(msgspec.Struct, frozen=True, kw_only=True):
    """What the outermost boxes say."""

    container: str = ""
    """`mp4`, `matroska`, `riff`, or empty when it is none that declares its size."""
    truncated: str = ""
    """Empty, or what is missing, in words."""
    playlist: str = ""
    """Empty, or which kind of text that only names media this is."""
    index: tuple[int, int] | None = None
    """Where the body of an MP4's `moov` box lies, [start, end); None when it has none."""


async def examine(read: Read, size: int) -> Structure:
    """The structure of an input of `size` bytes."""
    head = await read(0, min(size, 4096))
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"#EXTM3U", b"ffconcat", b"<?xml", b"<svg", b"<MPD", b"v=0")):
        return Structure(playlist=_playlist(head))
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return Structure(container="matroska", truncated=_matroska(head, size))
    if head[:4] in (b"RIFF", b"RIFX"):
        return Structure(container="riff", truncated=_riff(head, size))
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        truncated, index = await _mp4(read, size)
        return Structure(container="mp4", truncated=truncated, index=index)
    return Structure()


async def _mp4(read: Read, size: int) -> tuple[str, tuple[int, int] | None]:
    """What is missing, and where the index lies.

    ISO/IEC 14496-12, 4.2: size (32), type; size 1: the size follows in 64 bits; size 0: up to the end of the file.
    """
    offset, types, index = 0, set[str](), None
    for _ in range(_MOST_BOXES):
        if offset >= size:
            break
        header = await read(offset, min(offset + _HEADER, size))
        if len(header) < 8:
            return "", index
        length, kind, head = int.from_bytes(header[:4], "big"), header[4:8].decode("latin-1"), 8
        if length == 0:
            length = size - offset
        elif length == 1:
            length, head = int.from_bytes(header[8:16], "big"), 16
        if length < head or kind not in _TYPES:
            # Not a box: rubbish behind the last one, which readers pass over.
            break
        types.add(kind)
        if offset + length > size:
            return f"its {kind.strip()!r} box is said to end at byte {offset + length}, the file at byte {size}", index
        if kind == "moov" and index is None:
            index = (offset + head, offset + length)
        offset += length
    else:
        return "", index
    if "mdat" in types and not types & {"moov", "moof"}:
        return "its index (the 'moov' box, which recorders write last) is missing", None
    return "", index


def _riff(head: bytes, size: int) -> str:
    """RIFF: `RIFF`, size of what follows (32). 0 and the highest value are written by recorders that did not know it."""
    declared = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big") + 8
    if declared in (8, 2**32 + 7) or declared <= size:
        return ""
    return f"it is said to be {declared} bytes long, and has {size}"


def _matroska(head: bytes, size: int) -> str:
    """RFC 8794, EBML: the header element, then one Segment, whose size may be unknown (all bits set)."""
    length, at = _ebml_size(head, 4)
    if length is None or at + length + 12 > len(head):
        return ""
    offset = at + length
    if head[offset : offset + 4] != b"\x18\x53\x80\x67":
        return ""
    segment, start = _ebml_size(head, offset + 4)
    if segment is None or start + segment <= size:
        return ""
    return f"its segment is said to end at byte {start + segment}, the file at byte {size}"


def _ebml_size(data: bytes, offset: int) -> tuple[int | None, int]:
    """A variable-size integer and where it ends; None for an unknown size."""
    if offset >= len(data) or data[offset] == 0:
        return None, offset
    width = 9 - data[offset].bit_length()
    value = int.from_bytes(data[offset : offset + width], "big") & ((1 << (7 * width)) - 1)
    return (None if value == (1 << (7 * width)) - 1 else value), offset + width


def _playlist(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"#EXTM3U"):
        return "an HLS playlist"
    if text.startswith(b"ffconcat"):
        return "a concat script"
    if b"<MPD" in head:
        return "a DASH manifest"
    if b"<svg" in head:
        return "an SVG drawing"
    return "an SDP description" if text.startswith(b"v=0") else "an XML document"
