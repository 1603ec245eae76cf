"""The bytes of an archive."""

from __future__ import annotations

import io
import struct
import zipfile
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.archives.records import (
    MAX_NAME_BYTES,
    Entry,
    central_bytes,
    central_directory,
    central_header,
    dos_date_time,
    header_bytes,
    local_header,
)
from tests.archives import File, write

FULL32 = 2**32 - 1
MODIFIED = 1_700_000_001_000  # 2023-11-14 22:13:21 UTC

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
lengths = st.one_of(st.integers(0, 100), st.integers(FULL32 - 2, FULL32 + 2), st.integers(0, 2**40))
entries = st.builds(
    Entry, name=names, size=lengths, compressed=lengths, crc32=st.integers(0, FULL32), method=st.sampled_from(["store", "deflate"]),
    modified_ms=st.integers(-(2**50), 2**50),
)  # fmt: skip


def entry(name: str = "a", size: int = 5, modified_ms: int = MODIFIED) -> Entry:
    return Entry(name=name, size=size, compressed=size, crc32=0x3610A686, method="store", modified_ms=modified_ms)


def test_an_archive_byte_for_byte() -> None:
    out = io.BytesIO()
    write(out, [File("é", b"hello", MODIFIED)])
    moment = bytes.fromhex("aab1 6e57")  # 22:13:20; 2023-11-14
    times = bytes.fromhex("5554 0500 01 01f15365")
    assert out.getvalue() == b"".join(
        [
            b"PK\x03\x04",
            bytes.fromhex("1400 0008 0000"),  # version 2.0, flag bit 11 alone, stored
            moment,
            bytes.fromhex("86a61036 05000000 05000000 0200 0900"),  # CRC, sizes, lengths of name and extra
            "é".encode(),
            times,
            b"hello",
            b"PK\x01\x02",
            bytes.fromhex("3f03 1400 0008 0000"),  # made by 6.3 on Unix
            moment,
            bytes.fromhex("86a61036 05000000 05000000 0200 0900 0000 0000 0000 0000a481 00000000"),  # … -rw-r--r--, offset
            "é".encode(),
            times,
            b"PK\x05\x06",
            bytes.fromhex("0000 0000 0100 0100 39000000 2e000000 0000"),
        ]
    )


@given(entries, st.integers(0, FULL32))
def test_the_length_of_a_local_header_is_known_before_its_crc(entry: Entry, crc32: int) -> None:
    assert header_bytes(entry.name, entry.size, entry.compressed) == len(local_header(entry))
    assert len(local_header(msgspec.structs.replace(entry, crc32=crc32))) == len(local_header(entry))


@given(names, lengths, st.data())
def test_it_is_known_before_the_compressed_size(name: str, size: int, data: st.DataObject) -> None:
    compressed = data.draw(st.integers(0, size))
    assert header_bytes(name, size, size) == header_bytes(name, size, compressed)


@given(st.lists(st.tuples(entries, lengths), max_size=5), lengths)
def test_the_length_of_the_directory_is_known_before_any_crc(placed: list[tuple[Entry, int]], at: int) -> None:
    assert central_bytes(((e.name, e.size, e.compressed, o) for e, o in placed), at) == len(central_directory(placed, at))


@given(st.lists(st.tuples(entries, lengths), max_size=5), lengths)
def test_no_entry_has_a_data_descriptor(placed: list[tuple[Entry, int]], at: int) -> None:
    for one, offset in placed:
        assert struct.unpack_from("<H", local_header(one), 6) == struct.unpack_from("<H", central_header(one, offset), 8) == (0x0800,)


@given(entries, lengths)
def test_zip64_is_used_where_a_field_would_overflow_and_nowhere_else(entry: Entry, offset: int) -> None:
    local, central = local_header(entry), central_header(entry, offset)
    length = len(entry.name.encode())
    large = max(entry.size, entry.compressed) >= FULL32
    assert struct.unpack_from("<H", local, 4) == (45 if large else 20,)
    assert struct.unpack_from("<II", local, 18) == ((FULL32, FULL32) if large else (entry.compressed, entry.size))
    expected = struct.pack("<HHQQ", 1, 16, entry.size, entry.compressed) if large else b""
    assert local[30 + length :].removeprefix(expected)[:2] == b"UT"

    written = (entry.size, entry.compressed, offset)
    overflowing = [value for value in written if value >= FULL32]
    assert struct.unpack_from("<H", central, 6) == (45 if overflowing else 20,)
    (compressed, size), (at,) = struct.unpack_from("<II", central, 20), struct.unpack_from("<I", central, 42)
    assert (size, compressed, at) == tuple(min(value, FULL32) for value in written)
    expected = struct.pack(f"<HH{len(overflowing)}Q", 1, 8 * len(overflowing), *overflowing) if overflowing else b""
    assert central[46 + length :].removeprefix(expected)[:2] == b"UT"


