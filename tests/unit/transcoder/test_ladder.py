"""Laws of the ladder, and the sizes that people know."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcoder import ladder

sizes = st.integers(min_value=ladder.SMALLEST, max_value=9000)
heights = st.lists(st.integers(min_value=16, max_value=4320), max_size=6)
rates = st.floats(min_value=1, max_value=60)


@given(width=sizes, height=sizes, wanted=heights, rate=rates)
def test_a_rung_is_even_and_never_larger_than_the_source(width: int, height: int, wanted: list[int], rate: float) -> None:
    for rung in ladder.choose(width, height, heights=wanted, frame_rate=rate):
        assert 2 <= rung.width <= width
        assert 2 <= rung.height <= height
        assert (rung.width % 2, rung.height % 2) == (0, 0)
        assert rung.side == min(rung.width, rung.height)
        assert max(rung.width, rung.height) <= 4096


@given(width=sizes, height=sizes, wanted=heights, rate=rates)
def test_rungs_shrink_from_the_first_to_the_last_without_repetition(width: int, height: int, wanted: list[int], rate: float) -> None:
    rungs = ladder.choose(width, height, heights=wanted, frame_rate=rate)
    assert rungs
    for above, below in pairwise(rungs):
        assert below.side < above.side
        assert below.width <= above.width
        assert below.height <= above.height
        assert below.max_rate <= above.max_rate


@given(width=sizes, height=sizes)
def test_the_shape_of_the_picture_is_kept_to_two_pixels(width: int, height: int) -> None:
    for rung in ladder.choose(width, height):
        scale = min(rung.width / width, rung.height / height)
        assert abs(rung.width - width * scale) <= 2 * max(1.0, width / height)
        assert abs(rung.height - height * scale) <= 2 * max(1.0, height / width)


@given(width=sizes, height=sizes)
def test_an_upright_film_gets_the_rungs_of_the_same_film_on_its_side(width: int, height: int) -> None:
    lying, upright = ladder.choose(width, height), ladder.choose(height, width)
    assert [(r.height, r.width, r.max_rate) for r in lying] == [(r.width, r.height, r.max_rate) for r in upright]


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (1920, 1080, ["1920x1080", "1280x720", "854x480", "640x360"]),
        (1280, 720, ["1280x720", "854x480", "640x360"]),
        (1080, 1920, ["1080x1920", "720x1280", "480x854", "360x640"]),
        (3840, 2160, ["1920x1080", "1280x720", "854x480", "640x360"]),
        (1920, 800, ["1920x800", "1152x480", "864x360"]),
        (1024, 576, ["1024x576", "640x360"]),
        (176, 144, ["176x144"]),
        (321, 181, ["320x180"]),
        (7680, 1080, ["4096x576", "2560x360"]),
    ],
)
def test_known_sources_get_the_expected_rungs(width: int, height: int, expected: list[str]) -> None:
    assert [f"{r.width}x{r.height}" for r in ladder.choose(width, height)] == expected


def test_the_recipe_replaces_the_ladder_and_is_clipped_to_the_source() -> None:
    assert [r.name for r in ladder.choose(1280, 720, heights=(2160, 720, 240, 240))] == ["720p", "240p"]


def test_ceilings_follow_the_published_table_and_the_frame_rate() -> None:
    (full, *_) = ladder.choose(1920, 1080, frame_rate=30)
    (fast, *_) = ladder.choose(1920, 1080, frame_rate=60)
    assert full.max_rate == 7_800_000
    assert fast.max_rate == 11_700_000
