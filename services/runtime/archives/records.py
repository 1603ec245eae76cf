"""The records of a ZIP archive. Pure. "APPNOTE" is PKWARE's .ZIP File Format Specification, version 6.3.10.

Names are written as they are given, as UTF-8 with flag bit 11 (APPNOTE 4.4.4, appendix D). Every local header carries CRC and
sizes: flag bit 3 and the data descriptor (4.3.9) are never used, so readers of streams know where a stored entry ends.
ZIP64 (4.5.3) is used only where a field would overflow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

Method = Literal["store", "deflate"]

_LOCAL: Final = struct.Struct("<IHHHHHIIIHH")  # APPNOTE 4.3.7
_CENTRAL: Final = struct.Struct("<IHHHHHHIIIHHHHHII")  # 4.3.12
_END64: Final = struct.Struct("<IQHHIIQQQQ")  # 4.3.14
_LOCATOR: Final = struct.Struct("<IIQI")  # 4.3.15
_END: Final = struct.Struct("<IHHHHIIH")  # 4.3.16
_TIMES: Final = struct.Struct("<HHBI")  # id, length, which times follow, seconds since 1970
_LOCAL64: Final = struct.Struct("<HHQQ")  # 4.5.3: "in the local header MUST include both"

_METHODS: Final[dict[Method, int]] = {"store": 0, "deflate": 8}  # 4.4.5
_UTF8: Final = 1 << 11
_UNIX_63: Final = 3 << 8 | 63
"""APPNOTE 4.4.2: attributes are those of Unix; written after version 6.3, the first with UTF-8 names."""
_NEEDED: Final = 20
_NEEDED_64: Final = 45
_REGULAR_FILE: Final = 0o100644 << 16
_MAX16: Final = 0xFFFF
_MAX32: Final = 0xFFFFFFFF
_TIMES_ID: Final = 0x5455
_MODIFIED_FOLLOWS: Final = 1

MAX_NAME_BYTES: Final = 0xFFFF - _CENTRAL.size - _TIMES.size - 4 - 3 * 8
"""A central header, its name and its extra fields together may have 65,535 bytes (APPNOTE 4.4.10); newer readers insist on it."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an archive."""

    name: str
    size: int
    """Bytes when unpacked."""
    compressed: int
    """Bytes in the archive. Not more than `size`: what deflate does not shrink is to be stored."""
    crc32: int
    """Of the unpacked bytes."""
    method: Method
    modified_ms: int


def header_bytes(name: str, size: int, compressed: int) -> int:
    """Length of the local header, known before the CRC.

    For a deflated entry whose compressed size is not known yet pass `size` in its place: the answer is the same, because it is
    not more than that.
    """
    return _LOCAL.size + len(name.encode()) + _TIMES.size + (_LOCAL64.size if max(size, compressed) >= _MAX32 else 0)


def local_header(entry: Entry) -> bytes:
    """What stands before an entry's data (APPNOTE 4.3.7); `header_bytes` long."""
    name, extra = entry.name.encode(), _times(entry.modified_ms)
    needed, size, compressed = _NEEDED, entry.size, entry.compressed
    if max(size, compressed) >= _MAX32:
        extra = _LOCAL64.pack(1, 16, size, compressed) + extra
        needed, size, compressed = _NEEDED_64, _MAX32, _MAX32
    day, time = dos_date_time(entry.modified_ms)
    method = _METHODS[entry.method]
    fixed = _LOCAL.pack(0x04034B50, needed, _UTF8, method, time, day, entry.crc32, compressed, size, len(name), len(extra))
    return fixed + name + extra


