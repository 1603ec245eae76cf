"""Keys and the types that they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.storage.base import Refused
from services.runtime.storage.keys import check_key, content_type_of, key_fault


def test_the_error_says_the_key_its_fault_and_what_is_accepted() -> None:
    with pytest.raises(Refused) as caught:
        check_key("a/../b")
    assert "'a/../b'" in str(caught.value)
    assert "the segment '..'" in str(caught.value)
    assert "1 to 1024 bytes of UTF-8" in str(caught.value)


@given(st.text())
def test_an_accepted_key_stays_below_its_root_and_can_be_written(key: str) -> None:
    if not key_fault(key):
        assert 1 <= len(key.encode()) <= 1024
        assert not {"", ".", ".."} & set(key.split("/"))
        assert not set("\\\0\n\r") & set(key)


def test_the_limit_counts_bytes() -> None:
    assert (key_fault("é" * 512), key_fault("é" * 512 + "x")) == ("", "it is 1025 bytes long")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a/film.MP4", "video/mp4"),
        ("master.m3u8", "application/vnd.apple.mpegurl"),
        ("00012.m4s", "video/iso.segment"),
        ("a.ts", "video/mp2t"),
        ("captions-en.vtt", "text/vtt"),
        ("poster.jpg", "image/jpeg"),
        ("folder.mp4/file", "application/octet-stream"),
        ("film.", "application/octet-stream"),
        ("film.unheard-of", "application/octet-stream"),
    ],
)
def test_the_ending_tells_the_type(key: str, expected: str) -> None:
    assert content_type_of(key) == expected
