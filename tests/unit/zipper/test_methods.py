"""What is compressed already is stored."""

from __future__ import annotations

import os
import zlib

import pytest

from services.zipper import methods


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("films/a.mp4", "store"), ("a.JPG", "store"), ("a.tar.gz", "store"), ("sub/b.srt", "deflate"), ("b.CSV", "deflate"),
        ("README", "look"), (".mp4/x", "look"), ("a.xyz", "look"), ("mp4", "look"), (".mp4", "look"),
    ],
)  # fmt: skip
def test_the_ending_of_a_name(name: str, expected: str):
    assert methods.by_name(name) == expected


def test_a_sample_decides():
    assert not methods.worthwhile(os.urandom(methods.SAMPLE_BYTES))
    assert methods.worthwhile(b"all work and no play " * 3000)
    assert not methods.worthwhile(b"")


def test_deflated_is_what_every_reader_knows():
    data = b"all work and no play " * 3000
    assert zlib.decompress(methods.deflated(data), -15) == data


def test_samples_come_from_beginning_middle_and_end():
    places = methods.sample_places(10 * 1024**3)
    assert [end - start for start, end in places] == [methods.SAMPLE_BYTES] * 3
    assert (places[0][0], places[-1][1]) == (0, 10 * 1024**3)
