"""CRC-32 of entries: computed, combined, and remembered where it had to be computed by reading."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Final, Protocol

import msgspec
from isal import isal_zlib
from msgspec import Meta

from services.runtime.storage.base import NotFound, ObjectStore, StorageError
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)

FOLDER: Final = "checksums"
"""Folder at the top of the default bucket."""

_Crc32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]


class _Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stored form."""

    identity: str
    crc32: dict[str, _Crc32]


def crc32(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """CRC-32 of what gave `value`, followed by `data` (APPNOTE 4.4.7)."""
    return isal_zlib.crc32(data, value)


def combine(a: int, b: int, length_of_b: int) -> int:
    """CRC-32 of two pieces one after the other, of which only the CRCs and the second one's length are known."""
    return isal_zlib.crc32_combine(a, b, length_of_b)


class Pinned(Protocol):
    """An object, and which content of it is meant."""

    @property
    def bucket(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def etag(self) -> str: ...
    @property
    def size(self) -> int: ...


def identity_of(info: Pinned) -> str:
    """What a CRC-32 belongs to: one content of one object."""
    return f"{info.bucket}/{info.key}/{info.etag}/{info.size}"


def key_of(identity: str) -> str:
    """Where the checksums of an identity are kept."""
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return f"{FOLDER}/{digest[:2]}/{digest}.json"


async def load(store: ObjectStore, identity: str) -> dict[str, int]:
    """The checksums saved for an identity; none for one that is not known, whose file is not what `save` wrote, or cannot be read.

    An identity is `identity_of` one object, which has its key as the only name, or an archive's ETag, which has those of its entries.
    """
    try:
        data = await store.read(key_of(identity))
    except NotFound:
        return {}
    except StorageError as wrong:
        log.warning("checksums not read", identity=identity, error=str(wrong))
        return {}
    try:
        known = msgspec.json.decode(data, type=_Known)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        log.warning("checksums not understood", identity=identity, error=str(wrong))
        return {}
    return known.crc32 if known.identity == identity else {}


async def save(store: ObjectStore, identity: str, checksums: Mapping[str, int]) -> None:
    """Remember checksums for an identity, in place of those that were there. What cannot be stored is logged: it can be computed again."""
    data = msgspec.json.encode(_Known(identity=identity, crc32=dict(checksums)))
    try:
        await store.put(key_of(identity), data, content_type="application/json")
    except StorageError as wrong:
        log.warning("checksums not saved", identity=identity, error=str(wrong))
