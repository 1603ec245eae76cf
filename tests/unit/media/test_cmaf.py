"""Boxes as ffmpeg writes them: split, counted, moved, and read again by ffmpeg."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from services.runtime.media import cmaf
from services.runtime.media.failures import StreamBroken
from tests import clips
from tests.unit.media.streams import stream_of

FRAGMENTS = (
    "-movflags",
    "+frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets",
    "-use_editlist",
    "0",
    "-video_track_timescale",
    "25000",
)


@pytest.fixture(scope="module")
def fragmented() -> bytes:
    """Two and a bit segments of 25 frames, with B-frames, the last one of a single frame."""
    path = clips.make(
        "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=2.04", "-c:v", "libx264", "-preset", "veryfast",
        "-pix_fmt", "yuv420p", "-g", "25", "-keyint_min", "25", "-sc_threshold", "0", *FRAGMENTS,
    )  # fmt: skip
    return path.read_bytes()


async def split(data: bytes) -> list[bytes]:
    return [part async for part in cmaf.fragments(stream_of(data))]


async def test_a_stream_is_split_into_init_segment_and_fragments(fragmented: bytes) -> None:
    init, *parts = await split(fragmented)
    assert cmaf.read_init(init).timescale == 25000
    assert cmaf.read_init(init).codecs.startswith("avc1.64")
    assert [cmaf.read_samples(p).count for p in parts] == [25, 25, 1]
    assert [cmaf.read_samples(p).duration for p in parts] == [25_000, 25_000, 1000]
    assert [cmaf.decode_time(p) for p in parts] == [0, 25_000, 50_000]


async def test_a_stream_that_ends_inside_of_a_box_is_broken(fragmented: bytes) -> None:
    with pytest.raises(StreamBroken):
        await split(fragmented[: len(fragmented) // 2])


async def test_a_placed_fragment_begins_where_it_is_told_and_is_otherwise_the_same(fragmented: bytes) -> None:
    _, part, *_ = await split(fragmented)
    placed = cmaf.place(part, number=42, decode_time=2**40)
    assert cmaf.decode_time(placed) == 2**40
    assert cmaf.place(placed, number=1, decode_time=0) == cmaf.place(part, number=1, decode_time=0)
    assert cmaf.read_samples(placed) == cmaf.read_samples(part)
    assert len(placed) == len(part)


async def test_the_first_picture_ends_where_ffprobe_finds_its_end(fragmented: bytes, tmp_path: Path) -> None:
    init, *parts = await split(fragmented)
    for part in parts:
        (tmp_path / "a.mp4").write_bytes(init + part)
        position, size = clips.ffprobe(tmp_path / "a.mp4", "-show_entries", "packet=pos,size", "-of", "csv=p=0").splitlines()[0].split(",")
        assert len(init) + cmaf.intra_size(part) == int(position) + int(size)


async def test_a_first_picture_that_needs_others_is_none(fragmented: bytes) -> None:
    _, part, *_ = await split(fragmented)
    # `first_sample_flags`: behind version, flags, count and data offset.
    at = part.index(b"trun") + 16
    assert int.from_bytes(part[at : at + 4], "big") == 0x02000000
    assert cmaf.intra_size(part[:at] + (0x01010000).to_bytes(4, "big") + part[at + 4 :]) == 0


async def test_sound_tells_its_codec_and_its_clock() -> None:
    path = clips.make(
        "-f", "lavfi", "-i", "sine=duration=3:sample_rate=44100", "-c:a", "aac", "-movflags", "+empty_moov+default_base_moof",
        "-frag_duration", "1000000",
    )  # fmt: skip
    init, *parts = await split(path.read_bytes())
    assert cmaf.read_init(init) == cmaf.Init(44_100, "mp4a.40.2", video=False)
    assert abs(sum(cmaf.read_samples(p).duration for p in parts) / 44_100 - 3) < 0.1
    # The object type is the first five bits of AudioSpecificConfig: two bytes behind the tag 5 and its length.
    at = init.index(b"\x05\x80\x80\x80", init.index(b"esds")) + 5
    other = init[:at] + bytes([5 << 3 | init[at] & 7]) + init[at + 1 :]
    assert cmaf.read_init(other).codecs == "mp4a.40.5"


async def test_shifted_offsets_have_no_sign_and_ffmpeg_reads_the_same_frames(fragmented: bytes, tmp_path: Path) -> None:
    init, *parts = await split(fragmented)
    assert min(cmaf.read_samples(p).earliest for p in parts) < 0
    shifted = [cmaf.shift_composition(p, 2000) for p in parts]
    assert min(cmaf.read_samples(p).earliest for p in shifted) == 0
    (tmp_path / "a.mp4").write_bytes(init + b"".join(parts))
    (tmp_path / "b.mp4").write_bytes(init + b"".join(shifted))
    for name in ("a", "b"):
        clips.ffmpeg("-xerror", "-err_detect", "explode", "-i", str(tmp_path / f"{name}.mp4"), "-f", "framemd5", str(tmp_path / name))
    hashes = [[line.split(",")[-1] for line in (tmp_path / n).read_text().splitlines() if line[0] != "#"] for n in ("a", "b")]
    assert len(hashes[0]) == 51
    assert hashes[0] == hashes[1]
    times = [int(t) for t in clips.ffprobe(tmp_path / "b.mp4", "-show_entries", "packet=dts", "-of", "csv=p=0").split()]
    assert {b - a for a, b in pairwise(times)} == {1000}


async def test_frames_that_are_reordered_too_far_are_noticed(fragmented: bytes) -> None:
    _, part, *_ = await split(fragmented)
    with pytest.raises(cmaf.NotCmaf, match="reordered"):
        cmaf.shift_composition(part, 0)
