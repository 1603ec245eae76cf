"""Where each byte of a stored archive comes from."""

from __future__ import annotations

import io
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.archives.checksums import crc32
from services.runtime.archives.layout import Central, Data, Header, Item, Layout, Piece
from services.runtime.archives.records import central_directory, local_header
from tests.archives import File, write

files = st.lists(
    st.builds(
        File, name=st.text("aé/", min_size=1, max_size=5), content=st.binary(max_size=40), modified_ms=st.integers(0, 2**42)
    ),
    max_size=8,
)  # fmt: skip


def items_of(files: list[File]) -> list[Item]:
    return [Item(name=file.name, size=len(file.content), modified_ms=file.modified_ms) for file in files]


def written(files: list[File]) -> bytes:
    out = io.BytesIO()
    write(out, files)
    return out.getvalue()


class Assembly:
    """Makes the bytes of a piece, as a download does."""

    def __init__(self, files: list[File]) -> None:
        items = items_of(files)
        self.files, self.layout = files, Layout(items)
        self.entries = [item.entry(crc32(file.content)) for item, file in zip(items, files, strict=True)]
        self.central = central_directory(zip(self.entries, self.layout.headers, strict=False), self.layout.central)

    def bytes(self, piece: Piece) -> bytes:
        match piece:
            case Header(index, start, end):
                whole = local_header(self.entries[index])
            case Data(index, start, end):
                whole = self.files[index].content
            case Central(start, end):
                whole = self.central
        assert 0 <= start < end <= len(whole)
        return whole[start:end]


@given(files, st.data())
def test_the_pieces_of_ranges_that_partition_it_are_the_archive(files: list[File], data: st.DataObject) -> None:
    assembly = Assembly(files)
    size = assembly.layout.size
    cuts = sorted({0, size, *data.draw(st.lists(st.integers(0, size), max_size=10))})
    pieces = [assembly.bytes(piece) for start, end in pairwise(cuts) for piece in assembly.layout.pieces(start, end)]
    assert b"".join(pieces) == written(files)


@given(files, st.data())
def test_a_range_is_made_of_what_overlaps_it(files: list[File], data: st.DataObject) -> None:
    assembly = Assembly(files)
    start = data.draw(st.integers(0, assembly.layout.size))
    end = data.draw(st.integers(start, assembly.layout.size))
    assert b"".join(map(assembly.bytes, assembly.layout.pieces(start, end))) == written(files)[start:end]


def test_offsets_and_length() -> None:
    layout = Layout([Item(name="a", size=10, modified_ms=0), Item(name="bb", size=0, modified_ms=0)])
    assert len(layout) == 2
    assert (list(layout.headers), list(layout.data)) == ([0, 50, 91], [40, 91])
    assert (layout.central, layout.size) == (91, 91 + 56 + 57 + 22)
    assert list(layout.pieces(0, layout.size)) == [Header(0, 0, 40), Data(0, 0, 10), Header(1, 0, 41), Central(0, 135)]
    assert list(layout.pieces(45, 52)) == [Data(0, 5, 10), Header(1, 0, 2)]
    assert list(layout.pieces(50, 50)) == []


def test_an_entry_beyond_4_gib_moves_those_behind_it() -> None:
    size = 5 * 2**30
    layout = Layout([Item(name="a", size=size, modified_ms=0), Item(name="b", size=1, modified_ms=0)])
    assert list(layout.data) == [60, 60 + size + 40]
    # Sizes of the first, offset of the second, end record with locator.
    assert layout.size - layout.central == 56 + 20 + 56 + 12 + 56 + 20 + 22
    assert list(layout.pieces(60 + 2**32, 60 + 2**32 + 7)) == [Data(0, 2**32, 2**32 + 7)]


def test_an_archive_of_nothing() -> None:
    assert list(Layout([]).pieces(0, 22)) == [Central(0, 22)]


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 4), (0, 23)])
def test_a_range_that_it_does_not_have(start: int, end: int) -> None:
    with pytest.raises(ValueError, match=r"of an archive of 22"):
        Layout([]).pieces(start, end)


def test_a_small_range_of_many_entries_is_found_without_walking_over_them() -> None:
    class Counting(array):  # type: ignore[type-arg]
        looks = 0

        def __getitem__(self, index: int) -> int:  # type: ignore[override]
            Counting.looks += 1
            return super().__getitem__(index)

    layout = Layout(Item(name=f"{n:05}", size=100, modified_ms=0) for n in range(70_000))
    layout.headers = Counting("Q", layout.headers)
    at = layout.data[69_000]
    Counting.looks = 0
    assert list(layout.pieces(at, at + 200)) == [Data(69_000, 0, 100), Header(69_001, 0, 44), Data(69_001, 0, 56)]
    assert Counting.looks < 50
