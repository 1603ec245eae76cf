"""Finding films in storage, without listing their segments."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.runtime.jobs.failures import Permanent
from services.runtime.media.presentation import Presentation, encode
from services.runtime.storage import folders as storage_folders
from services.runtime.storage.base import NotFound
from services.streamer import manifests
from tests.unit.stores import CountingStore, counting_store, put


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CountingStore]:
    async with counting_store(tmp_path / "bucket") as made:
        yield made


async def folders(store: CountingStore, prefix: str) -> list[str]:
    return [name async for name in storage_folders.folders(store, prefix)]


async def test_folders_are_found_without_what_is_in_them(store: CountingStore) -> None:
    for folder in ("r0", "r1", "r1-x", "r10"):
        put(store, *(f"assets/a/{folder}/video/{n:05d}.m4s" for n in range(20)))
    put(store, "assets/a/poster.jpg", "assets/b/r1/x")
    assert sorted(await folders(store, "assets/a/")) == ["r0", "r1", "r1-x", "r10"]
    assert store.listed < 12
    assert await folders(store, "") == ["assets"]
    assert await folders(store, "nothing/") == []


async def test_the_newest_manifest_comes_first(store: CountingStore, tmp_path: Path) -> None:
    for age, recipe in enumerate(("new", "old", "oldest")):
        made = Presentation(asset_id="a", recipe=recipe, folder=f"assets/a/{recipe}", renditions=())
        await store.put(f"assets/a/{recipe}/manifest.json", encode(made))
        os.utime(tmp_path / f"bucket/assets/a/{recipe}/manifest.json", (10**9 - age, 10**9 - age))
    put(store, "assets/a/half/video-720/init.mp4", "assets/a/source/film.mp4")
    assert [p.recipe for p in await manifests.of_asset(store, "a")] == ["new", "old", "oldest"]
    assert await manifests.of_asset(store, "b") == []


async def test_what_is_no_manifest_is_told(store: CountingStore) -> None:
    put(store, "assets/a/r/manifest.json")
    with pytest.raises(Permanent, match=r"assets/a/r/manifest\.json"):
        await manifests.read(store, "assets/a/r")
    with pytest.raises(NotFound):
        await manifests.read(store, "assets/a/none")


async def test_the_source_of_an_asset(store: CountingStore) -> None:
    put(store, "assets/a/source/film.mp4")
    assert await manifests.source_of(store, "a") == "assets/a/source/film.mp4"
    assert await manifests.source_of(store, "b") == ""
    assert await manifests.is_empty(store, "assets/b/")
    assert not await manifests.is_empty(store, "assets/a/")
