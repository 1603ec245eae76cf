"""Which parts an archive is uploaded in, and which tasks make them. Pure.

The archive begins with the *large* sources, stored as they are: each has a *head* (its header and its first 5 MiB, uploaded
by a worker) and *ranges* (copied inside the store where it can do that). Then come *packs* of the other sources, which a worker
reads, deflates where that pays, and uploads. A pack is made without knowing any other, so it keeps the rules by itself: what is left
of it below 5 MiB is put aside, and `finish` writes all that was put aside, and the central directory, at the end.

Rules: Amazon S3 User Guide, "Amazon S3 multipart upload limits": 5 MiB to 5 GiB each but the last, 10,000 of them. Where that
is too few, *slices* of the archive are made as objects of their own, and copied into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from services.runtime.archives.records import header_bytes
from services.runtime.storage.base import MAX_PART_BYTES, MAX_PARTS, MIN_PART_BYTES
from services.zipper.archive import Head, JoinSlice, MakePack, MoveRanges, Range, Source, WriteHeads

MIB: Final = 1024**2
GIB: Final = 1024**3
HEAD_BYTES: Final = MIN_PART_BYTES
LEAST_COPY_BYTES: Final = 8 * MIB
"""Less is not worth a request of its own."""
LARGE_BYTES: Final = HEAD_BYTES + LEAST_COPY_BYTES
COPY_BYTES: Final = 256 * MIB
"""Of one copied range; more where there would be too many."""
MOVE_BYTES: Final = 16 * MIB
"""Of one range that a worker moves. Even pieces of a little more are a little more than half of it, and must be parts."""
PART_BYTES: Final = 8 * MIB
"""Of one part that a worker uploads; a few of them are in its memory."""
LARGEST_PART_BYTES: Final = 64 * MIB
ASIDE_BYTES: Final = 64 * MIB
"""Packs of no more than this can be left to `finish` as they are."""
TAIL_PARTS: Final = 200
"""Kept free for what `finish` writes."""
# About half a minute of work each: copies inside a store run at some hundred MB/s, a worker moves some ten to a hundred.
TASK_COPY_BYTES: Final = 8 * GIB
TASK_MOVE_BYTES: Final = GIB
TASK_SOURCES: Final = 4000
TASK_HEADS: Final = 64
JOIN_BYTES: Final = 4 * GIB
"""Of one range when a slice is copied into the archive."""


class TooManyParts(Exception):
    """The archive does not fit into an upload of the store."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks by stage, and what `finish` must know."""

    moves: tuple[MoveRanges | MakePack, ...]
    heads: tuple[WriteHeads, ...]
    joins: tuple[JoinSlice, ...]
    slices: tuple[int, ...]
    tail_part: int
    """Number of the first part that `finish` may write."""
    checksums: bool
    """Whether the upload may be one in which the store keeps CRC-32s: Amazon S3 then wants part numbers without gaps."""


def is_large(source: Source) -> bool:
    """Whether it is cut into ranges: stored, and enough of it is left behind its head."""
    return source.method == "store" and source.size >= LARGE_BYTES


def ordered(sources: Iterable[Source]) -> tuple[Source, ...]:
    """As the archive has them: the large ones, then the others, each in the order in which they were asked for."""
    return tuple(sorted(sources, key=lambda source: not is_large(source)))


def compose(sources: Sequence[Source], *, copied: bool, known: bool, told: bool = False) -> Layout:
    """The tasks for `sources`, which are `ordered`.

    `copied`: the store copies ranges. `known`: the CRCs of all large sources are known, so that a copied range need not be read.
    `told`: the store tells the CRC of a range that it copies. Raises TooManyParts.
    """
    large = [n for n, source in enumerate(sources) if is_large(source)]
    total = sum(source.size for source in sources)
    range_bytes = _range_bytes(total, copied)
    packs = list(_packs(sources, len(large)))
    part_bytes = _part_bytes(sources, packs)
    # How many parts a pack becomes is not known before: so numbers have no gaps only where packs are put aside.
    gapless = told and not known and sum(_upper_bytes(s) for s in sources[len(large) :]) <= ASIDE_BYTES
    units = [
        *(1 + _count(sources[n].size - HEAD_BYTES, range_bytes) for n in large),
        *(0 if gapless else _pack_parts(sources, p, part_bytes) for p in packs),
    ]
    numbers, slices = _numbered(units, MAX_PARTS - TAIL_PARTS)
    if slices and not copied:
        raise TooManyParts(
            f"the archive of {len(sources):,} objects and {total:,} bytes needs {sum(units):,} parts of an upload; a store that "
            f"cannot copy ranges of objects takes {MAX_PARTS - TAIL_PARTS:,}"
        )
    ranges: list[Range] = []
    heads: list[Head] = []
    for n, (piece, part) in zip(large, numbers, strict=False):
        heads.append(Head(source=n, end=HEAD_BYTES, part=part, slice=piece))
        cuts = _cuts(HEAD_BYTES, sources[n].size, range_bytes)
        ranges += [Range(source=n, start=a, end=b, part=part + k, slice=piece) for k, (a, b) in enumerate(cuts, start=1)]
    made = [
        MakePack(first=first, last=last, part=part, parts=count, part_bytes=part_bytes, slice=piece)
        for (first, last), (piece, part), count in zip(packs, numbers[len(large) :], units[len(large) :], strict=True)
    ]
    budget = TASK_COPY_BYTES if copied and known else TASK_MOVE_BYTES
    joins, sizes, tail = _joins(sources, heads, ranges, made, slices) if slices else ((), (), sum(units) + 1)
    return Layout(
        moves=(*(MoveRanges(ranges=tuple(group)) for group in _groups(ranges, budget)), *made),
        heads=tuple(WriteHeads(heads=tuple(heads[at : at + TASK_HEADS])) for at in range(0, len(heads), TASK_HEADS)),
        joins=joins,
        slices=sizes,
        tail_part=tail,
        checksums=gapless and not slices,
    )