@pytest.mark.parametrize(("count", "zip64"), [(65_534, False), (65_535, True), (65_536, True)])
def test_the_end_record_overflows_at_65_535_entries(count: int, zip64: bool) -> None:
    directory = central_directory(((entry(), 0) for _ in range(count)), 100)
    end = struct.unpack("<4s4H2IH", directory[-22:])
    length = count * len(central_header(entry(), 0))
    assert end == (b"PK\x05\x06", 0, 0, min(count, 65_535), min(count, 65_535), length, 100, 0)
    assert (directory[length : length + 4] == b"PK\x06\x06") is zip64
    if zip64:
        end64 = struct.unpack("<4sQHHIIQQQQ", directory[length : length + 56])
        assert end64 == (b"PK\x06\x06", 44, 3 << 8 | 63, 45, 0, 0, count, count, length, 100)
        assert struct.unpack("<4sIQI", directory[length + 56 : -22]) == (b"PK\x06\x07", 0, 100 + length, 1)


@pytest.mark.parametrize(("at", "zip64"), [(FULL32 - 1, False), (FULL32, True)])
def test_the_end_record_overflows_at_4_gib(at: int, zip64: bool) -> None:
    directory = central_directory([(entry(), 0)], at)
    assert struct.unpack_from("<I", directory, len(directory) - 6) == (min(at, FULL32),)
    assert (b"PK\x06\x06" in directory) is zip64


@pytest.mark.parametrize("size", [FULL32 - 1, FULL32, FULL32 + 1])
def test_python_reads_the_sizes_and_offsets_at_the_limit(size: int) -> None:
    large, behind = entry("large", size), entry("behind", 5)
    at = header_bytes("large", size, size) + size
    end = at + header_bytes("behind", 5, 5) + 5
    with zipfile.ZipFile(Sparse(end, central_directory([(large, 0), (behind, at)], end))) as opened:
        assert [(i.filename, i.file_size, i.compress_size, i.header_offset) for i in opened.infolist()] == [
            ("large", size, size, 0),
            ("behind", 5, 5, at),
        ]


@given(st.integers(-(10**14), 10**15))
def test_dates_are_utc_within_1980_to_2107(modified_ms: int) -> None:
    try:
        moment = datetime.fromtimestamp(modified_ms // 1000, UTC)
        year = moment.year
    except (ValueError, OverflowError):
        year = 0 if modified_ms < 0 else 10_000
    day, time = dos_date_time(modified_ms)
    seen = (1980 + (day >> 9), day >> 5 & 15, day & 31, time >> 11, time >> 5 & 63, 2 * (time & 31))
    if year < 1980:
        assert seen == (1980, 1, 1, 0, 0, 0)
    elif year > 2107:
        assert seen == (2107, 12, 31, 23, 59, 58)
    else:
        assert seen == (year, moment.month, moment.day, moment.hour, moment.minute, moment.second // 2 * 2)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "01 00000000"), (1_700_000_001, "01 01f15365"), (2**31 - 1, "01 ffffff7f"), (2**31, "00 00000000"), (-1, "00 00000000")],
)
def test_the_exact_second_is_there_where_all_readers_agree_on_it(seconds: int, expected: str) -> None:
    extra = bytes.fromhex("5554 0500" + expected)
    dated = entry(modified_ms=seconds * 1000 + 999)
    assert local_header(dated).endswith(extra)
    assert central_header(dated, 0).endswith(extra)


def test_the_longest_name_fits_with_every_extra_field() -> None:
    header = central_header(entry("x" * MAX_NAME_BYTES, 2**40), 2**40)
    assert len(header) == 65_535


class Sparse(io.RawIOBase):
    """A file that begins with `hole` zero bytes."""

    def __init__(self, hole: int, rest: bytes) -> None:
        self.hole, self.rest, self.position = hole, rest, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.hole + len(self.rest))[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        end = self.hole + len(self.rest) if size < 0 else self.position + size
        assert self.position >= self.hole, "reads from the hole"
        data = self.rest[self.position - self.hole : end - self.hole]
        self.position += len(data)
        return data
