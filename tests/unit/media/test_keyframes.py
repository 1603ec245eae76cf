"""Key frames, by the index of an MP4 and by reading a file through."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.media import keyframes, structure
from services.runtime.media.keyframes import Cuts
from tests import clips


def film(*options: str, gop: int = 50, seconds: float = 6, suffix: str = ".mp4") -> Path:
    codec = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "2", "-g", str(gop), "-keyint_min", str(gop), "-sc_threshold", "0", *options)
    return clips.moving(seconds=seconds, codec=codec, suffix=suffix)


async def by_index(path: Path, track: int = 0) -> Cuts | None:
    return await by_index_of(path.read_bytes(), track)


async def by_index_of(data: bytes, track: int = 0) -> Cuts | None:
    async def read(start: int, end: int) -> bytes:
        return data[start:end]

    return await keyframes.of_index(read, (await structure.examine(read, len(data))).index, track)


async def by_packets(path: Path, index: int = 0, longest: float = 60.0) -> Cuts:
    return await keyframes.of_packets(clips.programs()[1], str(path), index, longest=longest, within=None, timeout=60)


async def both(path: Path) -> Cuts:
    """What the index says, which is what reading the file says."""
    index, packets = await by_index(path), await by_packets(path)
    assert index is not None
    assert index.frames == packets.frames
    assert index.start_seconds == pytest.approx(packets.start_seconds, abs=1e-5)
    assert index.longest_seconds == pytest.approx(packets.longest_seconds, abs=0.001)
    assert index.obstacle == packets.obstacle
    return index


@pytest.mark.parametrize("gop", [1, 25, 112, 250])
async def test_the_distance_of_key_frames(gop: int) -> None:
    found = await both(film(gop=gop))
    assert found.frames == 150
    assert found.longest_seconds == pytest.approx(min(gop / 25, 6))
    assert not found.obstacle


async def test_the_last_group_counts() -> None:
    whole = film("-force_key_frames", "0,1", gop=999)
    assert (await both(whole)).longest_seconds == pytest.approx(5)


async def test_pictures_that_need_the_group_before_theirs() -> None:
    open_groups = film("-x264-params", "open-gop=1:keyint=50:min-keyint=50:scenecut=0")
    index, packets = await by_index(open_groups), await by_packets(open_groups)
    assert index is not None
    assert "open" in index.obstacle
    assert "open" in packets.obstacle


async def test_an_edit_that_hides_pictures() -> None:
    cut = clips.make("-ss", "1.3", "-i", str(film()), "-c", "copy")
    index, packets = await by_index(cut), await by_packets(cut)
    assert index is not None
    assert "edited" in index.obstacle
    assert "hides" in packets.obstacle


async def test_an_edit_that_delays_the_picture() -> None:
    whole = film()
    late = clips.make("-itsoffset", "0.3", "-i", str(whole), "-i", str(whole), "-map", "0:v", "-map", "1:a", "-c", "copy")
    found = await both(late)
    assert found.start_seconds == pytest.approx(0.3)
    assert not found.obstacle


async def test_reordered_pictures_at_varying_distances() -> None:
    vary = ("-vf", "select='if(lt(t,4),not(mod(n,3)),1)'", "-fps_mode", "vfr", "-force_key_frames", "expr:gte(t,n_forced*2)")
    uneven = film(*vary, gop=999)
    index, packets = await by_index(uneven), await by_packets(uneven)
    assert index is not None
    assert "reordered" in index.obstacle
    assert "reordered" in packets.obstacle
    assert not (await both(film(*vary, "-bf", "0", gop=999))).obstacle


async def test_files_without_an_index_are_read_through() -> None:
    for whole in (film(suffix=".mkv"), film("-movflags", "+frag_keyframe+empty_moov")):
        assert await by_index(whole) is None
        found = await by_packets(whole)
        assert (found.frames, found.obstacle) == (150, "")
        assert found.longest_seconds == pytest.approx(2)


async def test_reading_stops_where_key_frames_are_too_far_apart() -> None:
    found = await by_packets(film(gop=50, seconds=20, suffix=".mkv"), longest=1.5)
    assert "2.0 s apart" in found.obstacle
    assert found.frames < 60


async def test_a_clock_that_jumps(tmp_path: Path) -> None:
    whole = film(suffix=".ts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(whole.read_bytes() * 2)
    assert "jumps" in (await by_packets(joined)).obstacle


async def test_a_track_that_is_no_film() -> None:
    assert await by_index(film(), track=1) is None
    assert await by_index(film(), track=9) is None


async def test_an_index_in_front_or_behind_and_in_64_bits() -> None:
    whole = film()
    data = whole.read_bytes()
    at = data.index(b"mdat") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    wide = data[:at] + b"\0\0\0\1mdat" + (size + 8).to_bytes(8, "big") + data[at + 8 :]
    assert await by_index_of(wide) == await by_index(whole) == await by_index(film("-movflags", "+faststart"))


def test_an_index_that_claims_billions_of_pictures() -> None:
    whole = film().read_bytes()
    moov = bytearray(whole[whole.index(b"moov") + 4 :])
    at = moov.index(b"stts") + 12  # behind the number of runs: the pictures of the first one
    assert struct.unpack_from(">I", moov, at)[0] == 150
    moov[at : at + 4] = b"\xff" * 4
    with pytest.raises(keyframes.DAMAGED):
        keyframes.cuts_of(bytes(moov), 0)


@given(st.data())
def test_a_damaged_index_never_breaks_more_than_itself(data: st.DataObject) -> None:
    whole = film().read_bytes()
    moov = bytearray(whole[whole.index(b"moov") + 4 :])
    for _ in range(data.draw(st.integers(1, 8))):
        moov[data.draw(st.integers(0, len(moov) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = keyframes.cuts_of(bytes(moov), 0)
    except keyframes.DAMAGED:
        return
    assert found is None or found.frames >= 0
