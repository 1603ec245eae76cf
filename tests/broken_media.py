"""Media that strangers might send: broken, absurd, or made to read what is not theirs.

    file = broken("dref-file", traps)      # by kind
    file = broken(17)                      # by number: one of the kinds, always the same one
    file.filename, file.data

Everything is made here, out of `tests.clips`' synthetic films or byte by byte, and is the same each time. Each file is small.
`traps` say what a hostile file tries to reach.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from tests import clips
from tests.containers import Body, box, edited, element, flipped, gif, png, wav


class Traps(NamedTuple):
    """What must not be reached: a file, and an HTTP server's address."""

    path: str = "/etc/passwd"
    url: str = "http://127.0.0.1:9/secret"


class Broken(NamedTuple):
    """A file as a stranger sends it."""

    kind: str
    filename: str
    data: bytes


Maker = Callable[[Traps], tuple[str, bytes]]
_MAKERS: dict[str, Maker] = {}


SLOW: Final = frozenset({"one-picture-in-days", "time-scale-of-all-0"})
"""By their clocks they last for hours: at these a service with its usual limits works for minutes."""


def kinds() -> list[str]:
    """All kinds, by name."""
    return list(_MAKERS)


def broken(which: str | int, traps: Traps | None = None) -> Broken:
    """A file of that kind, or for a number one of any kind but `SLOW`. Raises KeyError for a kind that is not there."""
    kind = Random(which).choice([k for k in kinds() if k not in SLOW]) if isinstance(which, int) else which
    filename, data = _MAKERS[kind](traps or Traps())
    return Broken(kind, filename, data)


def _kind(name: str) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        _MAKERS[name] = maker
        return maker

    return add


def _fixed(kind: str, filename: str, data: Callable[[], bytes]) -> None:
    _MAKERS[kind] = lambda _: (filename, data())


# ── The films that are broken here. All are of one second, of test pictures with a tone.

_SIZE: Final = "64x48"
_X264: Final = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


def film() -> bytes:
    """H.264 and AAC in an MP4; the index stands behind the media, so boxes of it may grow."""
    return clips.moving(_SIZE, "25", 1).read_bytes()


def _made(*codec: str, suffix: str, sound: bool = True, size: str = _SIZE, seconds: float = 1, rate: str = "25") -> bytes:
    return clips.moving(size, rate, seconds, sound=sound, codec=codec, suffix=suffix).read_bytes()


def plain(size: str, *codec: str, suffix: str) -> bytes:
    """A second of two grey pictures, in any size."""
    return clips.make(
        "-f", "lavfi", "-i", f"color=gray:size={size}:rate=2:duration=1", "-preset", "ultrafast", *codec, suffix=suffix
    ).read_bytes()


def _fast() -> bytes:
    """The index in front."""
    return _made(*_X264, "-movflags", "+faststart", suffix=".mp4")


def _matroska() -> bytes:
    return _made(*_X264, suffix=".mkv")


# ── Boxes of MP4 (ISO/IEC 14496-12).


def _video(change: dict[bytes, Body]) -> bytes:
    return edited(film(), change, track=b"vide")


def _with(at: int, layout: str, *values: int) -> Body:
    """Writes numbers at an offset of a body."""

    def change(body: bytes) -> bytes:
        data = bytearray(body)
        struct.pack_into(layout, data, at, *values)
        return bytes(data)

    return change


def _without(kind: bytes) -> bytes:
    data = film()
    at = data.index(kind) - 4
    return data[:at] + data[at + int.from_bytes(data[at : at + 4], "big") :]


def _long_header(duration: int, timescale: int = 1000) -> Body:
    """`mvhd` and `mdhd` of version 1 begin alike: times, time scale, duration (64)."""

    def change(body: bytes) -> bytes:
        return b"\x01\x00\x00\x00" + struct.pack(">QQIQ", 0, 0, timescale, duration) + body[20:]

    return change


def _long_track(duration: int) -> Body:
    def change(body: bytes) -> bytes:
        return b"\x01" + body[1:4] + struct.pack(">QQ", 0, 0) + body[12:20] + struct.pack(">Q", duration) + body[24:]

    return change


