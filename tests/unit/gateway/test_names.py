"""Names that clients send, as keys and titles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.uploads.names import MAX_SEGMENT_BYTES, clean_title, safe_segment, shown_name, title_of
from services.runtime.storage.keys import key_fault


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("film.mov", "film.mov"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\film.avi", "film.avi"),
        ("..", "upload"),
        ("", "upload"),
        ("/", "upload"),
        (".mp4", "mp4"),
        ("a\0b.mp4", "ab.mp4"),
        ("🎬🎬.mp4", "upload.mp4"),
        ("my 🎬 film.mp4", "my_film.mp4"),
        ("Größe été.MOV", "Größe_été.MOV"),
        ("映画.mkv", "映画.mkv"),
        ("a?b#c%d&e.mp4", "a_b_c_d_e.mp4"),
        ("-rf.mp4", "rf.mp4"),
        ("no extension", "no_extension"),
        ("archive.tar.gz", "archive.tar.gz"),
        ("half \ud83c surrogate.mp4", "half_surrogate.mp4"),
        ("trailing...mp4", "trailing.mp4"),
    ],
)
def test_a_file_name_becomes_a_safe_segment(filename: str, expected: str) -> None:
    assert safe_segment(filename) == expected


def test_a_long_name_is_cut_and_keeps_its_extension() -> None:
    segment = safe_segment("x" * 300 + ".mp4")
    assert segment == "x" * (MAX_SEGMENT_BYTES - 4) + ".mp4"


def test_a_long_name_in_a_wide_script_is_cut_between_characters() -> None:
    segment = safe_segment("映" * 300 + ".mp4")
    assert len(segment.encode()) <= MAX_SEGMENT_BYTES
    assert segment == "映" * 65 + ".mp4"


@given(st.text(max_size=400))
def test_any_name_gives_a_key_that_every_store_takes(filename: str) -> None:
    segment = safe_segment(filename)
    assert key_fault(f"assets/x/source/{segment}") == ""
    assert 1 <= len(segment.encode()) <= MAX_SEGMENT_BYTES
    assert "/" not in segment
    assert not segment.startswith((".", "-"))


@given(st.text(max_size=400))
def test_any_name_gives_a_title_and_a_name_within_their_limits(filename: str) -> None:
    assert 1 <= len(title_of(filename)) <= 300
    assert 1 <= len(shown_name(filename)) <= 300


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("Summer_1998.mov", "Summer 1998"),
        ("a/b/The  film.mp4", "The film"),
        ("🎬 first cut.mp4", "🎬 first cut"),
        ("..", "Untitled"),
        ("<b>x</b>.mp4", "b>"),
    ],
)
def test_the_title_comes_from_the_file_name(filename: str, expected: str) -> None:
    assert title_of(filename) == expected


def test_a_title_loses_control_characters_and_is_cut() -> None:
    assert clean_title("  two\nlines\x00 and\ttabs  ") == "two lines and tabs"
    assert len(clean_title("x" * 500)) == 300


def test_a_shown_name_of_300_characters_keeps_its_extension() -> None:
    name = shown_name("y" * 400 + ".webm")
    assert len(name) == 300
    assert name.endswith("y.webm")
