"""The bytes of media containers, by hand: for files that no program would write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Final

Body = Callable[[bytes], bytes]
"""Makes another body of a box."""
_CONTAINERS: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta"})


def box(kind: bytes, body: bytes) -> bytes:
    """Of MP4 (ISO/IEC 14496-12 §4.2)."""
    return struct.pack(">I", len(body) + 8) + kind + body


def edited(data: bytes, change: dict[bytes, Body], *, track: bytes = b"") -> bytes:
    """The file with the bodies of all boxes of these kinds changed. `track`: only in the tracks that have a box with this text."""
    out: list[bytes] = []
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + size]
        if kind == b"trak" and track and track not in body:
            out.append(data[at : at + size])
        elif kind in change:
            out.append(box(kind, change[kind](body)))
        elif kind in _CONTAINERS:
            out.append(box(kind, edited(body, change, track=track)))
        else:
            out.append(data[at : at + size])
        at += size
    return b"".join(out)


def png(width: int, height: int, rows: int) -> bytes:
    """A PNG (RFC 2083) of black pixels that is said to be that large, with so many rows in it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = zlib.compress(bytes(1 + 4 * width) * rows, 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def gif(width: int, height: int, frames: int) -> bytes:
    """A GIF89a of so many pictures, each of one pixel on a canvas of that size."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x21\xf9\x04\x04\x04\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return head + frame * frames + b";"


def wav(channels: int, rate: int, *, data_size: int | None = None, samples: int = 400) -> bytes:
    """Silence of 16 bits in RIFF, with any header."""
    body = bytes(2 * channels * samples)
    size = len(body) if data_size is None else data_size
    form = struct.pack("<HHIIHH", 1, channels, rate, (rate * channels * 2) & 0xFFFFFFFF, 2 * channels, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size) + body
    )


def element(number: str, body: bytes) -> bytes:
    """Of Matroska (RFC 8794): its id in hexadecimal, its size in eight bytes."""
    return bytes.fromhex(number) + (len(body) | 1 << 56).to_bytes(8, "big") + body


def flipped(data: bytes, rate: float, seed: int) -> bytes:
    """The data with each bit turned with this probability."""
    random, out = Random(seed), bytearray(data)
    for _ in range(max(1, round(len(data) * 8 * rate))):
        bit = random.randrange(len(data) * 8)
        out[bit // 8] ^= 1 << bit % 8
    return bytes(out)
