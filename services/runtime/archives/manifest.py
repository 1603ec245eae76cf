"""Lists of entries that are too long for a request, as objects in the default bucket.

Every status of a job repeats its request, so a list of thousands of objects must not be part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.events import ObjectRef, ZipEntry
from services.runtime.archives.selection import Unusable
from services.runtime.storage.base import NotFound, Storage

LIMIT: Final = 64 * 1024**2
"""Bytes of a manifest."""
OWN: Final = "archives/manifests/"
"""Of the gateway. What other producers refer to is theirs, and is left where it is."""
_TYPE: Final = "application/json"
_decode = msgspec.json.Decoder(tuple[ZipEntry, ...]).decode


def encode(entries: Sequence[ZipEntry]) -> bytes:
    """As it is stored. Pure."""
    return msgspec.json.encode(entries)


def ref(job_id: str, body: bytes) -> ObjectRef:
    """Where a job's manifest lies: in the same place for the same list, and for the same list only. Pure."""
    return ObjectRef(key=f"{OWN}{job_id}/{hashlib.sha256(body).hexdigest()[:32]}.json")


async def save(storage: Storage, place: ObjectRef, body: bytes) -> None:
    """Store it."""
    await storage.bucket(place.bucket).put(place.key, body, content_type=_TYPE)


async def load(storage: Storage, place: ObjectRef) -> tuple[ZipEntry, ...]:
    """The entries. Raises Unusable when there are none to be had from it; Refused, StorageError."""
    named = f"the manifest {place.key!r} in bucket {place.bucket or storage.default_bucket!r}"
    store = storage.bucket(place.bucket)
    try:
        if (await store.head(place.key)).size > LIMIT:
            raise Unusable("manifest", f"{named} has more than {LIMIT} bytes", "Make several archives.")
        entries = _decode(await store.read(place.key, limit=LIMIT))
    except NotFound:
        raise Unusable("manifest", f"{named} is not there", "Was it removed after the request?") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as wrong:
        raise Unusable("manifest", f"{named} cannot be read: {wrong}", 'It is a JSON array of entries, such as [{"key": "…"}].') from None
    if not entries:
        raise Unusable("nothing-selected", f"{named} lists no objects", "Give entries or a prefix.")
    return entries


async def discard(storage: Storage, place: ObjectRef, job_id: str) -> None:
    """Remove it, if it is the gateway's and of this job."""
    if place.key.startswith(f"{OWN}{job_id}/"):
        await storage.bucket(place.bucket).delete(place.key)
