"""Playlists are read from storage once for each version, and an older one is better than none."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from schemas.events import PlaylistChanged
from services.gateway.counters import Counters
from services.gateway.delivery import playlists as module
from services.gateway.delivery.answers import ready
from services.gateway.delivery.paths import Place, place
from services.gateway.delivery.playlists import GROWING_SECONDS, WHOLE_SECONDS, Copy, Playlists
from services.runtime.storage.base import NotFound, StorageError

GROWING, WHOLE = b"#EXTM3U\n#EXTINF:4,\n00000.m4s\n", b"#EXTM3U\n#EXTINF:4,\n00000.m4s\n#EXT-X-ENDLIST\n"


class Shelf:
    """A storage that counts, and playlists above it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.objects: dict[str, bytes] = {}
        self.reads: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.wrong: Exception | None = None
        self.whole: set[tuple[str, str]] = set()
        self.counters = Counters()
        self.playlists = Playlists(
            self.read,
            whole=lambda asset, recipe: (asset, recipe) in self.whole,
            answer=ready,
            counters=self.counters,
            clock=lambda: self.now,
        )
        self.playlists.hearing(True)

    async def read(self, key: str) -> bytes:
        self.reads[key] += 1
        body = self.objects.get(key)
        await self.gate.wait()
        if self.wrong is not None:
            raise self.wrong
        if body is None:
            raise NotFound(key)
        return body

    async def get(self, path: str = "r/video-1/index.m3u8", asset_id: str = "a") -> Copy:
        return await self.playlists.get(asset_id, place_of(path, asset_id))

    async def body(self, path: str = "r/video-1/index.m3u8") -> bytes | None:
        return body_of(await self.get(path))

    def write(self, body: bytes, etag: str = "", path: str = "r/video-1/index.m3u8", *, ended: bool = False) -> None:
        """As the streamer does: first the object, then the announcement."""
        key = place_of(path).key
        self.objects[key] = body
        if etag:
            self.playlists.announced([PlaylistChanged(asset_id="a", bucket="b", key=key, etag=etag, ended=ended)])

    @property
    def read_times(self) -> int:
        return self.reads.total()


def body_of(copy: Copy) -> bytes | None:
    return None if copy.ready is None else copy.ready.body


def place_of(path: str, asset_id: str = "a") -> Place:
    found = place(asset_id, path)
    assert found is not None
    return found


@pytest.fixture
async def shelf() -> Shelf:
    return Shelf()


async def test_a_version_is_read_once_however_often_it_is_asked_for(shelf: Shelf) -> None:
    for version in range(1, 6):
        shelf.write(GROWING * version, f"v{version}")
        for _ in range(100):
            copy = await shelf.get()
            assert body_of(copy) == GROWING * version
            assert copy.growing
            shelf.now += 10
        assert shelf.read_times == version
    assert (shelf.counters.playlist_hits, shelf.counters.playlist_reads) == (495, 5)


