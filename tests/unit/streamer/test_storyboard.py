"""Which pictures a storyboard has, and where."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.media.presentation import Rendition, SegmentEntry
from services.streamer import storyboard


def rendition(count: int, width: int = 640, height: int = 360) -> Rendition:
    return Rendition(
        name="video", kind="video", codecs="", timescale=1000, width=width, height=height, segments=(SegmentEntry(4000, 9, 3),) * count
    )


def test_a_short_film_has_a_picture_for_each_segment() -> None:
    made = storyboard.board(rendition(3))
    assert (made.columns, made.rows, made.width, made.height) == (3, 1, 160, 90)
    assert storyboard.vtt(made, [4.0, 4.0, 1.5]) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:04.000\nstoryboard.jpg#xywh=0,0,160,90\n\n"
        "00:00:04.000 --> 00:00:08.000\nstoryboard.jpg#xywh=160,0,160,90\n\n"
        "00:00:08.000 --> 00:00:09.500\nstoryboard.jpg#xywh=320,0,160,90\n"
    )


@given(st.integers(1, 30_000), st.integers(2, 4096), st.integers(2, 4096))
def test_any_film_fits_into_one_picture(count: int, width: int, height: int) -> None:
    made = storyboard.board(rendition(count, width, height))
    assert 1 <= len(made.segments) <= storyboard.MOST_TILES
    assert len(made.segments) <= made.columns * made.rows
    assert made.height % 2 == 0
    places = {made.place(n) for n in range(len(made.segments))}
    assert len(places) == len(made.segments)
    assert all(x < made.columns * made.width and y < made.rows * made.height for x, y in places)


def test_cues_follow_upon_each_other_up_to_the_end_of_a_long_film() -> None:
    made = storyboard.board(rendition(2701))
    text = storyboard.vtt(made, [4.0] * 2701)
    times = re.findall(r"(\S+) --> (\S+)", text)
    assert times[0][0] == "00:00:00.000"
    assert [end for _, end in times[:-1]] == [begin for begin, _ in times[1:]]
    assert times[-1][1] == "03:00:04.000"
    assert made.segments[1] == 28
