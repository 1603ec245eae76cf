"""Archives that are sent while they are read: any range of the same bytes, with no more reads than it needs."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from schemas.api import ArchiveWish
from schemas.events import AssetChanged, Output, ZipEntry
from services.gateway.archives import stream as streaming
from services.gateway.archives import sums as sums_of
from services.gateway.archives import titles
from services.gateway.archives.archive import FORMAT, Archive, End, Part, Row
from services.gateway.archives.links import MAX_URL, LinkExpired, LinkForged, Links, LinkTooLong
from services.gateway.archives.stream import AHEAD_BYTES, AHEAD_OBJECTS, Changed, stream
from services.gateway.archives.sums import LARGE_BYTES
from services.gateway.archives.wishes import Query, encoded, filename_of, from_query, to_query
from services.gateway.auth.playback import PlaybackKey
from services.gateway.problems import Problem
from services.gateway.views.catalogue import Film
from services.runtime.ahead import ahead
from services.runtime.archives import checksums
from services.runtime.archives.checksums import crc32
from services.runtime.archives.selection import Chosen, Limits, select
from services.runtime.storage.base import ObjectInfo, PreconditionFailed, StorageError
from services.runtime.storage.local import LocalStore
from tests import archives

LIMITS = Limits(entries=100_000, bytes=2**40, entries_setting="ENTRIES", bytes_setting="BYTES")
LARGE = bytes(range(256)) * (LARGE_BYTES // 256) + b"and a little more"


@dataclass
class Asked:
    """What a store was asked for since the last look."""

    reads: list[tuple[str, int, int | None]] = field(default_factory=list)
    bytes: int = 0
    sums: list[str] = field(default_factory=list)
    puts: list[str] = field(default_factory=list)
    most_at_once: int = 0

    def of_objects(self) -> list[tuple[str, int, int | None]]:
        return sorted(read for read in self.reads if not read[0].startswith(checksums.FOLDER))


class Watched(LocalStore):
    """A folder that tells what it was asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, bucket="bucket", signing_key=b"k" * 32)
        self.asked = Asked()
        self.known: dict[str, int] = {}
        """CRC-32s that it tells."""
        self.latency: Callable[[], Any] | None = None
        self._at_once = 0

    def look(self) -> Asked:
        asked, self.asked = self.asked, Asked()
        return asked

    async def get(self, key: str, *, start: int = 0, end: int | None = None, if_match: str = "") -> AsyncIterator[bytes]:
        assert if_match
        self.asked.reads.append((key, start, end))
        self._at_once += 1
        self.asked.most_at_once = max(self.asked.most_at_once, self._at_once)
        try:
            if self.latency is not None:
                await self.latency()
            async with aclosing(cast("AsyncGenerator[bytes]", super().get(key, start=start, end=end, if_match=if_match))) as found:
                async for chunk in found:
                    self.asked.bytes += len(chunk)
                    yield chunk
        finally:
            self._at_once -= 1

    async def read(self, key: str, *, limit: int = 64 * 1024**2) -> bytes:
        self.asked.reads.append((key, 0, None))
        return await super().read(key, limit=limit)

    async def checksum(self, key: str, *, etag: str) -> int | None:
        self.asked.sums.append(key)
        return self.known.get(key)

    async def put(self, key: str, data: Any, **more: Any) -> ObjectInfo:
        self.asked.puts.append(key)
        return await super().put(key, data, **more)


class OneBucket:
    """A Storage with one bucket."""

    default_bucket = "bucket"

    def __init__(self, store: Watched) -> None:
        self.store = store

    def bucket(self, name: str = "") -> Watched:
        assert name in ("", "bucket")
        return self.store

    async def close(self) -> None: ...


