"""The Range header, RFC 9110 §14."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.uploads.ranges import Unsatisfiable, parse


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-99", (0, 100)),
        ("bytes=10-", (10, 100)),
        ("bytes=10-1000", (10, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("Bytes=5-6", (5, 7)),
    ],
)
def test_a_range_within_the_object(header: str, expected: tuple[int, int]) -> None:
    assert parse(header, 100) == expected


@pytest.mark.parametrize("header", ["", "bytes=", "bytes=-", "bytes=9-5", "bytes=a-b", "items=0-1", "bytes=0-1,5-6", "bytes=1e3-", "0-5"])
def test_what_is_malformed_or_not_supported_is_ignored(header: str) -> None:
    assert parse(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse(header, 100)


def test_nothing_of_an_empty_object_can_be_had() -> None:
    with pytest.raises(Unsatisfiable):
        parse("bytes=0-", 0)
    with pytest.raises(Unsatisfiable):
        parse("bytes=-5", 0)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 150))
def test_a_range_lies_within_the_object(first: int, last: int, size: int) -> None:
    try:
        found = parse(f"bytes={first}-{last}", size)
    except Unsatisfiable:
        assert first >= size
        return
    if found is None:
        assert last < first
    else:
        assert found == (first, min(last + 1, size))
