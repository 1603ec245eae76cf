"""What lies right below a prefix, without listing what is deeper: a film has thousands of segments."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from services.runtime.storage.base import ObjectInfo, ObjectStore

RESERVED = ("assets", "jobs", "archives", "checksums")
"""Folders at the top of a bucket in which Reelworks keeps its own objects."""


async def entries(store: ObjectStore, prefix: str) -> AsyncGenerator[ObjectInfo | str]:
    """Objects right below a prefix, and the names of the folders there, in the order of their keys.

    Costs one listing that is broken off for each folder, and one for the rest. `prefix` is empty or ends with a slash.
    """
    after = ""
    while True:
        name = ""
        async with contextlib.aclosing(_objects(store, prefix, after)) as objects:
            async for item in objects:
                head, slash, _ = item.key[len(prefix) :].partition("/")
                if slash:
                    name = head
                    break
                yield item
        if not name:
            return
        yield name
        # "0" is what follows upon "/": the next key that is not in this folder.
        after = f"{prefix}{name}0"


async def folders(store: ObjectStore, prefix: str) -> AsyncIterator[str]:
    """Names of the folders right below a prefix."""
    async with contextlib.aclosing(entries(store, prefix)) as found:
        async for entry in found:
            if isinstance(entry, str):
                yield entry


async def keys(store: ObjectStore, prefix: str) -> AsyncGenerator[str]:
    """Keys of all objects below a prefix, in their order."""
    async for item in store.list(prefix):
        yield item.key


async def _objects(store: ObjectStore, prefix: str, after: str) -> AsyncGenerator[ObjectInfo]:
    async for item in store.list(prefix, start_after=after):
        yield item
