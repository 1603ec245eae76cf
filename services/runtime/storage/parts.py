"""Numbers, order and sizes of the parts of a multipart upload. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from services.runtime.storage.base import MAX_PARTS, Part, Refused, StorageError

MIB = 1024**2
SMALLEST = 8 * MIB
"""Above the least that is accepted (5 MiB), small enough that an upload holds only twice as much in memory."""
_STEP = 1000


def check_number(number: int) -> None:
    """Raises Refused for a part number that does not exist."""
    if not 1 <= number <= MAX_PARTS:
        raise Refused(f"a part's number is 1 to {MAX_PARTS}, not {number}")


def check_order(key: str, parts: Sequence[Part], *, gapless: bool = False) -> None:
    """Raises Refused when these parts cannot make an object, whatever their content.

    `gapless`: where parts have checksums their numbers begin at 1 and have no gaps (Amazon S3 API reference, CompletedPart).
    """
    if not parts:
        raise Refused(f"the upload of {key!r} cannot be completed without parts")
    if any(later.number <= earlier.number for earlier, later in pairwise(parts)):
        raise Refused(f"the parts of {key!r} are not in ascending order of their numbers")
    if gapless and parts[-1].number != len(parts):
        raise Refused(
            f"the parts of {key!r} are numbered up to {parts[-1].number} and are {len(parts)}: in an upload with checksums they are "
            "numbered from 1 on, without gaps"
        )


def check_size(key: str, announced: int | None, arrived: int) -> None:
    """Raises StorageError when a body is not as long as was announced."""
    if announced is not None and arrived != announced:
        came = "more" if arrived > announced else f"{arrived} bytes"
        raise StorageError(f"{key!r} was not stored: {came} arrived, {announced} were announced")


def part_size(number: int, size: int | None) -> int:
    """Bytes of part `number`, counted from 1, of an object of `size` bytes, or of unknown size.

    Known: equal parts, fewer than 10,000. Unknown: half as much again after each 1,000 parts, so that the first gigabytes
    need no more memory than a known size would, and 10,000 parts still hold 880 GiB.
    """
    if size is not None:
        return max(SMALLEST, -(-size // (MAX_PARTS - 1) // MIB) * MIB)
    if number > MAX_PARTS:
        raise Refused(f"a stream of unknown size can be stored up to {MAX_PARTS} parts; announce its size")
    return int(SMALLEST * 1.5 ** ((number - 1) // _STEP)) // MIB * MIB


def copy_ranges(size: int, least: int = 256 * MIB) -> list[tuple[int, int]]:
    """The ranges [start, end) in which an object of `size` bytes is copied, at most 10,000 of them."""
    step = max(least, -(-size // MAX_PARTS))
    return [(start, min(start + step, size)) for start in range(0, size, step)]
