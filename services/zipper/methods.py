"""Whether an entry is stored or deflated. Pure."""

from __future__ import annotations

from typing import Final, Literal

from isal import isal_zlib

from services.runtime.archives.records import Method

LEVEL: Final = 1
"""Of isal: 629 MB of text a second of processor time, against 52 of zlib's level 6, which makes it a fifth smaller."""
SAMPLE_BYTES: Final = 64 * 1024
SAMPLES: Final = 3
"""Of a large object: from its beginning, middle and end."""
WORTHWHILE: Final = 0.9
"""Deflated to less than this it is worth a reader's time."""
DEFLATE_BYTES: Final = 8 * 1024**3
"""Larger ones are stored: deflating is the work of one task, of about half a minute."""

_COMPRESSED: Final = """
    3g2 3gp 7z aac ac3 apk asf avi avif br bz2 cab cr2 crx deb docx dmg eac3 epub flac flv gif gpg gz heic heif ipa iso jar jp2 jpe jpeg
    jpg jxl key lz lz4 lzma lzo m2ts m4a m4s m4v mka mkv mov mp2 mp3 mp4 mpeg mpg mts mxf numbers odp ods odt oga ogg ogm ogv opus pages
    png pptx rar rpm rm rmvb snappy sz tbz tgz ts txz vob war webm webp whl wma wmv woff woff2 xlsx xz z zip zst zstd
"""
_TEXT: Final = """
    ass bmp c cfg conf cpp css csv dpx edl exr fcpxml h htm html ini java js json jsonl ldif log m3u m3u8 md mjs mpd otio php pl ppm psd
    py rs rst rtf sbv sh smi sql srt ssa sub svg tcx tex tif tiff toml ttf ttml txt vtt wasm wav xml xmp yaml yml
"""
_METHODS: Final[dict[str, Method]] = {
    **dict.fromkeys(_COMPRESSED.split(), "store"),
    **dict.fromkeys(_TEXT.split(), "deflate"),
}  # fmt: skip


def by_name(name: str) -> Literal["store", "deflate", "look"]:
    """What the ending of a name says; `look`: nothing."""
    stem, _, ending = name.rpartition("/")[2].rpartition(".")
    return _METHODS.get(ending.lower(), "look") if stem else "look"


def worthwhile(sample: bytes) -> bool:
    """Whether bytes like these become less by deflate."""
    return bool(sample) and len(deflated(sample)) < WORTHWHILE * len(sample)


def deflated(data: bytes) -> bytes:
    """A raw deflate stream (RFC 1951)."""
    packer = compressor()
    return packer.compress(data) + packer.flush()


def compressor() -> isal_zlib.Compress:
    """For a raw deflate stream of any length."""
    return isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -15)


def sample_places(size: int) -> list[tuple[int, int]]:
    """Where to look into a large object."""
    step = (size - SAMPLE_BYTES) / (SAMPLES - 1)
    return [(int(n * step), int(n * step) + SAMPLE_BYTES) for n in range(SAMPLES)]
