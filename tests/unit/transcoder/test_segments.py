"""Laws of the planner: every frame is in exactly one chunk, and cuts lie where segments end."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.media import frame_rates
from services.transcoder.segments import chunks, grid

rates = st.one_of(
    st.sampled_from(frame_rates.STANDARD), st.builds(Fraction, st.integers(min_value=1, max_value=60_000), st.sampled_from((1000, 1001)))
).map(lambda r: max(r, Fraction(1, 2)))
frames = st.integers(min_value=1, max_value=200_000)


@settings(deadline=None)
@given(rate=rates, count=frames)
def test_each_frame_is_in_exactly_one_chunk(rate: Fraction, count: int) -> None:
    covered = 0
    for chunk in chunks(count, grid(rate)):
        assert chunk.first_frame == covered
        assert chunk.frames > 0
        covered += chunk.frames
    assert covered == count


@settings(deadline=None)
@given(rate=rates, count=frames)
def test_chunks_begin_at_segments_and_segments_are_numbered_through(rate: Fraction, count: int) -> None:
    cut = grid(rate)
    expected = 0
    parts = chunks(count, cut)
    for chunk in parts:
        assert chunk.first_frame % cut.segment_frames == 0
        assert chunk.first_segment == expected
        expected += cut.segments_of(chunk.frames)
    assert expected == cut.segments_of(count)
    assert [p.last for p in parts] == [False] * (len(parts) - 1) + [True]


@settings(deadline=None)
@given(rate=rates, count=frames)
def test_a_chunk_is_about_half_a_minute(rate: Fraction, count: int) -> None:
    cut = grid(rate)
    seconds = [float(c.frames / rate) for c in chunks(count, cut)]
    assert all(20 <= s <= 40 for s in seconds[:-1])
    assert seconds[-1] <= 62


@settings(deadline=None)
@given(rate=rates)
def test_a_frame_is_a_whole_number_of_ticks(rate: Fraction) -> None:
    cut = grid(rate)
    assert Fraction(cut.timescale, cut.ticks) == rate
    assert cut.timescale < 2**32
    assert abs(cut.segment_seconds - 4) <= float(1 / rate)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (Fraction(24), (96, 24000, 1000)),
        (Fraction(30000, 1001), (120, 30000, 1001)),
        (Fraction(25), (100, 25000, 1000)),
        (Fraction(1), (4, 10000, 10000)),
    ],
)
def test_usual_rates(rate: Fraction, expected: tuple[int, int, int]) -> None:
    cut = grid(rate)
    assert (cut.segment_frames, cut.timescale, cut.ticks) == expected


def test_an_unknown_length_or_a_source_without_seeking_is_one_chunk() -> None:
    assert [(c.first_frame, c.last) for c in chunks(0, grid(Fraction(25)))] == [(0, True)]
    assert [c.frames for c in chunks(100_000, grid(Fraction(25)), single=True)] == [100_000]
