"""Truncation is seen by the sizes that containers declare."""

from __future__ import annotations

import pytest

from services.runtime.media import structure


async def examine(data: bytes) -> structure.Structure:
    async def read(start: int, end: int) -> bytes:
        return data[start:end]

    return await structure.examine(read, len(data))


def box(kind: bytes, size: int, body: bytes = b"") -> bytes:
    return size.to_bytes(4, "big") + kind + body


FTYP = box(b"ftyp", 16, b"isom\0\0\0\0")


@pytest.mark.parametrize(
    "data",
    [
        FTYP + box(b"moov", 16, b"12345678") + box(b"mdat", 12, b"abcd"),
        FTYP + box(b"mdat", 12, b"abcd") + box(b"moov", 16, b"12345678"),
        FTYP + box(b"moov", 8) + box(b"mdat", 0, b"to the end"),
        FTYP + box(b"moov", 8) + b"\0\0\0\1mdat" + (20).to_bytes(8, "big") + b"abcd",
        FTYP + box(b"moov", 8) + box(b"mdat", 8) + b"rubbish behind the end",
        b"RIFF" + (12).to_bytes(4, "little") + b"AVI LIST....",
        b"RIFF" + b"\0\0\0\0" + b"AVI ",
        b"\x1a\x45\xdf\xa3\x84abcd" + b"\x18\x53\x80\x67" + b"\x01" + b"\xff" * 7 + b"x" * 20,
        b"\x1a\x45\xdf\xa3\x84abcd" + b"\x18\x53\x80\x67" + b"\x94" + b"x" * 20,
        b"whatever this is",
    ],
)
async def test_a_whole_file_is_not_called_truncated(data: bytes) -> None:
    found = await examine(data)
    assert (found.truncated, found.playlist) == ("", "")


@pytest.mark.parametrize(
    ("data", "index"),
    [
        (FTYP + box(b"moov", 16, b"12345678") + box(b"mdat", 12, b"abcd"), b"12345678"),
        (FTYP + box(b"mdat", 12, b"abcd") + box(b"moov", 0, b"to the end"), b"to the end"),
        (FTYP + b"\0\0\0\1moov" + (20).to_bytes(8, "big") + b"wide" + box(b"moov", 10, b"2."), b"wide"),
        (FTYP + box(b"moof", 8) + box(b"mdat", 12, b"moov"), None),
        (FTYP + box(b"moov", 1000, b"cut off"), None),
        (b"\x1a\x45\xdf\xa3\x84abcd" + b"\x18\x53\x80\x67" + b"\x94" + b"x" * 20, None),
    ],
)
async def test_where_the_index_lies(data: bytes, index: bytes | None) -> None:
    found = (await examine(data)).index
    assert (data[slice(*found)] if found else None) == index


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (FTYP + box(b"moov", 8) + box(b"mdat", 1000, b"abcd"), "'mdat' box is said to end at byte 1024, the file at byte 36"),
        (FTYP + box(b"mdat", 12, b"abcd"), "'moov' box"),
        (FTYP + box(b"mdat", 0, b"abcd"), "'moov' box"),
        (b"RIFF" + (5000).to_bytes(4, "little") + b"AVI LIST", "5008 bytes"),
        (b"\x1a\x45\xdf\xa3\x84abcd" + b"\x18\x53\x80\x67" + b"\x50\x00" + b"x" * 20, "segment is said to end"),
    ],
)
async def test_a_file_that_was_cut_off_says_where(data: bytes, reason: str) -> None:
    assert reason in (await examine(data)).truncated


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "an HLS playlist"),
        (b"\xef\xbb\xbf\n#EXTM3U\n", "an HLS playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "a concat script"),
        (b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011">', "a DASH manifest"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "an SVG drawing"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", "an SDP description"),
    ],
)
async def test_text_that_only_names_media_is_told_apart(data: bytes, kind: str) -> None:
    assert (await examine(data)).playlist == kind