@dataclass
class Shelf:
    """A store with objects below `p/`, the archive of them, and its bytes as a straightforward writer makes them."""

    store: Watched
    storage: OneBucket
    archive: Archive
    whole: bytes

    async def bytes(self, start: int = 0, end: int | None = None) -> bytes:
        """As a gateway sends them that knows nothing from before but what lies in storage."""
        end = self.archive.size if end is None else end
        return b"".join([piece async for piece in stream(self.archive, self.storage, start, end)])

    async def forget(self) -> None:
        """No checksum is kept any more."""
        for key in [info.key async for info in self.store.list(checksums.FOLDER + "/")]:
            await self.store.delete(key)

    def at(self, name: str) -> int:
        """Where the content of an entry begins."""
        return self.archive.layout.data[[one.name for one in self.archive.chosen].index(name)]


async def shelf(folder: Path, objects: Mapping[str, bytes]) -> Shelf:
    store = Watched(folder)
    # As files: the store would wait for the disk with each.
    for key, content in objects.items():
        path = folder / "p" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    storage = OneBucket(store)
    chosen = await select(storage, entries=(), prefix="p/", bucket="", exclude=None, limits=LIMITS)
    files = [archives.File(one.name, objects[one.key.removeprefix("p/")], one.modified_ms) for one in chosen]
    out = io.BytesIO()
    archives.write(out, files)
    store.look()
    return Shelf(store, storage, Archive(chosen), out.getvalue())


MIXED = {
    "a small one.txt": b"small " * 50,
    "b empty": b"",
    "c large.mp4": LARGE,
    "d/Ägypten 🎬.mp4": b"film" * 1000,
    "e large.mp4": LARGE[::-1],
    "f.txt": b"f",
}


@pytest.fixture
async def mixed(tmp_path: Path) -> Shelf:
    return await shelf(tmp_path / "bucket", MIXED)


# ── Bytes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_it_is_what_a_straightforward_writer_writes(mixed: Shelf) -> None:
    assert mixed.archive.size == len(mixed.whole)
    assert await mixed.bytes() == mixed.whole
    with zipfile.ZipFile(io.BytesIO(mixed.whole)) as opened:
        assert opened.testzip() is None
        assert {info.filename: opened.read(info) for info in opened.infolist()} == {f"p/{k}": v for k, v in MIXED.items()}


_few = {"a": b"", "b/c": b"0123456789" * 3, "b/d": bytes(100), "e": b"x", "f": b"large" * 40, "g": b"large" * 60}


