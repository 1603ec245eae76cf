"""Parts cover every byte once and keep the rules of uploads, whatever the sizes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.archives.records import header_bytes
from services.runtime.storage.base import MAX_PART_BYTES, MAX_PARTS, MIN_PART_BYTES
from services.zipper import compose
from services.zipper.archive import MakePack, MoveRanges, Range, Source
from services.zipper.compose import GIB, LARGE_BYTES, MIB, Layout, TooManyParts, is_large, ordered

SIZES = st.one_of(
    st.integers(0, 100_000),
    st.integers(0, 40 * MIB),
    st.sampled_from([0, 1, MIN_PART_BYTES - 1, MIN_PART_BYTES, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 261 * MIB, 2**32 - 1, 2**32]),
    st.integers(0, 600 * GIB),
)  # fmt: skip


def source(n: int, size: int, method: str = "store") -> Source:
    return Source(bucket="b", key=f"k{n}", etag="e", size=size, modified_ms=0, name=f"k{n}", method=method)  # type: ignore[arg-type]


@st.composite
def archives(draw: st.DrawFn) -> tuple[Source, ...]:
    sizes = draw(st.lists(SIZES, min_size=1, max_size=60))
    methods = draw(st.lists(st.sampled_from(["store", "store", "look", "deflate"]), min_size=len(sizes), max_size=len(sizes)))
    return ordered(
        source(n, size, method if size < 8 * GIB else "store") for n, (size, method) in enumerate(zip(sizes, methods, strict=True))
    )


def check(sources: tuple[Source, ...], layout: Layout) -> None:
    """Every byte of every source, and every header, is in exactly one part; parts are in the order of the archive and keep the rules."""
    heads = {head.source: head for work in layout.heads for head in work.heads}
    ranges: dict[int, list[Range]] = {}
    for each in (each for work in layout.moves if isinstance(work, MoveRanges) for each in work.ranges):
        ranges.setdefault(each.source, []).append(each)
    packs = [work for work in layout.moves if isinstance(work, MakePack)]
    spans: list[tuple[int, int, int]] = []
    for n, each in enumerate(sources):
        mine = sorted(ranges.get(n, []), key=lambda r: r.start)
        packed = [pack for pack in packs if pack.first <= n < pack.last]
        if not is_large(each):
            assert (len(packed), mine, n in heads) == (1, [], False)
            continue
        assert not packed
        head = heads[n]
        assert [head.end, *(r.end for r in mine)] == [*(r.start for r in mine), each.size]
        assert MIN_PART_BYTES <= header_bytes(each.name, each.size, each.size) + head.end <= MAX_PART_BYTES
        assert all(MIN_PART_BYTES <= r.end - r.start <= MAX_PART_BYTES for r in mine)
        assert {r.slice for r in mine} == {head.slice}
        assert [r.part for r in mine] == list(range(head.part + 1, head.part + 1 + len(mine)))
        spans.append((head.slice, head.part, 1 + len(mine)))
    for pack in packs:
        most = sum(header_bytes(s.name, s.size, s.size) + s.size for s in sources[pack.first : pack.last])
        assert pack.parts * pack.part_bytes >= most or (pack.parts == 0 and most <= compose.ASIDE_BYTES)
        assert MIN_PART_BYTES <= pack.part_bytes <= compose.LARGEST_PART_BYTES
        spans.append((pack.slice, pack.part, pack.parts))
    # In the order of the archive, without overlapping, within the numbers that there are.
    for (piece, part, count), (next_piece, next_part, _) in pairwise(spans):
        assert (next_piece, next_part) >= (piece, part + count) or next_piece == piece + 1
    assert all(part >= 1 and part + count - 1 <= MAX_PARTS - compose.TAIL_PARTS for _, part, count in spans)
    if layout.checksums:
        assert sorted(numbers(layout)) == list(range(1, layout.tail_part))
    if layout.slices:
        assert [join.slice for join in layout.joins] == list(range(len(layout.slices)))
        assert [join.part + count for join, count in zip(layout.joins, layout.slices, strict=True)][-1] == layout.tail_part
    else:
        assert layout.tail_part == (spans[-1][1] + spans[-1][2] if spans else 1)
    assert layout.tail_part <= MAX_PARTS - compose.TAIL_PARTS + 1


def numbers(layout: Layout) -> list[int]:
    """Of all parts that are certain."""
    ranges = [each.part for work in layout.moves if isinstance(work, MoveRanges) for each in work.ranges]
    return ranges + [head.part for work in layout.heads for head in work.heads]


@given(sources=archives(), known=st.booleans(), told=st.booleans())
@settings(max_examples=150, deadline=None)
def test_parts_cover_every_byte_once_where_ranges_are_copied(sources: tuple[Source, ...], known: bool, told: bool):
    check(sources, compose.compose(sources, copied=True, known=known, told=told))


@given(sources=archives())
@settings(max_examples=100, deadline=None)
def test_parts_cover_every_byte_once_where_all_bytes_are_moved(sources: tuple[Source, ...]):
    try:
        layout = compose.compose(sources, copied=False, known=False)
    except TooManyParts:
        assert sum(s.size for s in sources) > 300 * GIB
        return
    check(sources, layout)
    assert all(r.end - r.start <= compose.LARGEST_PART_BYTES for w in layout.moves if isinstance(w, MoveRanges) for r in w.ranges)


def test_more_large_sources_than_an_upload_has_parts_are_made_in_slices():
    sources = ordered(source(n, 20 * MIB) for n in range(12_000))
    layout = compose.compose(sources, copied=True, known=True)
    check(sources, layout)
    assert len(layout.slices) == 3
    with pytest.raises(TooManyParts, match=r"needs 24,000 parts .* takes 9,800"):
        compose.compose(sources, copied=False, known=False)


def test_the_largest_archive_of_all():
    sources = ordered([source(0, 5 * 1024 * GIB - GIB)])
    layout = compose.compose(sources, copied=True, known=True)
    check(sources, layout)
    assert 640 <= len(layout.moves) <= 900


def test_small_sources_alone_need_one_task():
    layout = compose.compose(ordered(source(n, 64 * 1024, "look") for n in range(1000)), copied=False, known=True)
    assert [type(work) for work in layout.moves] == [MakePack]
    assert (layout.heads, layout.joins) == ((), ())


@given(size=st.integers(0, 10**9), count=st.integers(1, 50))
def test_even_pieces(size: int, count: int):
    pieces = compose.even(size, count)
    assert [pieces[0][0], *(end for _, end in pieces)] == [*(start for start, _ in pieces), size]
    lengths = {end - start for start, end in pieces}
    assert max(lengths) - min(lengths) <= 1