# ── Nothing, and no media at all.

_fixed("empty", "film.mp4", lambda: b"")
_fixed("one-byte", "film.mp4", lambda: b"\0")
_fixed("text", "film.mp4", lambda: b"Dear all,\nthe film is on the other disk.\n" * 50)
_fixed("html", "film.mp4", lambda: b"<!DOCTYPE html><html><title>404</title><video src='http://127.0.0.1/'></video></html>")
_fixed("random", "film.mkv", lambda: Random(1).randbytes(60_000))
_fixed("random-behind-ftyp", "film.mp4", lambda: film()[:32] + Random(2).randbytes(60_000))
_fixed("zeros", "film.mp4", lambda: bytes(200_000))
_fixed("program", "film.mp4", lambda: b"\x7fELF\x02\x01\x01" + Random(3).randbytes(4000))
_fixed("zip", "film.mp4", lambda: b"PK\x03\x04" + Random(4).randbytes(4000))
_fixed("subtitles-srt", "film.srt", lambda: b"1\n00:00:00,000 --> 00:00:01,000\n<font face='/etc/passwd'>x</font>\n")


@_kind("subtitles-ass")
def _ass(traps: Traps) -> tuple[str, bytes]:
    font = b"[Fonts]\nfontname: x.ttf\n" + b"!" * 400
    text = f"[Script Info]\nScriptType: v4.00+\n[V4+ Styles]\nStyle: A,{traps.path},20\n[Events]\n"
    text += "Dialogue: 0,0:00:00.00,0:00:01.00,A,,0,0,0,,x\n"
    return "film.ass", text.encode() + font


# ── Not all of it.

