"""Checked against published numbers and against itself."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.media.encryption import SegmentKey, random_key

KEY = SegmentKey(key=bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), iv=bytes(range(16)))


def test_it_is_aes_128_in_cbc_with_pkcs7_padding() -> None:
    """NIST SP 800-38A, F.2.1, the first two blocks; then a block of padding, which only says that it is one."""
    plain = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
    assert KEY.encrypt(plain)[:32].hex() == "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
    assert len(KEY.encrypt(plain)) == 48


@given(st.binary(max_size=200))
def test_what_was_encrypted_comes_back(segment: bytes) -> None:
    encrypted = KEY.encrypt(segment)
    assert KEY.decrypt(encrypted) == segment
    assert 1 <= len(encrypted) - len(segment) <= 16
    assert len(encrypted) % 16 == 0


def test_what_was_not_encrypted_is_noticed() -> None:
    with pytest.raises(ValueError, match="multiple of the block length"):
        KEY.decrypt(b"moof")


def test_no_two_keys_are_the_same_and_none_shows_itself() -> None:
    one, other = random_key(), random_key()
    assert one != other
    assert (len(one.key), len(one.iv), len(one.iv_hex)) == (16, 16, 32)
    assert one.key.hex() not in repr(one) + str([one])
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(one)), SegmentKey) == one


def test_a_key_has_16_bytes() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"key": "AAAA", "iv": "AAAA"}, SegmentKey)
