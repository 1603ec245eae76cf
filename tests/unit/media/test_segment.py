"""Stored segments opened again."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from services.runtime.media import cmaf, segment
from tests import clips

FRAGMENTED = ("-movflags", "+frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets", "-use_editlist", "0")


async def parts(path: Path) -> list[bytes]:
    """Init segment and fragments."""
    stream = asyncio.StreamReader(limit=1 << 26)
    stream.feed_data(path.read_bytes())
    stream.feed_eof()
    return [part async for part in cmaf.fragments(stream)]


def film() -> Path:
    codec = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "2", "-g", "25", "-keyint_min", "25", "-sc_threshold", "0", *FRAGMENTED)
    return clips.moving(seconds=3, sound=False, codec=codec)


async def test_a_joined_segment_has_its_fragments() -> None:
    _, *fragments = await parts(film())
    assert len(fragments) == 3
    assert list(segment.fragments_of(b"".join(fragments))) == fragments
    assert list(segment.fragments_of(fragments[0])) == fragments[:1]


async def test_half_a_segment_is_told() -> None:
    _, first, *_ = await parts(film())
    with pytest.raises(cmaf.NotCmaf):
        list(segment.fragments_of(first[:-1]))


async def test_first_pictures_alone_are_a_film(tmp_path: Path) -> None:
    init, *fragments = await parts(film())
    timescale = cmaf.read_init(init).timescale
    shown = [
        # Only as many bytes as the picture has.
        segment.first_picture(f[: cmaf.intra_size(f)], number=n + 1, decode_time=n * timescale, duration=timescale)
        for n, f in enumerate(fragments)
    ]
    (tmp_path / "pictures.mp4").write_bytes(init + b"".join(shown))
    (tmp_path / "film.mp4").write_bytes(init + b"".join(fragments))
    hashes = []
    for name, options in (("pictures", ()), ("film", ("-vf", "select=key"))):
        sums = tmp_path / name
        clips.ffmpeg("-xerror", "-i", str(tmp_path / f"{name}.mp4"), *options, "-fps_mode", "passthrough", "-f", "framemd5", str(sums))
        hashes.append([line.split()[-1] for line in sums.read_text().splitlines() if not line.startswith("#")])
    assert len(hashes[0]) == 3
    assert hashes[0] == hashes[1]
    assert [cmaf.decode_time(s) for s in shown] == [0, timescale, 2 * timescale]


def tone() -> Path:
    return clips.make("-f", "lavfi", "-i", "sine=440:d=3", "-c:a", "aac", *FRAGMENTED, "-frag_duration", "1000000", suffix=".m4a")


async def test_sound_is_divided_without_a_rest(tmp_path: Path) -> None:
    init, *fragments = await parts(tone())
    times = [0, 1024, 44_100, 50_000, 50_001, 10**9]
    pieces = [segment.between(f, begin, end) for begin, end in pairwise(times) for f in fragments]
    assert sum(cmaf.read_samples(p).count for p in pieces if p) == sum(cmaf.read_samples(f).count for f in fragments)
    # Put together again it is the same sound at the same times.
    sums = []
    for name, parts_ in (("whole", fragments), ("divided", [p for p in pieces if p])):
        (tmp_path / name).write_bytes(init + b"".join(parts_))
        clips.ffmpeg("-xerror", "-f", "mp4", "-i", str(tmp_path / name), "-c", "copy", "-f", "framemd5", str(tmp_path / f"{name}.md5"))
        sums.append([line for line in (tmp_path / f"{name}.md5").read_text().splitlines() if not line.startswith("#")])
    assert sums[0] == sums[1]


async def test_sound_outside_of_a_span_is_nothing() -> None:
    _, first, *_ = await parts(tone())
    assert segment.between(first, 10**9, 10**10) == b""
    assert cmaf.read_samples(segment.between(first, 0, 10**9)) == cmaf.read_samples(first)


async def test_a_picture_that_is_not_all_there_is_told() -> None:
    _, first, *_ = await parts(film())
    with pytest.raises(cmaf.NotCmaf):
        segment.first_picture(first[: cmaf.intra_size(first) - 1], number=1, decode_time=0, duration=1)