def central_header(entry: Entry, offset: int) -> bytes:
    """An entry in the central directory (APPNOTE 4.3.12). `offset` is that of its local header."""
    name, extra = entry.name.encode(), _times(entry.modified_ms)
    needed, size, compressed = _NEEDED, entry.size, entry.compressed
    if size >= _MAX32 or compressed >= _MAX32 or offset >= _MAX32:
        # 4.5.3: only the fields that overflow, in this order.
        large = [value for value in (size, compressed, offset) if value >= _MAX32]
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) + extra
        needed, size, compressed, offset = _NEEDED_64, min(size, _MAX32), min(compressed, _MAX32), min(offset, _MAX32)
    day, time = dos_date_time(entry.modified_ms)
    method = _METHODS[entry.method]
    fixed = _CENTRAL.pack(
        0x02014B50, _UNIX_63, needed, _UTF8, method, time, day, entry.crc32, compressed, size,
        len(name), len(extra), 0, 0, 0, _REGULAR_FILE, offset,
    )  # fmt: skip
    return fixed + name + extra


def central_directory(placed: Iterable[tuple[Entry, int]], at: int) -> bytes:
    """All that stands behind the last entry: central headers, the ZIP64 end record and its locator where needed, the end record.

    `placed` has each entry with the offset of its local header, in any order; `at` is the offset at which the answer will begin.
    """
    headers = [central_header(entry, offset) for entry, offset in placed]
    count, length = len(headers), sum(map(len, headers))
    headers.append(end_records(count, length, at))
    return b"".join(headers)


def end_records(count: int, length: int, at: int) -> bytes:
    """What stands behind the last of `count` central headers of `length` bytes together, the first at `at` (APPNOTE 4.3.14 to 16)."""
    here = min(count, _MAX16)
    end = _END.pack(0x06054B50, 0, 0, here, here, min(length, _MAX32), min(at, _MAX32), 0)
    if not _overflows(count, length, at):
        return end
    # 4.3.14.1: its size is counted without its first 12 bytes.
    end64 = _END64.pack(0x06064B50, _END64.size - 12, _UNIX_63, _NEEDED_64, 0, 0, count, count, length, at)
    return end64 + _LOCATOR.pack(0x07064B50, 0, at + length, 1) + end


def central_bytes(placed: Iterable[tuple[str, int, int, int]], at: int) -> int:
    """Length of `central_directory`, known before any CRC; `placed` has name, size, compressed size and offset of each entry."""
    count = length = 0
    for name, size, compressed, offset in placed:
        count += 1
        length += _CENTRAL.size + len(name.encode()) + _TIMES.size
        if large := (size >= _MAX32) + (compressed >= _MAX32) + (offset >= _MAX32):
            length += 4 + 8 * large
    return length + _END.size + (_END64.size + _LOCATOR.size if _overflows(count, length, at) else 0)


def dos_date_time(modified_ms: int) -> tuple[int, int]:
    """Date and time as APPNOTE 4.4.6 has them: UTC, from 1980 to 2107, the even second before."""
    days, second = divmod(modified_ms // 1000, 86_400)
    year, month, day = _civil(days)
    if year < 1980:
        return 1 << 5 | 1, 0
    if year > 2107:
        return 127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29
    return (year - 1980) << 9 | month << 5 | day, second // 3600 << 11 | second // 60 % 60 << 5 | second % 60 // 2


def _times(modified_ms: int) -> bytes:
    """The extended timestamp (Info-ZIP's extrafld.txt, id 0x5455): the second in UTC, by which unpacking restores the exact date.

    It holds 32 bits, which some readers take with a sign and others without. A date on which they differ, before 1970 or after
    2038, is left to the DOS fields; the length stays the same.
    """
    seconds = modified_ms // 1000
    if 0 <= seconds < 2**31:
        return _TIMES.pack(_TIMES_ID, 5, _MODIFIED_FOLLOWS, seconds)
    return _TIMES.pack(_TIMES_ID, 5, 0, 0)


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day counted from 1970-01-01, in eras of 400 years that begin with March."""
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    march_based = (5 * of_year + 2) // 153
    month = march_based + 3 if march_based < 10 else march_based - 9
    return era * 400 + year + (month <= 2), month, of_year - (153 * march_based + 2) // 5 + 1


def _overflows(count: int, length: int, at: int) -> bool:
    """Whether the end record needs ZIP64. A field that is full to the brim means "see there" (APPNOTE 4.4.1.4)."""
    return count >= _MAX16 or length >= _MAX32 or at >= _MAX32
