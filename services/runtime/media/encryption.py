"""AES-128 of whole segments, as HLS has it: CBC with PKCS #7 padding, begun anew with each segment (RFC 8216 §4.3.2.4)."""

from __future__ import annotations

import secrets
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from msgspec import Meta

BLOCK = 16
"""Bytes of a block, a key and an IV (FIPS 197: AES has blocks of 128 bits)."""
_Block = Annotated[bytes, Meta(min_length=BLOCK, max_length=BLOCK)]


class SegmentKey(msgspec.Struct, frozen=True, kw_only=True):
    """Key and IV of all segments of a film. Its text shows neither, so that none gets into a log with what holds it."""

    key: _Block
    iv: _Block

    def __repr__(self) -> str:
        return "SegmentKey(…)"

    @property
    def iv_hex(self) -> str:
        """32 hexadecimal digits, for manifests, events and EXT-X-KEY (which puts `0x` before them)."""
        return self.iv.hex()

    def encrypt(self, segment: bytes) -> bytes:
        """1 to 16 bytes longer."""
        padder = PKCS7(BLOCK * 8).padder()
        encryptor = self._cipher().encryptor()
        return encryptor.update(padder.update(segment) + padder.finalize()) + encryptor.finalize()

    def decrypt(self, segment: bytes) -> bytes:
        """Raises ValueError for what was not encrypted so."""
        decryptor = self._cipher().decryptor()
        unpadder = PKCS7(BLOCK * 8).unpadder()
        return unpadder.update(decryptor.update(segment) + decryptor.finalize()) + unpadder.finalize()

    def _cipher(self) -> Cipher[modes.CBC]:
        return Cipher(algorithms.AES128(self.key), modes.CBC(self.iv))


def random_key() -> SegmentKey:
    """Another one at each call."""
    return SegmentKey(key=secrets.token_bytes(BLOCK), iv=secrets.token_bytes(BLOCK))
