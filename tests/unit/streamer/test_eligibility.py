"""What is packaged as it is, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Recipe, Watermark
from services.runtime.media.keyframes import Cuts
from services.streamer import eligibility
from tests.unit.transcoder.films import audio, source, video

SIZE = 25_000_000


def test_h264_with_aac_has_no_obstacle() -> None:
    assert not eligibility.obstacle(source(), Recipe(), SIZE)
    assert not eligibility.obstacle(source(container="matroska"), Recipe(), SIZE)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"codec": "hevc"}, "hevc, not H.264"),
        ({"pixel_format": "yuv420p10le"}, "not 8-bit 4:2:0"),
        ({"pixel_format": "yuvj420p"}, "yuvj420p"),
        ({"transfer": "smpte2084"}, "HDR"),
        ({"interlaced": True}, "interlaced"),
        ({"rotation": 90}, "turned"),
        ({"sample_aspect": "4:3"}, "not square"),
        ({"coded_width": 2560, "coded_height": 1440}, "2560×1440"),
        ({"coded_width": 3840, "coded_height": 400}, "3840×400"),
        ({"rate_num": 120}, "120 pictures a second"),
        ({"bit_rate": 20_000_000}, "20.0 Mbit/s, and 6.8 are enough"),
    ],
)
def test_the_picture_can_be_in_the_way(fields: dict[str, Any], words: str) -> None:
    assert words in eligibility.obstacle(source(video(**fields)), Recipe(), SIZE)


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"codec": "mp3", "profile": ""}, "mp3, not AAC-LC"), ({"profile": "HE-AAC"}, "HE-AAC"), ({"channels": 6}, "6 channels")],
)
def test_any_of_the_sound_tracks_can_be_in_the_way(fields: dict[str, Any], words: str) -> None:
    assert words in eligibility.obstacle(source(None, audio(**fields)), Recipe(), SIZE)
    assert words in eligibility.obstacle(source(None, audio(), audio(index=2, **fields)), Recipe(), SIZE)


def test_what_is_asked_for_can_be_in_the_way() -> None:
    assert "watermark" in eligibility.obstacle(source(), Recipe(watermark=Watermark(key="mark.png")), SIZE)
    assert "other heights than its own 720" in eligibility.obstacle(source(), Recipe(heights=(720, 360)), SIZE)
    assert not eligibility.obstacle(source(), Recipe(heights=(1080, 720)), SIZE)
    assert "mpegts" in eligibility.obstacle(source(container="mpegts"), Recipe(), SIZE)


def test_where_the_track_does_not_tell_its_rate_the_file_does() -> None:
    silent = source(video(bit_rate=0), duration_seconds=10)
    assert not eligibility.obstacle(silent, Recipe(), 8_000_000)
    assert "8.0 Mbit/s" in eligibility.obstacle(silent, Recipe(), 10_000_000)
    assert "nothing tells" in eligibility.obstacle(source(video(bit_rate=0), duration_seconds=0), Recipe(), 1)


def cuts(**fields: Any) -> Cuts:
    return msgspec.structs.replace(Cuts(start_seconds=0.0, frames=100, longest_seconds=2.0), **fields)


def test_key_frames_are_at_most_a_segment_apart() -> None:
    film = source()
    assert film.video is not None
    assert not eligibility.cut_obstacle(cuts(longest_seconds=4.5), film.video, film)
    assert "up to 4.6 s apart" in eligibility.cut_obstacle(cuts(longest_seconds=4.6), film.video, film)
    assert eligibility.cut_obstacle(cuts(obstacle="it is edited"), film.video, film) == "it is edited"


def test_sound_may_begin_a_picture_late() -> None:
    for late, wrong in ((-1.0, False), (0.04, False), (0.05, True)):
        film = source(None, audio(start_seconds=late))
        assert film.video is not None
        assert bool(eligibility.cut_obstacle(cuts(), film.video, film)) == wrong


@given(st.floats(0.01, 4.5))
def test_segments_are_joined_to_four_seconds_or_to_one_group(longest: float) -> None:
    joined = eligibility.joined_seconds(longest)
    assert max(4.0, longest) <= joined <= eligibility.LONGEST_SECONDS


@given(st.integers(16, 2000), st.integers(16, 2000))
def test_more_pixels_may_have_more_bits(fewer: int, more: int) -> None:
    fewer, more = sorted((fewer, more))
    assert eligibility.enough_bits(fewer * 1000) <= eligibility.enough_bits(more * 1000)
    assert 600_000 <= eligibility.enough_bits(fewer * 1000) <= 11_700_000
