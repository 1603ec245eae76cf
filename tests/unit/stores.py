"""A folder as a store that counts what it is asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.runtime.storage.base import ObjectInfo
from services.runtime.storage.local import LocalStore


class CountingStore(LocalStore):
    """How often it was asked, and how many objects it listed."""

    listings = heads = listed = 0

    async def list(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        self.listings += 1
        async for item in super().list(prefix, start_after=start_after):
            self.listed += 1
            yield item

    async def head(self, key: str) -> ObjectInfo:
        self.heads += 1
        return await super().head(key)


@asynccontextmanager
async def counting_store(folder: Path) -> AsyncGenerator[CountingStore]:
    """The bucket `bucket`, empty, in a folder that is made for it."""
    folder.mkdir()
    store = CountingStore(folder, bucket="bucket", signing_key=b"k" * 32)
    yield store
    await store.close()


def put(store: CountingStore, *keys: str) -> None:
    """Objects of one byte, as files: no disk is waited for, as the store would do for each."""
    for key in keys:
        path = store.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
