"""Finds what films there are in segments: manifests in storage."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from services.runtime.jobs.failures import Permanent
from services.runtime.media import presentation
from services.runtime.media.presentation import MANIFEST, MANIFEST_LIMIT, Presentation
from services.runtime.storage.base import NotFound, ObjectStore


async def read(store: ObjectStore, folder: str) -> Presentation:
    """The manifest of a folder. Raises NotFound, or Permanent for what is no manifest."""
    key = f"{folder}/{MANIFEST}"
    body = await store.read(key, limit=MANIFEST_LIMIT)
    try:
        return presentation.decode(body)
    except (msgspec.ValidationError, msgspec.DecodeError) as wrong:
        raise Permanent("manifest", f"{key!r} is no manifest: {wrong}", "Transcode the film again.") from None


async def of_asset(store: ObjectStore, asset_id: str) -> list[Presentation]:
    """All of an asset, the newest first."""
    found: list[tuple[int, str]] = []
    async for name in folders(store, f"assets/{asset_id}/"):
        folder = presentation.folder_of(asset_id, name)
        with contextlib.suppress(NotFound):
            found.append(((await store.head(f"{folder}/{MANIFEST}")).modified_ms, folder))
    return [await read(store, folder) for _, folder in sorted(found, reverse=True)]


async def source_of(store: ObjectStore, asset_id: str) -> str:
    """Key of an asset's source; empty when there is none."""
    async with contextlib.aclosing(_keys(store, f"assets/{asset_id}/source/")) as keys:
        async for key in keys:
            return key
    return ""


async def folders(store: ObjectStore, prefix: str) -> AsyncIterator[str]:
    """Names of the folders right below a prefix; what lies in them is skipped, not listed: a film has thousands of segments."""
    after = ""
    while True:
        name = ""
        async with contextlib.aclosing(_keys(store, prefix, after)) as keys:
            async for key in keys:
                head, slash, _ = key[len(prefix) :].partition("/")
                if slash:
                    name = head
                    break
        if not name:
            return
        yield name
        # "0" is what follows upon "/": the next key that is not in this folder.
        after = f"{prefix}{name}0"


async def is_empty(store: ObjectStore, prefix: str) -> bool:
    """Whether nothing lies below a prefix."""
    async with contextlib.aclosing(_keys(store, prefix)) as keys:
        async for _ in keys:
            return False
    return True


async def _keys(store: ObjectStore, prefix: str, after: str = ""):
    async for item in store.list(prefix, start_after=after):
        yield item.key
