"""CRC-32s as S3 writes them."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.storage.base import Part
from services.runtime.storage.s3_checksums import combined, decode, encode


@given(st.integers(0, 2**32 - 1))
def test_a_checksum_comes_back_from_its_base64(crc32: int) -> None:
    assert decode(encode(crc32)) == crc32


def test_a_checksum_has_its_first_byte_first() -> None:
    # Of "123456789", the check value of the CRC-32 of PKZIP.
    assert encode(0xCBF43926) == "y/Q5Jg=="


@pytest.mark.parametrize("value", ["", "SzbS8w==-3", "y/Q5Jg", "UpX9kykq4BQ=", "not base64", "é"])
def test_what_is_no_checksum_of_the_whole_is_none(value: str) -> None:
    assert decode(value) is None


@given(st.lists(st.binary(max_size=50)))
def test_checksums_of_parts_make_that_of_the_whole(pieces: list[bytes]) -> None:
    parts = [Part(number=n, etag="", size=len(piece), crc32=zlib.crc32(piece)) for n, piece in enumerate(pieces, 1)]
    assert combined(parts) == zlib.crc32(b"".join(pieces))


def test_one_part_without_a_checksum_leaves_the_whole_without() -> None:
    assert combined([Part(number=1, etag="", size=1, crc32=1), Part(number=2, etag="", size=1)]) is None