def even(size: int, count: int) -> list[tuple[int, int]]:
    """[0, size) in `count` pieces that differ by one byte at most."""
    borders = [size * n // count for n in range(count + 1)]
    return list(pairwise(borders))


def _cuts(start: int, end: int, length: int) -> list[tuple[int, int]]:
    """[start, end) in even pieces of `length` at most. None is shorter than half of that when there are several."""
    return [(start + a, start + b) for a, b in even(end - start, _count(end - start, length))]


def _count(size: int, length: int) -> int:
    return max(1, -(-size // length))


def _range_bytes(total: int, copied: bool) -> int:
    wanted = max(COPY_BYTES, 4 * total // MAX_PARTS) if copied else max(MOVE_BYTES, 2 * total // MAX_PARTS)
    return min(wanted, MAX_PART_BYTES if copied else LARGEST_PART_BYTES)


def _upper_bytes(source: Source) -> int:
    """The most that a source takes in a pack: what deflate would enlarge is stored."""
    return header_bytes(source.name, source.size, source.size) + source.size


def _packs(sources: Sequence[Source], begin: int) -> Iterator[tuple[int, int]]:
    """The sources from `begin` on in runs of one task's work."""
    first, size = begin, 0
    for n in range(begin, len(sources)):
        more = _upper_bytes(sources[n])
        if n > first and (size + more > TASK_MOVE_BYTES or n - first >= TASK_SOURCES):
            yield first, n
            first, size = n, 0
        size += more
    if first < len(sources):
        yield first, len(sources)


def _part_bytes(sources: Sequence[Source], packs: Sequence[tuple[int, int]]) -> int:
    total = sum(_upper_bytes(source) for first, last in packs for source in sources[first:last])
    return min(LARGEST_PART_BYTES, max(PART_BYTES, 2 * total // MAX_PARTS))


def _pack_parts(sources: Sequence[Source], pack: tuple[int, int], part_bytes: int) -> int:
    return _count(sum(_upper_bytes(source) for source in sources[pack[0] : pack[1]]), part_bytes)


def _numbered(units: Sequence[int], limit: int) -> tuple[list[tuple[int, int]], int]:
    """For units of so many parts: slice and number of each one's first part; and how many slices, 0 when one upload holds all."""
    if sum(units) <= limit:
        return [(0, 1 + sum_before) for sum_before in _running(units)], 0
    placed: list[tuple[int, int]] = []
    piece, used = 0, 0
    for count in units:
        if used + count > limit:
            piece, used = piece + 1, 0
        placed.append((piece, used + 1))
        used += count
    return placed, piece + 1


def _running(counts: Iterable[int]) -> Iterator[int]:
    total = 0
    for count in counts:
        yield total
        total += count


def _joins(
    sources: Sequence[Source], heads: Sequence[Head], ranges: Sequence[Range], packs: Sequence[MakePack], slices: int
) -> tuple[tuple[JoinSlice, ...], tuple[int, ...], int]:
    """The tasks that copy slices into the archive, the most parts of each, and the number after the last."""
    sizes = [0] * slices
    for head in heads:
        sizes[head.slice] += head.end + header_bytes(sources[head.source].name, sources[head.source].size, sources[head.source].size)
    for each in ranges:
        sizes[each.slice] += each.end - each.start
    for pack in packs:
        sizes[pack.slice] += sum(_upper_bytes(source) for source in sources[pack.first : pack.last])
    counts = [_count(size, JOIN_BYTES) for size in sizes]
    joins = tuple(JoinSlice(slice=n, part=1 + before) for n, before in enumerate(_running(counts)))
    return joins, tuple(counts), 1 + sum(counts)


def _groups(ranges: Sequence[Range], budget: int) -> Iterator[list[Range]]:
    group: list[Range] = []
    size = 0
    for each in ranges:
        if group and size + each.end - each.start > budget:
            yield group
            group, size = [], 0
        group.append(each)
        size += each.end - each.start
    if group:
        yield group
