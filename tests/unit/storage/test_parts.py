"""Sizes of parts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.storage.base import MAX_PART_BYTES, MAX_PARTS, MIN_PART_BYTES, Part, Refused
from services.runtime.storage.parts import MIB, check_order, copy_ranges, part_size
from services.runtime.storage.s3_store import multipart_etag

TERABYTES_5 = 5 * 1024**4


@given(st.integers(0, TERABYTES_5))
def test_parts_of_a_known_size_are_equal_and_few_enough(size: int) -> None:
    step = part_size(1, size)
    assert MIN_PART_BYTES <= step <= MAX_PART_BYTES
    assert -(-size // step) <= MAX_PARTS
    assert part_size(MAX_PARTS, size) == step


def test_parts_of_an_unknown_size_grow_slowly_and_hold_880_gib() -> None:
    sizes = [part_size(number, None) for number in range(1, MAX_PARTS + 1)]
    assert sizes == sorted(sizes)
    assert set(sizes[:1000]) == {8 * MIB}
    assert max(sizes) <= 320 * MIB
    assert sum(sizes) >= 880 * 1024 * MIB
    with pytest.raises(Refused, match="announce its size"):
        part_size(MAX_PARTS + 1, None)


@given(st.integers(1, TERABYTES_5))
def test_copied_ranges_cover_each_byte_once(size: int) -> None:
    ranges = copy_ranges(size)
    assert len(ranges) <= MAX_PARTS
    assert (ranges[0][0], ranges[-1][1]) == (0, size)
    assert all(one[1] == two[0] for one, two in itertools.pairwise(ranges))
    assert all(MIN_PART_BYTES <= end - start <= MAX_PART_BYTES for start, end in ranges[:-1])


def test_the_order_of_parts_is_theirs() -> None:
    one, two = (Part(number=n, etag="", size=1) for n in (1, 2))
    check_order("a", [one, two])
    for wrong in ([], [two, one], [one, one]):
        with pytest.raises(Refused, match="'a'"):
            check_order("a", wrong)


def test_parts_with_checksums_are_numbered_from_1_without_gaps() -> None:
    one, two, three = (Part(number=n, etag="", size=1) for n in (1, 2, 3))
    check_order("a", [one, two, three], gapless=True)
    for wrong in ([two], [one, three], [two, three]):
        check_order("a", wrong)
        with pytest.raises(Refused, match="without gaps"):
            check_order("a", wrong, gapless=True)


def test_the_etag_of_parts_is_known_where_theirs_are_digests() -> None:
    empty = Part(number=1, etag="d41d8cd98f00b204e9800998ecf8427e", size=0)
    assert multipart_etag([empty]) == "59adb24ef3cdbe0297f05b395827453f-1"
    assert multipart_etag([Part(number=1, etag="no digest", size=0)]) == ""
