"""Bytes of the object that was chosen, and of no later one under its name."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from services.runtime.archives.selection import Chosen
from services.runtime.storage.base import PreconditionFailed, Storage


async def chunks(storage: Storage, one: Chosen, start: int, end: int) -> AsyncGenerator[bytes]:
    """The bytes [start, end), as they arrive. Raises StorageError; of its kinds PreconditionFailed and NotFound when it was changed."""
    if start == end:
        return
    size = 0
    # What `get` answers are generators, and one that is left must be closed at once.
    found = cast("AsyncGenerator[bytes]", storage.bucket(one.bucket).get(one.key, start=start, end=end, if_match=one.etag))
    async with aclosing(found) as stream:
        async for chunk in stream:
            size += len(chunk)
            yield chunk
    if size != end - start:
        raise PreconditionFailed(f"{one.key!r} in bucket {one.bucket!r} gave {size} bytes in place of {end - start}: it was changed")


async def whole(storage: Storage, one: Chosen, start: int, end: int) -> bytes:
    """The same at once."""
    return b"".join([chunk async for chunk in chunks(storage, one, start, end)])
