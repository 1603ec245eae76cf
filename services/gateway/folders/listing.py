"""Finds folders and films in storage, at the cost of what is shown and not of what is there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

import msgspec

from services.gateway.folders.names import OUTPUT, is_file, is_shown, stream_name
from services.runtime.storage.base import NotFound, ObjectInfo, ObjectStore
from services.runtime.storage.folders import entries, folders

_AT_ONCE = 16
"""Requests for playlists that are under way at a time."""


class Found(msgspec.Struct, frozen=True):
    """A film in a folder."""

    name: str
    kind: Literal["hls", "file"]
    info: ObjectInfo
    """Of the file, or of the stream's `output.m3u8`."""


async def shown_folders(store: ObjectStore) -> list[str]:
    """Folders at the top of the bucket, by name."""
    return sorted([name async for name in folders(store, "") if is_shown(name)], key=_order)


async def films(store: ObjectStore, folder: str) -> list[Found] | None:
    """Films right below a folder, by name; None when there is nothing at all."""
    if not is_shown(folder):
        return None
    prefix, found, streams, is_empty = f"{folder}/", list[Found](), list[str](), True
    async with contextlib.aclosing(entries(store, prefix)) as below:
        async for entry in below:
            is_empty = False
            if isinstance(entry, str):
                streams += [entry] if stream_name(entry) else []
            elif is_file(name := entry.key.removeprefix(prefix)):
                found.append(Found(name, "file", entry))
    if is_empty:
        return None
    limit = asyncio.Semaphore(_AT_ONCE)
    looked = await asyncio.gather(*(_stream(store, folder, name, limit) for name in streams))
    return sorted([*found, *(stream for stream in looked if stream is not None)], key=lambda film: _order(film.name))


async def _stream(store: ObjectStore, folder: str, name: str, limit: asyncio.Semaphore) -> Found | None:
    async with limit:
        try:
            return Found(stream_name(name), "hls", await store.head(f"{folder}/{name}/{OUTPUT}"))
        except NotFound:
            return None


def _order(name: str) -> tuple[str, str]:
    return name.casefold(), name
