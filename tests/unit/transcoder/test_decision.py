from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Recipe, Watermark
from services.runtime.jobs.failures import Permanent
from services.runtime.media.stills import seconds_of
from services.transcoder import decision, ladder
from services.transcoder.film import ComposeMp4, CopyMp4, EncodeAudio, EncodeVideo, MakeStills
from tests.unit.transcoder.films import audio, film, source, video

BESIDE = Recipe(layout="beside")


def test_short_films_get_their_sound_first_and_long_ones_their_pictures() -> None:
    short, _ = decision.stages(film())
    long, _ = decision.stages(film(source(video(duration_seconds=3600, frames=90_000), duration_seconds=3600)))
    assert [type(w) for w in short] == [EncodeAudio, EncodeVideo, EncodeVideo, EncodeVideo]
    assert [type(w) for w in long[:3]] == [EncodeVideo, EncodeAudio, EncodeVideo]
    assert len(long) == 114


def test_each_sound_track_is_a_task_and_the_default_one_is_first() -> None:
    tracks = [audio(default=False), audio(default=False), audio(default=True)]
    encoding, _ = decision.stages(film(source(video(), *tracks)))
    assert [w.track for w in encoding if isinstance(w, EncodeAudio)] == [2, 0, 1]
    bare = source(video(), *tracks, video=None)
    assert decision.stages(film(bare)) == ([EncodeAudio(track=2), EncodeAudio(track=0), EncodeAudio(track=1)], [ComposeMp4(side=0)])


def test_encryption_beside_the_input_is_refused() -> None:
    decision.refuse_recipe(Recipe(encryption="aes-128"))
    decision.refuse_recipe(BESIDE)
    with pytest.raises(Permanent, match="'aes-128' is for segments"):
        decision.refuse_recipe(Recipe(encryption="aes-128", layout="beside"))


def test_every_rung_is_composed_and_stills_are_taken() -> None:
    _, composing = decision.stages(film())
    assert composing == [ComposeMp4(side=720), ComposeMp4(side=480), ComposeMp4(side=360), MakeStills()]


def test_a_container_without_seeking_is_one_chunk() -> None:
    encoding, _ = decision.stages(film(source(seekable=False)))
    assert [w.chunk.last for w in encoding if isinstance(w, EncodeVideo)] == [True]


def test_what_can_be_played_already_is_copied_beside_the_input() -> None:
    assert decision.may_copy(source(), BESIDE, decision.rungs(video(), BESIDE)[0])
    assert decision.stages(film(recipe=BESIDE, copied=True)) == ([], [CopyMp4(copy_audio=True), MakeStills()])


@pytest.mark.parametrize(
    "fields",
    [
        {"codec": "hevc"}, {"pixel_format": "yuv420p10le"}, {"pixel_format": "yuv444p"}, {"rotation": 90}, {"sample_aspect": "4:3"},
        {"interlaced": True}, {"transfer": "smpte2084"}, {"bit_rate": 50_000_000}, {"bit_rate": 0}, {"exact": False},
        {"width": 1920, "height": 1080, "coded_width": 1920, "coded_height": 1080},
        {"width": 1279, "height": 719, "coded_width": 1279, "coded_height": 719},
    ],
)  # fmt: skip
def test_anything_else_is_encoded(fields: dict[str, Any]) -> None:
    other = source(video(**fields))
    assert other.video is not None
    assert not decision.may_copy(other, BESIDE, decision.rungs(other.video, BESIDE)[0])


def test_a_ladder_and_a_watermark_are_always_encoded() -> None:
    (top, *_) = decision.rungs(video(), Recipe())
    assert not decision.may_copy(source(), Recipe(), top)
    assert not decision.may_copy(source(), Recipe(layout="beside", watermark=Watermark(key="m.png")), top)


def test_sound_is_copied_only_where_it_plays_everywhere() -> None:
    sounds = [audio(), audio(channels=6), audio(codec="mp3"), audio(profile="HE-AAC")]
    assert [decision.copies_audio(source(video(), s)) for s in sounds] == [True, False, False, False]
    assert not decision.copies_audio(source(audios=()))


@given(width=st.integers(16, 8000), height=st.integers(16, 8000), heights=st.lists(st.integers(16, 4320), max_size=3))
def test_beside_the_input_there_is_one_rung_of_at_most_720(width: int, height: int, heights: list[int]) -> None:
    picture = video(width=width, height=height, coded_width=width, coded_height=height)
    (rung,) = decision.rungs(picture, Recipe(layout="beside", heights=tuple(heights)))
    assert rung.side <= decision.BESIDE_HIGHEST


def test_pictures_over_the_limit_and_under_the_least_are_refused() -> None:
    decision.refuse_size(video(), 1280 * 720)
    with pytest.raises(Permanent, match="1280×720 = 921600 pixels; at most 921599 are accepted"):
        decision.refuse_size(video(), 1280 * 720 - 1)
    with pytest.raises(Permanent, match="16 pixels"):
        decision.refuse_size(video(width=ladder.SMALLEST - 1), 10**9)


@given(position=st.from_regex(r"\A\d{1,6}(\.\d{1,3})?[%s]\Z"), frames=st.integers(1, 10**6), rate=st.sampled_from([1.0, 24.0, 59.94]))
def test_stills_lie_inside_of_the_film(position: str, frames: int, rate: float) -> None:
    at = seconds_of(position, frames / rate, 1 / rate)
    assert 0 <= at <= max(0.0, (frames - 1) / rate + 1e-6)


def test_stills_are_where_the_recipe_says() -> None:
    assert [seconds_of(p, 200, 0.04) for p in ("10%", "1s", "2.5s", "100%")] == [20, 1, 2.5, 199.96]