async def test_many_who_ask_at_once_wait_for_one_read(shelf: Shelf) -> None:
    shelf.write(GROWING, "v1")
    shelf.gate.clear()
    asking = [asyncio.create_task(shelf.get()) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()  # whoever leaves does not take the read from the others
    await asyncio.sleep(0)
    shelf.gate.set()
    copies = await asyncio.gather(*asking[1:])
    assert {body_of(copy) for copy in copies} == {GROWING}
    assert shelf.read_times == 1


async def test_what_is_announced_while_the_older_version_is_being_read_is_read_too(shelf: Shelf) -> None:
    shelf.write(GROWING, "v1")
    shelf.gate.clear()
    asking = asyncio.create_task(shelf.get())
    await asyncio.sleep(0.01)
    shelf.write(GROWING * 2, "v2")
    shelf.gate.set()
    assert body_of(await asking) == GROWING * 2
    assert await shelf.body() == GROWING * 2
    assert shelf.read_times == 2


async def test_what_grows_unannounced_is_read_again_after_a_second(shelf: Shelf) -> None:
    shelf.write(GROWING)
    await shelf.get()
    shelf.now += GROWING_SECONDS - 0.01
    await shelf.get()
    assert shelf.read_times == 1
    shelf.now += 0.02
    await shelf.get()
    assert shelf.read_times == 2


async def test_what_has_ended_is_kept_for_minutes_until_its_film_is_made_anew(shelf: Shelf) -> None:
    shelf.write(WHOLE)
    assert not (await shelf.get()).growing
    shelf.now += WHOLE_SECONDS - 1
    await shelf.get()
    assert shelf.read_times == 1
    shelf.write(WHOLE + b"#\n")
    shelf.playlists.forget(["another"])
    assert await shelf.body() == WHOLE
    shelf.playlists.forget(["a"])
    assert await shelf.body() == WHOLE + b"#\n"
    shelf.now += WHOLE_SECONDS + 1
    await shelf.get()
    assert shelf.read_times == 3


@pytest.mark.parametrize("how", ["announced", "completed"])
async def test_a_master_has_ended_when_the_streamer_or_the_coordinator_says_so(shelf: Shelf, how: str) -> None:
    shelf.write(GROWING, "v1", "r/master.m3u8")
    assert (await shelf.get("r/master.m3u8")).growing
    if how == "announced":
        shelf.write(GROWING, "v2", "r/master.m3u8", ended=True)
    else:
        shelf.whole.add(("a", "r"))
        shelf.playlists.forget(["a"])
    assert not (await shelf.get("r/master.m3u8")).growing
    assert "max-age" in str(ready(place_of("r/master.m3u8"), GROWING, growing=False).headers["Cache-Control"])


async def test_what_is_not_there_is_not_asked_for_all_the_time(shelf: Shelf) -> None:
    for _ in range(100):
        assert await shelf.body() is None
    assert shelf.read_times == 1
    shelf.write(GROWING, "v1")
    assert await shelf.body() == GROWING
    del shelf.objects[place_of("r/video-1/index.m3u8").key]
    shelf.playlists.forget(["a"])
    assert await shelf.body() is None


async def test_a_copy_is_shown_while_storage_fails_and_storage_is_not_pressed(shelf: Shelf) -> None:
    shelf.write(GROWING, "v1")
    await shelf.get()
    shelf.write(GROWING * 2, "v2")
    shelf.wrong = StorageError("away")
    for _ in range(100):
        assert await shelf.body() == GROWING
    assert (shelf.read_times, shelf.counters.playlist_stale) == (2, 1)
    shelf.now += GROWING_SECONDS
    shelf.wrong = None
    assert await shelf.body() == GROWING * 2


async def test_without_a_copy_the_failure_is_told(shelf: Shelf) -> None:
    shelf.write(GROWING, "v1")
    shelf.wrong = StorageError("away")
    with pytest.raises(StorageError, match="away"):
        await shelf.get()
    shelf.wrong = None
    assert await shelf.body() == GROWING


async def test_a_silent_storage_is_not_waited_for(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.01)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.02)
    shelf.gate.clear()
    with pytest.raises(StorageError, match="could not be read within"):
        await shelf.get()
    shelf.gate.set()
    shelf.write(GROWING, "v1")
    await shelf.get()
    shelf.gate.clear()
    shelf.write(GROWING * 2, "v2")
    assert await shelf.body() == GROWING
    shelf.gate.set()
    shelf.now += GROWING_SECONDS
    assert await shelf.body() == GROWING * 2


async def test_while_nobody_announces_what_grows_is_read_every_second(shelf: Shelf) -> None:
    shelf.write(GROWING, "v1")
    await shelf.get()
    shelf.playlists.hearing(False)
    shelf.objects[place_of("r/video-1/index.m3u8").key] = GROWING * 2
    shelf.now += GROWING_SECONDS + 0.1
    assert await shelf.body() == GROWING * 2
    shelf.playlists.hearing(True)
    await shelf.get()
    assert shelf.read_times == 2
    shelf.write(GROWING * 3, "v3")
    assert await shelf.body() == GROWING * 3


async def test_what_was_read_before_its_film_was_made_anew_is_not_kept(shelf: Shelf) -> None:
    shelf.write(WHOLE)
    shelf.gate.clear()
    asking = asyncio.create_task(shelf.get())
    await asyncio.sleep(0.01)
    shelf.write(WHOLE + b"#\n")
    shelf.playlists.forget(["a"])
    shelf.gate.set()
    await asking
    assert await shelf.body() == WHOLE + b"#\n"


async def test_memory_is_bounded_and_the_film_used_least_leaves_first(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BYTES", 3 * 11_000)
    monkeypatch.setattr(module, "_FILMS", 50)
    for asset_id in "abcd":
        shelf.objects[place_of("r/video-1/index.m3u8", asset_id).key] = WHOLE + b"#" * 9_000
    for asset_id in "abcabd":
        await shelf.get(asset_id=asset_id)
    assert shelf.read_times == 4
    await shelf.get(asset_id="a")
    await shelf.get(asset_id="b")
    assert shelf.read_times == 4
    await shelf.get(asset_id="c")
    assert shelf.read_times == 5
    for number in range(500):
        shelf.playlists.announced([PlaylistChanged(asset_id=f"film-{number}", bucket="b", key="k", etag="e")])
    assert len(shelf.playlists._films) == 50
    assert shelf.playlists._size == 0
    for number in range(200):
        assert await shelf.body(f"r{number}/master.m3u8") is None
    assert shelf.playlists._size <= 3 * 11_000