_fixed("cut-in-the-head", "film.mp4", lambda: film()[:40])
_fixed("cut-in-the-middle", "film.mp4", lambda: film()[: len(film()) // 2])
_fixed("cut-in-the-index", "film.mp4", lambda: film()[:-300])
_fixed("index-missing", "film.mp4", lambda: _without(b"moov"))
_fixed("index-alone", "film.mp4", lambda: _without(b"mdat"))
_fixed("media-cut-behind-the-index", "film.mp4", lambda: _fast()[: len(_fast()) * 2 // 3])
_fixed("media-zeroed", "film.mp4", lambda: edited(film(), {b"mdat": lambda body: bytes(len(body))}))
_fixed("media-of-noise", "film.mp4", lambda: edited(film(), {b"mdat": lambda body: Random(5).randbytes(len(body))}))
_fixed("mkv-cut", "film.mkv", lambda: _matroska()[: len(_matroska()) // 2])
_fixed("avi-cut", "film.avi", lambda: _avi()[: len(_avi()) // 2])
_fixed("ts-begins-anywhere", "film.ts", lambda: _ts()[len(_ts()) // 3 + 77 :])


# ── Boxes that lie about themselves.


def _box_size(kind: bytes, size: bytes) -> bytes:
    data = bytearray(film())
    at = data.index(kind) - 4
    data[at : at + len(size)] = size
    return bytes(data)


def _nested(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = box(b"moov", body)
    return film()[:32] + body


_fixed("box-of-size-0", "film.mp4", lambda: _box_size(b"moov", bytes(4)))
_fixed("box-of-size-1", "film.mp4", lambda: _box_size(b"trak", b"\0\0\0\1"))
_fixed("box-of-size-7", "film.mp4", lambda: _box_size(b"trak", b"\0\0\0\7"))
_fixed("box-beyond-the-end", "film.mp4", lambda: _box_size(b"moov", b"\x7f\xff\xff\xff"))
_fixed("inner-box-beyond-the-end", "film.mp4", lambda: _box_size(b"stbl", b"\x7f\xff\xff\xff"))
_fixed("box-of-negative-size", "film.mp4", lambda: film()[:32] + b"\0\0\0\1moov" + b"\xff" * 8 + film()[32:])
_fixed("boxes-in-boxes", "film.mp4", lambda: _nested(5000))
_fixed("stts-of-2^31", "film.mp4", lambda: _video({b"stts": _with(8, ">II", 2**31 - 1, 512)}))
_fixed("stts-claims-2^31-entries", "film.mp4", lambda: _video({b"stts": _with(4, ">I", 2**31 - 1)}))
_fixed("stsz-claims-2^31-entries", "film.mp4", lambda: _video({b"stsz": _with(8, ">I", 2**31 - 1)}))
_fixed("stsz-2^32-equal-samples", "film.mp4", lambda: _video({b"stsz": lambda _: struct.pack(">III", 0, 1, 2**32 - 1)}))
_fixed("stsz-samples-of-2^31", "film.mp4", lambda: _video({b"stsz": lambda b: b[:12] + b"\x7f\xff\xff\xff" * ((len(b) - 12) // 4)}))
_fixed("stsc-wild", "film.mp4", lambda: _video({b"stsc": lambda _: struct.pack(">II", 0, 2) + struct.pack(">6I", 9, 2**31, 7, 1, 0, 0)}))
_fixed("stco-behind-the-end", "film.mp4", lambda: _video({b"stco": lambda b: b[:8] + b"\x7f\xff\xff\xff" * ((len(b) - 8) // 4)}))
_fixed("stss-wild", "film.mp4", lambda: _video({b"stss": lambda _: struct.pack(">II3I", 0, 3, 0, 2**32 - 1, 5)}))
_fixed("no-key-frame", "film.mp4", lambda: _video({b"stss": lambda _: struct.pack(">II", 0, 0)}))
_fixed(
    "ctts-wild",
    "film.mp4",
    lambda: _video({b"ctts": lambda _: struct.pack(">II", 0, 25) + b"".join(struct.pack(">Ii", 1, (-1) ** n * 2**30) for n in range(25))}),
)
_fixed("codec-tags-wrong", "film.mp4", lambda: film().replace(b"avc1\0", b"vp09\0", 1).replace(b"mp4a\0", b"alac\0", 1))
_fixed("codec-tags-unknown", "film.mp4", lambda: film().replace(b"avc1\0", b"zzzz\0", 1).replace(b"mp4a\0", b"yyyy\0", 1))
_fixed("decoder-record-of-noise", "film.mp4", lambda: _decoder_record())


def _decoder_record() -> bytes:
    data = bytearray(film())
    at = data.index(b"avcC")
    size = int.from_bytes(data[at - 4 : at], "big")
    data[at + 4 : at - 4 + size] = Random(6).randbytes(size - 8)
    return bytes(data)


# ── Times.

_fixed("edits-wild", "film.mp4", lambda: _video({b"elst": lambda _: _edits()}))
_fixed(
    "edits-of-centuries",
    "film.mp4",
    lambda: _video({b"elst": lambda _: struct.pack(">II", 0, 1) + struct.pack(">IiI", 2**32 - 1, 0, 65536)}),
)
_fixed(
    "edit-empty-for-weeks",
    "film.mp4",
    lambda: _video({b"elst": lambda b: struct.pack(">II", 0, 2) + struct.pack(">IiI", 2**31, -1, 65536) + b[8:20]}),
)
_fixed("time-scale-0", "film.mp4", lambda: _video({b"mdhd": _with(12, ">I", 0)}))
_fixed("time-scale-of-all-0", "film.mp4", lambda: edited(film(), {b"mdhd": _with(12, ">I", 0), b"mvhd": _with(12, ">I", 0)}))
_fixed("2^31-ticks-a-second", "film.mp4", lambda: _video({b"mdhd": _with(12, ">I", 2**31 - 1), b"stts": _with(12, ">I", 1)}))
_fixed("one-picture-in-days", "film.mp4", lambda: _video({b"stts": _with(12, ">I", 2**31 - 1)}))
_fixed("time-runs-back", "film.mp4", lambda: _video({b"stts": _with(12, ">i", -512)}))
_fixed("time-stands", "film.mp4", lambda: _video({b"stts": _with(12, ">I", 0)}))
_fixed(
    "said-to-last-for-ages",
    "film.mp4",
    lambda: edited(film(), {b"mvhd": _long_header(2**62), b"mdhd": _long_header(2**62, 12800), b"tkhd": _long_track(2**62)}),
)
_fixed(
    "said-to-last-a-year",
    "film.mp4",
    lambda: edited(film(), {b"mvhd": _long_header(31_536_000_000), b"mdhd": _long_header(403_660_800_000, 12800)}),
)
_fixed("mkv-said-to-last-for-ages", "film.mkv", lambda: _mkv_duration(1e300))
_fixed("mkv-said-to-last-nan", "film.mkv", lambda: _mkv_duration(float("nan")))
_fixed("mkv-said-to-last-a-year", "film.mkv", lambda: _mkv_duration(31_536_000_000.0))
_fixed("ts-clock-jumps", "film.ts", lambda: _ts() + _made(*_X264, "-output_ts_offset", "90000", suffix=".ts") + _ts())


def _edits() -> bytes:
    wild = [(2**32 - 1, -(2**31), 1), (0, 0, 0), (5, 2**31 - 1, 65536), (1, -1, -(2**31))]
    return struct.pack(">II", 0, 400) + b"".join(struct.pack(">Iii", *wild[n % 4]) for n in range(400))


def _mkv_duration(value: float) -> bytes:
    """Segment\\Info\\Duration (0x4489), in milliseconds."""
    # Without the tracks' own, which stand in tags.
    data = bytearray(_matroska().replace(b"DURATION", b"DURATIOX"))
    at = data.index(b"\x44\x89\x88")
    struct.pack_into(">d", data, at + 3, value)
    return bytes(data)


# ── Pictures of absurd sizes.


def _stated_size(width: int, height: int) -> bytes:
    """In the sample entry (12.1.3) and in `tkhd`; the pictures are what they were."""
    change = {b"stsd": _with(8 + 8 + 24, ">HH", width, height), b"tkhd": _with(76, ">II", width << 16, height << 16)}
    return _video(change)


def _large_inside(suffix: str = ".mp4") -> bytes:
    """Pictures of 8192 × 8192 that are said to be small."""
    data = plain("8192x8192", *_X264, suffix=suffix)
    return edited(data, {b"stsd": _with(8 + 8 + 24, ">HH", 64, 48), b"tkhd": _with(76, ">II", 64 << 16, 48 << 16)})


_fixed("said-to-be-0x0", "film.mp4", lambda: _stated_size(0, 0))
_fixed("said-to-be-65535x65535", "film.mp4", lambda: _stated_size(65535, 65535))
_fixed("said-to-be-8192x4352", "film.mp4", lambda: _stated_size(8192, 4352))
_fixed("larger-than-said", "film.mp4", _large_inside)
_fixed("1x1", "film.mkv", lambda: plain("1x1", "-c:v", "ffv1", suffix=".mkv"))
_fixed("2000x2", "film.mkv", lambda: plain("2000x2", "-c:v", "ffv1", suffix=".mkv"))
_fixed(
    "size-changes",
    "film.ts",
    lambda: (
        _ts()
        + _made(*_X264, "-output_ts_offset", "1", suffix=".ts", size="320x200")
        + _made(*_X264, "-output_ts_offset", "2", suffix=".ts", size="96x320")
    ),
)
_fixed("png-of-30000x30000", "film.mp4", lambda: png(30_000, 30_000, 2000))
_fixed("png-as-a-film", "film.mkv", lambda: _png_film())
_fixed("gif-of-30000x30000", "film.gif", lambda: gif(30_000, 30_000, 20))
_fixed("gif-of-65535x65535", "film.gif", lambda: gif(65_535, 65_535, 3))
_fixed("still-picture", "film.mp4", lambda: _made("-c:v", "mjpeg", "-frames:v", "1", "-f", "mjpeg", suffix=".jpg", sound=False))
_fixed("100000-pictures-a-second", "film.mkv", lambda: _made("-c:v", "mjpeg", suffix=".mkv", sound=False, rate="1000", seconds=0.5))


def _png_film() -> bytes:
    """A film in Matroska whose one picture is a PNG of 20,000 × 20,000."""
    card = ("-f", "lavfi", "-i", "color=size=64x48:rate=1:duration=1", "-frames:v", "1", "-c:v", "png")
    data = clips.make(*card, suffix=".mkv").read_bytes()
    # Block and cluster keep their sizes: what is too long for them is cut.
    at = data.index(b"\x89PNG")
    room = len(data) - at
    return data[:at] + png(20_000, 20_000, 200)[:room].ljust(room, b"\0")


# ── Sound.


_fixed("255-channels", "sound.wav", lambda: wav(255, 48_000))
_fixed("0-channels", "sound.wav", lambda: wav(0, 48_000))
_fixed("sound-of-4-GHz", "sound.wav", lambda: wav(2, 2**32 - 1))
_fixed("sound-said-to-be-4-GB", "sound.wav", lambda: wav(2, 8000, data_size=2**32 - 2))
_fixed("sound-of-1-Hz", "sound.wav", lambda: wav(1, 1, samples=60))


# ── Other containers, damaged.


def _avi() -> bytes:
    return _made("-c:v", "mpeg4", "-c:a", "mp3", suffix=".avi")


def _ts() -> bytes:
    return _made(*_X264, suffix=".ts")


def _avi_index() -> bytes:
    data = bytearray(_avi())
    at = data.index(b"idx1") + 8
    data[at:] = Random(7).randbytes(len(data) - at)
    return bytes(data)


def _flv_head() -> bytes:
    return _made("-c:v", "flv", "-ar", "44100", suffix=".flv")[:400]


_fixed("avi-index-of-noise", "film.avi", _avi_index)
_fixed("avi-lists-in-lists", "film.avi", lambda: b"RIFF\xff\xff\xff\x7fAVI " + b"LIST\xff\xff\xff\x7fhdrl" * 4000)
_fixed("flv-of-noise", "film.flv", lambda: _flv_head() + Random(8).randbytes(30_000))
_fixed("swf", "film.swf", lambda: b"CWS\x0a" + struct.pack("<I", 2**31) + zlib.compress(Random(9).randbytes(3000)))
_fixed("ogg-of-noise", "film.ogg", lambda: b"OggS\0\x02" + Random(10).randbytes(9000))
_fixed("mxf-of-noise", "film.mxf", lambda: bytes.fromhex("060e2b34020501010d0102010102040083000000") + Random(11).randbytes(9000))
_fixed("asf-of-noise", "film.wmv", lambda: bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + Random(12).randbytes(9000))
_fixed("mpeg-of-noise", "film.mpg", lambda: b"\0\0\1\xba" + Random(13).randbytes(9000) + b"\0\0\1\xe0" * 900)
_fixed("mp3-of-noise", "film.mp3", lambda: b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + Random(14).randbytes(9000))
_fixed("mkv-of-noise", "film.mkv", lambda: _matroska()[:500] + Random(15).randbytes(30_000))
_fixed("ts-of-any-programs", "film.ts", lambda: b"".join(b"\x47" + Random(n).randbytes(187) for n in range(400)))
_fixed("flips-few", "film.mp4", lambda: flipped(film(), 1e-5, 21))
_fixed("flips-some", "film.mp4", lambda: flipped(film(), 1e-4, 22))
_fixed("flips-many", "film.mp4", lambda: flipped(film(), 1e-3, 23))
_fixed("flips-most", "film.mp4", lambda: flipped(film(), 3e-2, 24))
_fixed("flips-in-the-index", "film.mp4", lambda: edited(film(), {b"moov": lambda body: flipped(body, 2e-3, 25)}))
_fixed("flips-in-the-pictures", "film.mp4", lambda: edited(film(), {b"mdat": lambda body: flipped(body, 2e-3, 26)}))
_fixed("flips-mkv", "film.mkv", lambda: flipped(_matroska(), 1e-4, 27))
_fixed("flips-ts", "film.ts", lambda: flipped(_ts(), 1e-4, 28))


# ── Matroska (RFC 9559).


def _inside_segment(added: bytes) -> bytes:
    """The film with an element more at the end of its segment, whose size is left open."""
    data = _matroska()
    at = data.index(b"\x18\x53\x80\x67") + 4
    width = 9 - data[at].bit_length()
    return data[:at] + ((1 << 56) - 1 | 1 << 56).to_bytes(8, "big") + data[at + width :] + added


def _chapters() -> bytes:
    """Chapters in chapters, all of one number, each beginning after its end."""
    atom = b""
    for _ in range(2000):
        atom = element("b6", element("73c4", b"\1") + element("91", b"\xff" * 8) + element("92", b"\0") + atom)
        atom = atom if len(atom) < 60_000 else b""
    return element("1043a770", element("45b9", element("45bc", b"\1") + atom))


def _attachments(traps: Traps) -> tuple[str, bytes]:
    files = b"".join(
        element(
            "61a7", element("466e", name.encode()) + element("4660", b"font/ttf") + element("46ae", b"\1") + element("465c", b"x" * 2000)
        )
        for name in (traps.path, "../../escape.ttf", "a\0b", "%d.ttf")
    )
    return "film.mkv", _inside_segment(element("1941a469", files))


_MAKERS["mkv-attachments"] = _attachments
_fixed("mkv-cyclic-chapters", "film.mkv", lambda: _inside_segment(_chapters()))
_fixed("mkv-many-tracks", "film.mkv", lambda: _many_tracks(10_000))
_fixed(
    "mkv-of-endless-elements",
    "film.mkv",
    lambda: _matroska()[:60] + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" + b"\x16\x54\xae\x6b\x10\xff\xff\xff" * 500,
)


def _many_tracks(count: int) -> bytes:
    head = _matroska()[: _matroska().index(b"\x18\x53\x80\x67")]
    entry = (
        element("83", b"\2")
        + element("86", b"A_PCM/INT/LIT")
        + element("e1", element("b5", struct.pack(">f", 8000)) + element("9f", b"\1"))
    )
    tracks = b"".join(
        element("ae", element("d7", (n + 1).to_bytes(3, "big")) + element("73c5", (n + 1).to_bytes(3, "big")) + entry) for n in range(count)
    )
    return head + element("18538067", element("1549a966", element("2ad7b1", b"\x0f\x42\x40")) + element("1654ae6b", tracks))


# ── Films that are well, and unusual.


def _many_traks(count: int) -> bytes:
    """The index with the film's track so many times."""
    data = film()

    def change(body: bytes) -> bytes:
        at = body.index(b"trak") - 4
        track = body[at : at + int.from_bytes(body[at : at + 4], "big")]
        return body + track * count

    at = data.index(b"moov") - 4
    return data[:at] + box(b"moov", change(data[at + 8 :]))


def _tagged(value: str) -> bytes:
    return _made(
        *_X264, "-metadata", f"title={value}", "-metadata:s:a:0", f"title={value}", "-metadata:s:a:0", "language=../", suffix=".mkv"
    )


_fixed("10000-tracks", "film.mp4", lambda: _many_traks(10_000))
_fixed(
    "tags-with-control-characters",
    "film.mkv",
    lambda: _tagged('a\x01\x1b[31m\r\n#EXT-X-ENDLIST\u202e"<script>alert(1)</script>\x7f,URI="x"'),
)
_fixed("tags-that-are-not-utf-8", "film.mkv", lambda: _tagged("QQQQQQQQ").replace(b"QQQQQQQQ", b"\xff\xfe\xc0\x80\xed\xa0\x80\xf5"))
_fixed("title-of-60-KB", "film.mkv", lambda: _tagged("Z" * 60_000))
_fixed("tags-of-16-MB", "film.mkv", lambda: _long_tag(16 * 1024**2))
_fixed(
    "fragments-without-duration",
    "film.mp4",
    lambda: _made(*_X264, "-movflags", "+empty_moov+default_base_moof", "-frag_duration", "200000", suffix=".mp4"),
)
_fixed("fragments-cut", "film.mp4", lambda: broken("fragments-without-duration").data[:-500])
_fixed("mkv-live-without-duration", "film.mkv", lambda: _made(*_X264, "-live", "1", suffix=".mkv"))
_fixed(
    "one-group-without-end",
    "film.mp4",
    lambda: _made(*_X264, "-g", "99999", "-x264-params", "keyint=infinite:scenecut=0", suffix=".mp4", seconds=12),
)
_fixed("begins-without-key-frame", "film.ts", lambda: _behind_the_key_frame())
_fixed("rubbish-behind-the-end", "film.mp4", lambda: film() + Random(30).randbytes(5000))
_fixed("film-behind-rubbish", "film.mp4", lambda: Random(31).randbytes(5000) + film())


def _long_tag(size: int) -> bytes:
    """RFC 9559 §5.1.8: Tags\\Tag\\SimpleTag\\TagName and TagString."""
    simple = b"".join(element("67c8", element("45a3", b"TITLE%d" % n) + element("4487", b"Z" * (size // 4))) for n in range(4))
    data = _inside_segment(b"")
    at = data.index(b"\x18\x53\x80\x67") + 12
    return data[:at] + element("1254c367", element("7373", element("63c0", b"") + simple)) + data[at:]


def _behind_the_key_frame() -> bytes:
    data = _made(*_X264, "-g", "99999", "-mpegts_flags", "+resend_headers", suffix=".ts", sound=False, seconds=2)
    half = len(data) // 376 * 188
    return data[: 3 * 188] + data[half:]


# ── Files that name others.


def _playlist(*addresses: str, lead: str = "") -> bytes:
    lines = "".join(f"#EXTINF:9,\n{address}\n" for address in addresses)
    return f"{lead}#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:0\n{lines}#EXT-X-ENDLIST\n".encode()


def _naming(kind: str, filename: str, text: Callable[[Traps], bytes]) -> None:
    _MAKERS[kind] = lambda traps: (filename, text(traps))


_naming("hls-of-a-file", "film.mp4", lambda t: _playlist(f"file://{t.path}", t.path))
_naming("hls-of-an-address", "film.mp4", lambda t: _playlist(t.url))
_naming("hls-behind-blanks", "film.m3u8", lambda t: _playlist(t.url, f"file:{t.path}", lead="\ufeff \r\n\t"))
_naming("hls-behind-ftyp", "film.mp4", lambda t: film()[:32] + _playlist(t.url, f"file:{t.path}"))
_naming(
    "hls-of-nested-protocols",
    "film.mp4",
    lambda t: _playlist(
        f"crypto+file:{t.path}", f"data:text/plain;base64,I0VYVE0zVQo=,{t.path}", f"subfile,,start,0,end,64,,:{t.path}",
        f"concat:{t.path}|{t.url}", f"crypto:{t.url}", f"tee:{t.path}", f"async:cache:{t.url}", f"ffrtmphttp://{t.url[7:]}",
        f"gopher://{t.url[7:]}", f"unix:{t.path}", f"fd:{t.path}", f"hls+{t.url}",
    ),
)  # fmt: skip
_naming(
    "hls-with-a-key",
    "film.mp4",
    lambda t: _playlist(t.url).replace(b"#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{t.url}"\n#EXTINF'.encode(), 1),
)
_naming("concat-script", "film.mp4", lambda t: f"ffconcat version 1.0\nfile '{t.path}'\nfile '{t.url}'\n".encode())
_naming(
    "svg",
    "film.mp4",
    lambda t: (
        "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink' width='64' height='48'>"
        f"<image xlink:href='file://{t.path}' width='64' height='48'/><image href='{t.url}' width='9' height='9'/></svg>"
    ).encode(),
)
_naming(
    "xml-with-an-entity",
    "film.mp4",
    lambda t: f"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY x SYSTEM 'file://{t.path}'><!ENTITY y SYSTEM '{t.url}'>]><a>&x;&y;</a>".encode(),
)
_naming(
    "dash",
    "film.mp4",
    lambda t: (
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static' mediaPresentationDuration='PT9S'><Period>"
        f"<AdaptationSet><Representation id='0' bandwidth='9'><BaseURL>{t.url}</BaseURL><SegmentList><SegmentURL media='file:{t.path}'/>"
        "</SegmentList></Representation></AdaptationSet></Period></MPD>"
    ).encode(),
)
_naming(
    "sdp",
    "film.mp4",
    lambda t: (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {urlsplit(t.url).port} RTP/AVP 96\na=rtpmap:96 H264/90000\n".encode()
    ),
)
_naming("asx", "film.asf", lambda t: f"<asx version='3.0'><entry><ref href='{t.url}'/></entry></asx>".encode())
_naming("rtsp-text", "film.mov", lambda t: f"rtsptext\nrtsp://{t.url[7:]}\n".encode())
_naming("real-text", "film.rm", lambda t: f"{t.url}\nfile://{t.path}\n".encode())
_naming("quicktime-reference", "film.mov", lambda t: _reference_movie(t))
_naming("dref-of-a-file", "film.mov", lambda t: _dref(f"file://{t.path}", t))
_naming("dref-of-an-address", "film.mov", lambda t: _dref(t.url, t))
_naming("dref-as-an-alias", "film.mov", lambda t: _dref("", t))


def _reference_movie(traps: Traps) -> bytes:
    """QuickTime File Format, "Reference movies": rmra, rmda, rdrf."""
    url = traps.url.encode() + b"\0"
    reference = box(b"rdrf", bytes(4) + b"url " + struct.pack(">I", len(url)) + url)
    return box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"moov", box(b"rmra", box(b"rmda", reference)))


def _dref(url: str, traps: Traps) -> bytes:
    """The film's track lies elsewhere: by `url ` (8.7.2), or by an alias of QuickTime with the path."""
    entry = box(b"url ", bytes(4) + url.encode() + b"\0") if url else box(b"alis", bytes(4) + _alias(traps.path))
    return _video({b"dref": lambda _: struct.pack(">II", 0, 1) + entry})


def _alias(path: str) -> bytes:
    """An alias record of version 2, as ffmpeg's reader of QuickTime takes it, with the path as its absolute one (types 2 and 18)."""
    name = path.rpartition("/")[2].encode()[:63]
    head = struct.pack(">4xHH", 0, 2) + bytes(2) + b"\x04disk".ljust(28, b"\0") + bytes(4 + 2 + 2 + 4)
    head += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 0, 1) + bytes(16)
    tail = b""
    for kind, text in ((2, path.replace("/", ":").encode()), (18, path.encode())):
        tail += struct.pack(">hh", kind, len(text)) + text + bytes(len(text) % 2)
    record = head + tail + struct.pack(">hh", -1, 0)
    return record[:4] + struct.pack(">H", len(record)) + record[6:]


# ── Names. The film is well, and its name is to be taken for something else.

NAMES: Final = (
    "-i", "--help", "-f lavfi.mp4", "%d.mp4", "film%03d.mp4", "http:film.mp4", "file:film.mp4", "concat:a|b.mp4", "pipe:0",
    "crypto:film.mp4", "subfile,,start,0,end,9,,:film.mp4", "two\nlines.mp4", "tab\tand\rreturn.mp4", "quote'\"`$(id).mp4",
    "back\\slash.mp4", "*?[a].mp4", "\u202egnp.4pm", "a" * 150 + ".mp4", "\N{CLAPPER BOARD}\u200d.mp4",
    " leading and trailing .mp4 ", "film.mp4;rm -rf .mp4", "<b>film</b>.mp4", "fifo|film.mp4", "CON.mp4", "film.ts?token=1#x.mp4",
)  # fmt: skip
"""As the last segment of an object's key."""
for _number, _name in enumerate(NAMES):
    _MAKERS[f"name-{_number:02d}"] = lambda _, name=_name: (name, film())


if __name__ == "__main__":
    import sys

    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for made in map(broken, kinds()):
        (target / f"{made.kind.replace('^', '')}-{len(made.data)}").write_bytes(made.data)
