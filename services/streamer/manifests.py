"""Finds what films there are in segments: manifests in storage."""

from __future__ import annotations

import contextlib

import msgspec

from services.runtime.jobs.failures import Permanent
from services.runtime.media import presentation
from services.runtime.media.presentation import MANIFEST, MANIFEST_LIMIT, Presentation
from services.runtime.storage.base import NotFound, ObjectStore
from services.runtime.storage.folders import folders, keys


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
    async with contextlib.aclosing(keys(store, f"assets/{asset_id}/source/")) as found:
        async for key in found:
            return key
    return ""


async def is_empty(store: ObjectStore, prefix: str) -> bool:
    """Whether nothing lies below a prefix."""
    async with contextlib.aclosing(keys(store, prefix)) as found:
        async for _ in found:
            return False
    return True