@given(cuts=st.lists(st.integers(0, 1200), max_size=6), warm=st.booleans(), large=st.sampled_from([0, 50, 250, 10_000]))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranges_that_follow_one_another_are_the_whole(
    cuts: list[int], warm: bool, large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is kept in memory, and whatever is known of checksums."""
    for module in (streaming, sums_of):
        monkeypatch.setattr(module, "LARGE_BYTES", large)

    async def run() -> None:
        few = await shelf(tmp_path / "bucket", _few)
        size = few.archive.size
        if warm:
            await few.bytes()
        edges = [0, *sorted(min(cut, size) for cut in cuts), size]
        pieces: list[bytes] = []
        for start, end in pairwise(edges):
            if not warm:
                await few.forget()
            pieces.append(await few.bytes(start, end))
        assert b"".join(pieces) == few.whole
        assert [len(piece) for piece in pieces] == [end - start for start, end in pairwise(edges)]

    asyncio.run(run())


async def test_each_single_byte_of_headers_directory_and_end(tmp_path: Path) -> None:
    few = await shelf(tmp_path / "bucket", {"a": b"12", "bb": b""})
    for start in range(few.archive.size):
        await few.forget()
        assert await few.bytes(start, start + 1) == few.whole[start : start + 1]


def chosen_of(**more: Any) -> Chosen:
    fields: dict[str, Any] = {"bucket": "bucket", "key": "k", "etag": "e", "size": 5, "modified_ms": 1_700_000_001_000, "name": "k"}
    return Chosen(**(fields | more))


def test_what_a_range_consists_of() -> None:
    archive = Archive([chosen_of(name="a", size=10), chosen_of(name="b", size=0), chosen_of(name="c", size=3)])
    header, row = 30 + 1 + 9, 46 + 1 + 9
    central = archive.layout.central
    assert central == 3 * header + 13
    assert list(archive.parts(0, archive.size)) == [
        Part(0, (0, header), (0, 10)), Part(1, (0, header), (0, 0)), Part(2, (0, header), (0, 3)),
    ]  # fmt: skip
    assert list(archive.parts(header + 2, header + 12)) == [Part(0, (0, 0), (2, 10)), Part(1, (0, 2), (0, 0))]
    assert list(archive.rows(0, archive.size)) == [Row(0, 0, row), Row(1, 0, row), Row(2, 0, row), End(3 * row, 0, 22)]
    assert list(archive.rows(central + row + 1, central + 2 * row)) == [Row(1, 1, row)]
    assert list(archive.rows(archive.size - 22, archive.size)) == [End(3 * row, 0, 22)]
    assert list(archive.rows(0, central)) == list(archive.parts(central, archive.size)) == []
    assert not archive.needs_checksums(header, header + 10)
    assert archive.needs_checksums(header - 1, header + 10)


# ── ETags ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_etag_changes_with_everything_that_changes_a_byte_and_with_nothing_else() -> None:
    one = chosen_of()
    changes = [{"name": "l"}, {"key": "l"}, {"bucket": "other"}, {"etag": "f"}, {"size": 6}, {"modified_ms": 1_700_000_002_000}]
    etags = [Archive(those).etag for those in ([one], [one, one], *([msgspec.structs.replace(one, **change)] for change in changes))]
    assert len(set(etags)) == len(etags)
    # Stores differ in the fractions of a second between listing and HEAD.
    assert Archive([msgspec.structs.replace(one, modified_ms=1_700_000_001_999)]).etag == Archive([one]).etag
    two = [one, msgspec.structs.replace(one, name="l")]
    assert Archive(two).etag != Archive(two[::-1]).etag


async def test_other_bytes_need_another_format(tmp_path: Path) -> None:
    """When this fails, a download that goes on after an upgrade would get two halves: change FORMAT, then this."""
    path = tmp_path / "bucket" / "p" / "film.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"film")
    os.utime(path, (1_700_000_001, 1_700_000_001))
    storage = OneBucket(Watched(tmp_path / "bucket"))
    archive = Archive(await select(storage, entries=(), prefix="p/", bucket="", exclude=None, limits=LIMITS))
    whole = b"".join([piece async for piece in stream(archive, storage, 0, archive.size)])
    assert (FORMAT, archives.sha256(whole)) == ("1", "3d9dc7ba460a3ecea94dfedb567c242bb8e80806ed2184d6043524ac950d8ebd")


# ── What is read ───────────────────────────────────────────────────────────────────────────────────────────────────

EACH_ONCE = [(f"p/{key}", 0, len(content)) for key, content in sorted(MIXED.items()) if content]
LARGE_ONES = [read for read in EACH_ONCE if "large" in read[0]]


async def test_small_objects_are_read_once_large_ones_twice_the_first_time_and_never_again(mixed: Shelf) -> None:
    await mixed.bytes()
    assert mixed.store.look().of_objects() == sorted(EACH_ONCE + LARGE_ONES)
    assert await mixed.bytes() == mixed.whole
    second = mixed.store.look()
    assert (second.of_objects(), second.puts) == (EACH_ONCE, [])


async def test_a_range_in_the_middle_of_an_object_reads_nothing_else(mixed: Shelf) -> None:
    at = mixed.at("p/c large.mp4")
    assert await mixed.bytes(at + 1000, at + 2000) == mixed.whole[at + 1000 : at + 2000]
    asked = mixed.store.look()
    assert (asked.reads, asked.puts, asked.sums) == ([("p/c large.mp4", 1000, 2000)], [], [])


async def test_a_range_of_a_small_object_without_its_header_reads_only_that(mixed: Shelf) -> None:
    at = mixed.at("p/d/Ägypten 🎬.mp4")
    await mixed.bytes(at + 10, at + 20)
    assert mixed.store.look().reads == [("p/d/Ägypten 🎬.mp4", 10, 20)]


async def test_the_last_records_need_no_object(mixed: Shelf) -> None:
    assert await mixed.bytes(mixed.archive.size - 22, mixed.archive.size) == mixed.whole[-22:]
    assert mixed.store.look().of_objects() == []


async def test_the_directory_alone_reads_what_nobody_knows(mixed: Shelf) -> None:
    central = mixed.archive.layout.central
    assert await mixed.bytes(central, mixed.archive.size) == mixed.whole[central:]
    assert mixed.store.look().of_objects() == EACH_ONCE
    assert await mixed.bytes(central, mixed.archive.size) == mixed.whole[central:]
    assert mixed.store.look().of_objects() == []


async def test_what_the_store_knows_is_not_read_for_it(mixed: Shelf) -> None:
    mixed.store.known = {f"p/{key}": crc32(content) for key, content in MIXED.items()}
    assert await mixed.bytes() == mixed.whole
    asked = mixed.store.look()
    assert asked.of_objects() == EACH_ONCE
    # Small ones are read anyway: to ask costs as much.
    assert sorted(asked.sums) == [key for key, _, _ in LARGE_ONES]


async def test_what_a_job_has_kept_of_a_large_object_serves_here_too(mixed: Shelf) -> None:
    info = await mixed.store.head("p/c large.mp4")
    await checksums.save(mixed.store, checksums.identity_of(info), {info.key: crc32(LARGE)})
    mixed.store.look()
    await mixed.bytes()
    reads = mixed.store.look().of_objects()
    assert [reads.count(read) for read in LARGE_ONES] == [1, 2]


async def test_a_download_that_was_left_goes_on_without_reading_what_was_sent(mixed: Shelf) -> None:
    """All that the second one shares with the first is the storage."""
    got = b""
    async with aclosing(stream(mixed.archive, mixed.storage, 0, mixed.archive.size)) as pieces:
        async for piece in pieces:
            got += piece
            if len(got) > mixed.at("p/e large.mp4"):
                break
    mixed.store.look()
    assert got + await mixed.bytes(len(got)) == mixed.whole
    within = len(got) - mixed.at("p/e large.mp4")
    assert mixed.store.look().of_objects() == [("p/e large.mp4", within, len(LARGE)), ("p/f.txt", 0, 1)]


async def test_what_two_downloads_learn_is_kept_of_both(mixed: Shelf) -> None:
    first = stream(mixed.archive, mixed.storage, 0, mixed.archive.size)
    await anext(first)
    central = mixed.archive.layout.central
    await mixed.bytes(central, mixed.archive.size)
    await first.aclose()
    kept = await checksums.load(mixed.store, mixed.archive.etag)
    assert kept == {str(n): crc32(content) for n, (_, content) in enumerate(sorted(MIXED.items()))}


async def test_what_is_learned_is_kept_on_the_way_too(mixed: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums_of, "_SAVE_SECONDS", -1.0)
    pieces = stream(mixed.archive, mixed.storage, 0, mixed.archive.size)
    while "0" not in await checksums.load(mixed.store, mixed.archive.etag):
        await anext(pieces)
    await pieces.aclose()


async def test_a_store_that_keeps_nothing_serves_all_the_same(mixed: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any, **__: Any) -> ObjectInfo:
        raise StorageError("no space is left")

    monkeypatch.setattr(mixed.store, "put", full)
    assert await mixed.bytes() == mixed.whole


# ── Objects that change ────────────────────────────────────────────────────────────────────────────────────────────


async def until_it_fails(mixed: Shelf, kind: type[Exception], words: str) -> bytes:
    got: list[bytes] = []

    async def download() -> None:
        async for piece in stream(mixed.archive, mixed.storage, 0, mixed.archive.size):
            got.append(piece)

    with pytest.raises(kind, match=words):
        await download()
    return b"".join(got)


@pytest.mark.parametrize("key", ["p/d/Ägypten 🎬.mp4", "p/e large.mp4"])
async def test_a_changed_object_ends_it_after_the_beginning_of_the_right_archive(mixed: Shelf, key: str) -> None:
    await mixed.store.put(key, b"other")
    got = await until_it_fails(mixed, PreconditionFailed, "has changed")
    assert mixed.whole.startswith(got)
    assert len(got) < mixed.at(key)


async def test_an_object_that_is_gone_ends_it(mixed: Shelf) -> None:
    await mixed.store.delete("p/f.txt")
    assert mixed.whole.startswith(await until_it_fails(mixed, StorageError, "no object"))


async def test_a_wrong_checksum_never_becomes_a_whole_archive_and_is_mended(mixed: Shelf) -> None:
    info = await mixed.store.head("p/c large.mp4")
    await checksums.save(mixed.store, checksums.identity_of(info), {info.key: 1})
    assert len(await until_it_fails(mixed, Changed, "another CRC-32")) < mixed.at("p/e large.mp4")
    assert await mixed.bytes() == mixed.whole


# ── Memory and latency ─────────────────────────────────────────────────────────────────────────────────────────────


async def settled() -> None:
    """Everything that can go on without us has gone on."""
    for _ in range(20):
        await asyncio.sleep(0.01)


async def test_a_client_that_stops_reading_stops_the_reads(tmp_path: Path) -> None:
    one = bytes(LARGE_BYTES)
    many = await shelf(tmp_path / "bucket", {f"{n:02}": one for n in range(30)})
    async with aclosing(stream(many.archive, many.storage, 0, many.archive.size)) as pieces:
        await anext(pieces)
        async with asyncio.timeout(30):
            while many.store.asked.bytes < LARGE_BYTES + AHEAD_BYTES:
                await asyncio.sleep(0.01)
        await settled()
        asked = many.store.look()
        # What is held back, and what waits for its turn.
        assert asked.bytes == LARGE_BYTES + AHEAD_BYTES
        await settled()
        assert many.store.look().reads == []


async def test_large_objects_are_read_for_their_checksum_one_at_a_time_and_not_far_ahead(tmp_path: Path) -> None:
    content = LARGE * 5
    many = await shelf(tmp_path / "bucket", {f"{n:02}": content for n in range(6)})
    async with aclosing(stream(many.archive, many.storage, 0, many.archive.size)) as pieces:
        await anext(pieces)
        await settled()
        asked = many.store.look()
        # Two for their checksums; the first is being sent.
        assert [key for key, _, _ in asked.of_objects()] == ["p/00", "p/00", "p/01"]
        assert asked.most_at_once <= 2


async def test_large_objects_are_read_in_their_order_whatever_is_told_first(tmp_path: Path) -> None:
    many = await shelf(tmp_path / "bucket", {f"{n}": LARGE for n in range(5)})
    slow = asyncio.Event()

    async def told(key: str, *, etag: str) -> int | None:
        if key == "p/0":
            await slow.wait()
        return crc32(LARGE) if key == "p/2" else None

    many.store.checksum = told
    task = asyncio.create_task(many.bytes())
    await settled()
    assert many.store.look().of_objects() == []
    slow.set()
    assert await task == many.whole
    passes = [key for key, start, _ in many.store.look().reads if start == 0 and key.startswith("p/")]
    assert [passes.count(f"p/{n}") for n in range(5)] == [2, 2, 1, 2, 2]
    assert passes[:2] == ["p/0", "p/0"] or passes[:2] == ["p/0", "p/1"]


async def test_two_thousand_small_objects_are_read_once_each_and_many_at_a_time(tmp_path: Path) -> None:
    many = await shelf(tmp_path / "bucket", {f"{n % 40:02}/{n:04}": b"%d" % n for n in range(2000)})
    many.store.latency = lambda: asyncio.sleep(0.005)
    assert await many.bytes() == many.whole
    asked = many.store.look()
    assert len(asked.of_objects()) == len(set(asked.of_objects())) == 2000
    assert asked.most_at_once == AHEAD_OBJECTS


async def test_what_was_begun_ends_with_the_download(mixed: Shelf) -> None:
    hanging = asyncio.Event()
    mixed.store.latency = hanging.wait
    before = asyncio.all_tasks()
    task = asyncio.create_task(mixed.bytes())
    await settled()
    assert len(asyncio.all_tasks() - before) > 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("most_items", [1, 3])
async def test_work_ahead_is_in_order_and_within_its_bounds(most_items: int) -> None:
    under_way: set[int] = set()
    most: list[int] = []

    async def work(n: int) -> int:
        await asyncio.sleep(0.001 * (5 - n % 5))
        return n * n

    def begin(n: int) -> Any:
        if n % 4 == 0:
            return None
        under_way.add(n)
        most.append(len(under_way))
        return work(n)

    found: list[tuple[int, int | None]] = []
    async for n, answer in ahead(range(20), begin, cost=lambda n: n, most_items=most_items, most_cost=20):
        found.append((n, answer))
        under_way.discard(n)
    assert found == [(n, None if n % 4 == 0 else n * n) for n in range(20)]
    assert max(most) == most_items


async def test_one_that_costs_more_than_all_is_done_alone() -> None:
    begun: list[int] = []

    async def work(n: int) -> int:
        return n

    def begin(n: int) -> Any:
        begun.append(n)
        return work(n)

    async for n, _ in ahead([5, 100, 5, 5], begin, cost=lambda n: n, most_items=10, most_cost=20):
        if n == 100:
            assert begun == [5, 100]
    assert begun == [5, 100, 5, 5]


async def test_a_failure_ahead_shows_when_its_turn_comes_and_ends_the_rest() -> None:
    ended: list[int] = []

    async def work(n: int) -> int:
        if n == 2:
            raise ValueError("two")
        try:
            await asyncio.sleep(0 if n < 2 else 60)
        finally:
            ended.append(n)
        return n

    found: list[int] = []

    async def use() -> None:
        async for n, _ in ahead(range(6), work, cost=lambda _: 0, most_items=4, most_cost=0):
            found.append(n)

    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="two"):
        await use()
    assert (found, sorted(ended)) == ([0, 1], [0, 1, 3])
    assert asyncio.all_tasks() == before


# ── Wishes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_entries = st.builds(ZipEntry, key=_text.filter(bool), bucket=_text, name=_text, etag=_text)


@given(
    st.builds(
        ArchiveWish, entries=st.lists(_entries, max_size=4), bucket=_text, prefix=_text, name=_text, assets=st.lists(_text, max_size=3)
    )
)
def test_a_wish_is_its_query(wish: ArchiveWish) -> None:
    assert from_query(to_query(wish)) == wish


def test_a_query_as_people_write_it() -> None:
    query = [("bucket", "films"), ("key", "a/b.mp4"), ("entry", '{"key":"c.mp4","name":"C.mp4"}'), ("key", "d"), ("asset", "x"), ("v", "1")]
    assert from_query(query) == ArchiveWish(
        bucket="films", entries=[ZipEntry(key="a/b.mp4"), ZipEntry(key="c.mp4", name="C.mp4"), ZipEntry(key="d")], assets=["x"]
    )
    assert encoded([("key", "a/b ü&.mp4")]) == "key=a/b%20%C3%BC%26.mp4"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ([("key", "")], "names no object"),
        ([("entry", "{")], "names no object"),
        ([("entry", '{"name":"x"}')], "missing required field `key`"),
        ([("entry", '{"key":1}')], "names no object"),
        ([("prefix", "a"), ("prefix", "b")], "given more than once"),
        ([("prefix", "a" * 1025)], "length <= 1024"),
    ],
)
def test_a_query_that_is_none(query: Query, words: str) -> None:
    with pytest.raises(Problem, match=words) as refused:
        from_query(query)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        (ArchiveWish(name="Holidays.zip"), "Holidays.zip"),
        (ArchiveWish(name="Holidays"), "Holidays.zip"),
        (ArchiveWish(name="../../a\nb"), "_.._a b.zip"),
        (ArchiveWish(prefix="films/Crete/"), "Crete.zip"),
        (ArchiveWish(), "archive.zip"),
    ],
)
def test_what_browsers_call_it(wish: ArchiveWish, name: str) -> None:
    assert filename_of(wish) == name


def film(title: str, *outputs: Output, filename: str = "") -> Film:
    asset = AssetChanged(asset_id="x", title=title, filename=filename, created_ms=0, updated_ms=0)
    return Film(asset=asset, decided=True, job=None, transcode=None, stream=None, failed=None, outputs=outputs)


def mp4(key: str, height: int, role: str = "rendition") -> Output:
    return Output(role=role, bucket="films", key=key, content_type="video/mp4", height=height)


def test_films_are_their_best_files_under_their_titles() -> None:
    library = {
        "a": film("Crete: the film / 2", mp4("a/360.mp4", 360), mp4("a/720.mp4", 720), mp4("a/x.mp4", 9000, role="init")),
        "b": film("", mp4("b/audio.m4a", 0), filename="a_walk.mov"),
    }
    assert titles.entries_of(["b", "a", "b"], library.get) == [
        ZipEntry(bucket="films", key="b/audio.m4a", name="a walk.m4a"),
        ZipEntry(bucket="films", key="a/720.mp4", name="Crete_ the film _ 2.mp4"),
    ]
    with pytest.raises(Problem, match="no such asset: y, z") as refused:
        titles.entries_of(["a", "y", "z"], library.get)
    assert refused.value.status == 404
    with pytest.raises(Problem, match="no MP4 of 'C' yet") as refused:
        titles.entries_of(["c"], {"c": film("C")}.get)
    assert refused.value.status == 409


# ── Links ──────────────────────────────────────────────────────────────────────────────────────────────────────────

OLD, NEW = PlaybackKey("old", b"o" * 32), PlaybackKey("new", b"n" * 32)
NOW = 1_795_297_320.5
QUERY: Query = [("bucket", "films"), ("key", "a b"), ("key", "c")]


def links(*keys: PlaybackKey) -> Links:
    return Links(keys or (NEW,), life_seconds=3600)


def query_of(path: str) -> Query:
    from yarl import URL

    return list(URL(path, encoded=True).query.items())


@given(st.builds(ArchiveWish, entries=st.lists(_entries, max_size=3), prefix=_text, name=_text))
def test_a_link_opens_its_selection_on_any_gateway_with_the_key(wish: ArchiveWish) -> None:
    made = links().make(to_query(wish), NOW)
    assert made.path.isascii()
    assert made.path.startswith("/v1/archives?")
    links(OLD, NEW).check(query_of(made.path), NOW + 3599)
    assert from_query(query_of(made.path)) == wish


def test_it_expires() -> None:
    made = links().make(QUERY, NOW)
    assert made.expires == int(NOW) + 3600
    with pytest.raises(LinkExpired, match="has expired; ask for a new one"):
        links().check(query_of(made.path), made.expires)


def changed(query: Query) -> Iterator[Query]:
    yield query[:-1]
    yield [*query, query[-1]]
    yield [*query, ("key", "d")]
    yield [("key", "0"), *query]
    yield [query[1], query[0], *query[2:]]
    for n, (name, value) in enumerate(query):
        yield [*query[:n], (name, value + "0"), *query[n + 1 :]]
        yield [*query[:n], (name, "\ud800" + value), *query[n + 1 :]]
        yield [*query[:n], *query[n + 1 :]]
        yield [*query[:n], (name, ""), *query[n + 1 :]]


def test_whatever_is_changed_makes_it_void() -> None:
    for query in changed(query_of(links().make(QUERY, NOW).path)):
        with pytest.raises(LinkForged):
            links().check(query, NOW)


def test_keys_are_rotated() -> None:
    made = links(OLD).make(QUERY, NOW)
    links(NEW, OLD).check(query_of(made.path), NOW)
    with pytest.raises(LinkForged, match="the key 'old' of the link is not one of the gateway's"):
        links(NEW).check(query_of(made.path), NOW)


def test_a_selection_that_does_not_fit() -> None:
    fits = [("key", "k" * 100)] * 70
    assert len(links().make(fits, NOW).path) <= MAX_URL
    with pytest.raises(LinkTooLong, match=r"would have 10,5\d\d characters"):
        links().make([("key", "k" * 100)] * 100, NOW)
