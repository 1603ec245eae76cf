from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Recipe, Watermark
from services.transcoder import layout
from tests.unit.transcoder.films import audio, film, source, video

keys = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=60)


def test_keys_are_those_of_the_object_layout() -> None:
    one = film()
    assert layout.folder(one, "j1") == "assets/a1/0123456789ab"
    assert layout.video_renditions(one) == ["video-720", "video-480", "video-360"]
    assert layout.audio_renditions(one) == ["audio-und"]
    assert layout.mp4(one, 720) == "assets/a1/0123456789ab/720.mp4"
    assert (layout.poster(one), layout.thumbnail(one)) == ("assets/a1/poster.jpg", "assets/a1/thumbnail.jpg")
    assert layout.results_bucket(one) == ""


def test_beside_the_input_outputs_share_its_folder_and_bucket_and_segments_go_with_the_job() -> None:
    one = film(recipe=Recipe(layout="beside"))
    assert (layout.mp4(one, 720), layout.thumbnail(one), layout.results_bucket(one)) == ("in/foo.mov.mp4", "in/foo.mov.jpg", "b")
    assert layout.folder(one, "j1") == "jobs/j1/segments"


@given(one=keys, other=keys)
def test_outputs_beside_different_inputs_differ_from_each_other_and_from_their_inputs(one: str, other: str) -> None:
    films = [film(recipe=Recipe(layout="beside"), key=k) for k in (one, other)]
    outputs = [{layout.mp4(f, 720), layout.thumbnail(f)} for f in films]
    assert not outputs[0] & {one}
    if one != other:
        assert not outputs[0] & outputs[1]


def test_the_folder_changes_with_recipe_source_and_watermark_and_with_nothing_else() -> None:
    marked = Recipe(watermark=Watermark(key="m.png"))
    hashes = [
        layout.recipe_hash(Recipe(), "e1", ""),
        layout.recipe_hash(Recipe(heights=(720,)), "e1", ""),
        layout.recipe_hash(Recipe(), "e2", ""),
        layout.recipe_hash(marked, "e1", "w1"),
        layout.recipe_hash(marked, "e1", "w2"),
    ]
    assert len(set(hashes)) == 5
    assert layout.recipe_hash(Recipe(), "e1", "") == layout.recipe_hash(Recipe(hls=False), "e1", "") == hashes[0]


def test_what_two_keys_encrypted_lies_in_two_folders() -> None:
    secret = Recipe(encryption="aes-128")
    assert len({layout.recipe_hash(secret, "e1", "", iv) for iv in ("00", "01", "00")}) == 2


def test_each_sound_track_has_a_folder_of_its_own() -> None:
    of = film(source(video(), audio(language="eng"), audio(language="deu"), audio(language="eng")))
    assert layout.audio_renditions(of) == ["audio-eng", "audio-deu", "audio-eng-2"]
