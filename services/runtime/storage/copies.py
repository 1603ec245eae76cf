"""Whether ranges of objects can be copied from one bucket into another inside the store, found out by a real copy."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from services.runtime.storage.base import (
    MIN_PART_BYTES,
    MultipartUpload,
    ObjectInfo,
    ObjectStore,
    PreconditionFailed,
    Refused,
    StorageError,
)
from services.runtime.together import to_the_end

PROBE_FOLDER: Final = ".reelworks-probe/"
"""Of the uploads that are begun in the target and given up: no object ever appears there."""
SECONDS: Final = 3600.0
"""An answer holds so long: rights change."""
_RANGE = 1024
# No object has it: an MD5 in form, for stores that look at the form first.
_WRONG_ETAG = "0123456789abcdef" * 2


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """What server-side copies of ranges can do from one bucket into another."""

    possible: bool
    pinned: bool = False
    """Whether `if_match` is honoured: a source that was changed meanwhile is not copied."""
    checksums: bool = False
    """Whether the store tells the CRC-32 of a range that it has copied (`begin_upload` with `checksums`)."""
    reason: str = ""
    """Why they are not possible or not pinned, in words; "" when they are both."""


_known: WeakKeyDictionary[ObjectStore, WeakKeyDictionary[ObjectStore, tuple[float, Copies]]] = WeakKeyDictionary()


async def probe(
    source: ObjectStore, source_info: ObjectInfo, target: ObjectStore, *, clock: Callable[[], float] = time.monotonic
) -> Copies:
    """What copies of ranges from one bucket into another can do; remembered in this process for an hour.

    `source_info` is any object of more than 5 MiB in `source`, as it is now: Amazon S3 copies no ranges of smaller ones. Raises
    Refused for such a one, NotFound or PreconditionFailed when it is not that object any more, StorageError when the store could
    not do it now.
    """
    if source_info.size <= MIN_PART_BYTES:
        raise Refused(
            f"{source_info.key!r} in bucket {source.bucket!r} has {source_info.size} bytes: "
            f"copies of ranges are tried with an object of more than {MIN_PART_BYTES}"
        )
    answers = _known.setdefault(source, WeakKeyDictionary())
    until, known = answers.get(target, (0.0, None))
    if known is None or clock() >= until:
        known = await _tried(source, source_info, target)
        answers[target] = clock() + SECONDS, known
    return known


async def _tried(source: ObjectStore, info: ObjectInfo, target: ObjectStore) -> Copies:
    key = f"{PROBE_FOLDER}{uuid.uuid4().hex}"
    try:
        upload = await target.begin_upload(key, checksums=True)
    except Refused as wrong:
        return Copies(possible=False, reason=f"no multipart upload can be begun: {wrong}")
    try:
        await _copy(source, info, target, upload, info.etag)
        return await _pinned(source, info, target, upload)
    except Refused as wrong:
        return Copies(possible=False, reason=str(wrong))
    finally:
        # Also when this task is cancelled: what is left behind has to be swept.
        await to_the_end(_abandon(target, upload))


async def _pinned(source: ObjectStore, info: ObjectInfo, target: ObjectStore, upload: MultipartUpload) -> Copies:
    """A copy of an object that is not there must fail."""
    try:
        await _copy(source, info, target, upload, _WRONG_ETAG)
    except PreconditionFailed:
        return Copies(possible=True, pinned=True, checksums=upload.checksums)
    except Refused as wrong:
        return Copies(possible=True, reason=f"a copy of another ETag is refused with other words than expected: {wrong}")
    return Copies(
        possible=True, reason=f"the store copies from bucket {source.bucket!r} whatever ETag is asked for: a changed source is not noticed"
    )


async def _copy(source: ObjectStore, info: ObjectInfo, target: ObjectStore, upload: MultipartUpload, etag: str) -> None:
    await target.copy_part(upload, 1, source, info.key, start=0, end=_RANGE, if_match=etag)


async def _abandon(target: ObjectStore, upload: MultipartUpload) -> None:
    with suppress(StorageError):
        # Those too that nobody heard of, or that a process left which died: none is needed for longer than some seconds.
        for begun in await target.list_uploads(PROBE_FOLDER):
            if begun.key == upload.key or begun.initiated_ms < (time.time() - SECONDS) * 1000:
                await target.abort_upload(begun)
