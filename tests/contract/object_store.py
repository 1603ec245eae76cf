"""What every ObjectStore does. A store's test module subclasses `ObjectStoreContract` and gives its fixtures."""

from __future__ import annotations

import asyncio
import os
import time
import unicodedata
import uuid
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import pytest

from services.runtime.storage.base import (
    MAX_PARTS,
    MIN_PART_BYTES,
    MultipartUpload,
    NotFound,
    ObjectInfo,
    ObjectStore,
    Part,
    PreconditionFailed,
    Refused,
    StorageError,
)
from services.runtime.storage.copies import probe

MIB = 1024**2

BAD_KEYS = ["", "/a", "a//b", "a/", ".", "..", "../a", "a/../b", "a/./b", "a/..", "a\\b", "a\0b", "a\nb", "k" * 1025, "é" * 513, "\ud800"]
GOOD_KEYS = [
    "a",
    "a b+c&d=e?f#g%20h.mp4",
    "Größe/Übung.mov",
    "映画/第一話.mkv",
    "🎬/🍿 night.mp4",
    "...",
    "a/.hidden",
    "~tilde'quote\"(1)*!.txt",
    "a:b;c,d@e$f",
    "/".join(["d" * 200] * 4),
]


@dataclass
class Answer:
    """What a client without credentials got."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Fetch = Callable[..., Awaitable[Answer]]


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def collect(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def keys(store: ObjectStore, prefix: str, **more: str) -> list[str]:
    return [info.key async for info in store.list(prefix, **more)]


class ObjectStoreContract:
    """Fixtures to give: `store`, `other` (another bucket of the same storage), `fetch` (a client without credentials)."""

    lacks: Mapping[str, str] = {}
    """What the server behind the store does not do, with words: those tests are skipped and say so."""

    @pytest.fixture
    def prefix(self) -> str:
        """Of this test's keys."""
        return f"t/{uuid.uuid4().hex}/"

    # Objects

    async def test_what_is_put_is_read(self, store: ObjectStore, prefix: str) -> None:
        before = time.time()
        info = await store.put(prefix + "film.mp4", b"hello")
        assert (info.bucket, info.key, info.size, info.content_type) == (store.bucket, prefix + "film.mp4", 5, "video/mp4")
        assert await store.read(prefix + "film.mp4") == b"hello"
        head = await store.head(prefix + "film.mp4")
        assert (head.etag, head.size, head.content_type) == (info.etag, 5, "video/mp4")
        assert info.etag
        assert '"' not in info.etag
        assert abs(head.modified_ms / 1000 - before) < 60
        assert abs(head.modified_ms - info.modified_ms) <= 60_000

    async def test_an_empty_object_is_an_object(self, store: ObjectStore, prefix: str) -> None:
        info = await store.put(prefix + "empty", b"")
        assert info.size == 0
        assert await store.read(prefix + "empty") == b""
        assert await collect(store.get(prefix + "empty")) == b""
        assert await collect(store.get(prefix + "empty", start=0, end=10)) == b""
        streamed = await store.put(prefix + "streamed", stream(), size=0)
        assert (streamed.size, (await store.head(prefix + "streamed")).size) == (0, 0)

    @pytest.mark.parametrize("name", GOOD_KEYS)
    async def test_keys_of_any_script_come_back_as_given(self, store: ObjectStore, prefix: str, name: str) -> None:
        await store.put(prefix + name, name.encode())
        assert await store.read(prefix + name) == name.encode()
        assert (await store.head(prefix + name)).key == prefix + name
        assert await keys(store, prefix) == [prefix + name]
        await store.copy(store, prefix + name, prefix + "copy of/" + name)
        assert await store.read(prefix + "copy of/" + name) == name.encode()
        assert await store.delete_many([prefix + name]) == {}
        assert await keys(store, prefix) == [prefix + "copy of/" + name]

    async def test_composed_and_decomposed_letters_are_two_keys(self, store: ObjectStore, prefix: str) -> None:
        composed, decomposed = (prefix + unicodedata.normalize(form, "café.mp4") for form in ("NFC", "NFD"))
        await store.put(composed, b"NFC")
        await store.put(decomposed, b"NFD")
        assert (await store.read(composed), await store.read(decomposed)) == (b"NFC", b"NFD")
        assert sorted(await keys(store, prefix)) == sorted([composed, decomposed])

    @pytest.mark.parametrize("key", BAD_KEYS)
    async def test_a_malformed_key_is_refused_by_everything(self, store: ObjectStore, key: str) -> None:
        upload = MultipartUpload(bucket=store.bucket, key=key, upload_id="0" * 32)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.head(key),
            lambda: store.read(key),
            lambda: collect(store.get(key)),
            lambda: store.put(key, b"x"),
            lambda: store.put(key, stream(b"x")),
            lambda: store.delete(key),
            lambda: store.copy(store, key, "target"),
            lambda: store.copy(store, "source", key),
            lambda: store.begin_upload(key),
            lambda: store.copy_part(upload, 1, store, key, start=0, end=1),
            lambda: store.source_for(key),
        ]
        for call in calls:
            with pytest.raises(Refused):
                await call()
        with pytest.raises(Refused, match="is 1 to 1024 bytes of UTF-8"):
            await store.put(key, b"x")
        with pytest.raises(Refused):
            store.sign_get(key, expires_seconds=60)
        with pytest.raises(Refused):
            store.sign_put(key, expires_seconds=60, size=1)
        assert list(await store.delete_many([key])) == [key]

    async def test_content_type_is_kept_or_guessed(self, store: ObjectStore, prefix: str) -> None:
        await store.put(prefix + "a.bin", b"x", content_type="video/x-special")
        await store.put(prefix + "b.m3u8", stream(b"x"))
        await store.put(prefix + "c", b"x")
        types = [(await store.head(prefix + name)).content_type for name in ("a.bin", "b.m3u8", "c")]
        assert types == ["video/x-special", "application/vnd.apple.mpegurl", "application/octet-stream"]
        copied = await store.copy(store, prefix + "a.bin", prefix + "copy.mp4")
        assert copied.content_type == "video/x-special"

    async def test_a_missing_object_is_not_found(self, store: ObjectStore, prefix: str) -> None:
        key = prefix + "nothing"
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.head(key),
            lambda: store.read(key),
            lambda: collect(store.get(key)),
            lambda: collect(store.get(key, start=1, end=2)),
            lambda: store.copy(store, key, prefix + "copy"),
        ]
        for call in calls:
            with pytest.raises(NotFound):
                await call()
        with pytest.raises(NotFound, match="nothing"):
            await store.read(key)

    async def test_a_second_put_replaces_and_changes_the_etag(self, store: ObjectStore, prefix: str) -> None:
        first = await store.put(prefix + "a", b"one")
        second = await store.put(prefix + "a", b"two")
        assert await store.read(prefix + "a") == b"two"
        assert first.etag != second.etag == (await store.head(prefix + "a")).etag

    async def test_read_refuses_more_than_its_limit(self, store: ObjectStore, prefix: str) -> None:
        await store.put(prefix + "a", b"x" * 100)
        assert len(await store.read(prefix + "a", limit=100)) == 100
        with pytest.raises(StorageError, match="99"):
            await store.read(prefix + "a", limit=99)

    async def test_delete_is_idempotent(self, store: ObjectStore, prefix: str) -> None:
        await store.put(prefix + "deep/er/a", b"x")
        await store.delete(prefix + "deep/er/a")
        await store.delete(prefix + "deep/er/a")
        await store.delete(prefix + "never/was")
        assert await keys(store, prefix) == []
        await store.put(prefix + "deep", b"a name that was a folder")

    # Ranges

    @pytest.mark.parametrize(
        ("start", "end"), [(0, None), (0, 0), (0, 1), (3, 7), (5, 5), (9, 10), (9, None), (10, 10), (10, None), (4, 99), (10, 20)]
    )
    async def test_a_range_is_the_bytes_from_start_to_before_end(
        self, store: ObjectStore, prefix: str, start: int, end: int | None
    ) -> None:
        data = b"0123456789"
        await store.put(prefix + "a", data)
        assert await collect(store.get(prefix + "a", start=start, end=end)) == data[start:end]

    @pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 4), (11, None), (11, 20)])
    async def test_a_range_that_no_object_has_is_refused(self, store: ObjectStore, prefix: str, start: int, end: int | None) -> None:
        await store.put(prefix + "a", b"0123456789")
        with pytest.raises(Refused, match=r"/a'"):
            await collect(store.get(prefix + "a", start=start, end=end))

    async def test_a_large_object_is_streamed_in_pieces(self, store: ObjectStore, prefix: str) -> None:
        data = os.urandom(9 * MIB + 17)
        await store.put(prefix + "a", data)
        chunks = [chunk async for chunk in store.get(prefix + "a")]
        assert b"".join(chunks) == data
        assert max(map(len, chunks)) <= 4 * MIB
        assert await collect(store.get(prefix + "a", start=MIB + 1, end=9 * MIB)) == data[MIB + 1 : 9 * MIB]

    async def test_a_reader_may_stop_early(self, store: ObjectStore, prefix: str) -> None:
        await store.put(prefix + "a", os.urandom(4 * MIB))
        chunks = store.get(prefix + "a")
        assert await anext(chunks)
        await chunks.aclose()  # type: ignore[attr-defined]
        assert (await store.head(prefix + "a")).size == 4 * MIB

    async def test_get_if_match_reads_only_that_object(self, store: ObjectStore, prefix: str) -> None:
        first = await store.put(prefix + "a", b"first")
        assert await collect(store.get(prefix + "a", if_match=first.etag)) == b"first"
        second = await store.put(prefix + "a", b"second")
        assert await collect(store.get(prefix + "a", start=1, if_match=second.etag)) == b"econd"
        for start, end in ((0, None), (1, 3), (2, 2)):
            with pytest.raises(PreconditionFailed):
                await collect(store.get(prefix + "a", start=start, end=end, if_match=first.etag))

    # Streams

    @pytest.mark.parametrize("length", [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 20 * MIB + 3])
    @pytest.mark.parametrize("announced", [True, False])
    async def test_a_stream_of_any_length_is_stored_whole(self, store: ObjectStore, prefix: str, length: int, announced: bool) -> None:
        data = os.urandom(length)
        pieces = [data[at : at + 700_001] for at in range(0, length, 700_001)]
        info = await store.put(prefix + "a.mp4", stream(*pieces), size=length if announced else None)
        assert (info.size, info.content_type) == (length, "video/mp4")
        assert await store.read(prefix + "a.mp4") == data
        assert list(await store.list_uploads(prefix)) == []

    async def test_one_huge_chunk_is_stored_whole(self, store: ObjectStore, prefix: str) -> None:
        data = os.urandom(19 * MIB)
        await store.put(prefix + "a", stream(data))
        assert await store.read(prefix + "a") == data

    @pytest.mark.parametrize("length", [3, 9 * MIB])
    @pytest.mark.parametrize("difference", [-1, 1])
    async def test_a_size_that_does_not_fit_stores_nothing(self, store: ObjectStore, prefix: str, length: int, difference: int) -> None:
        data = bytes(length)
        with pytest.raises(StorageError, match="announced"):
            await store.put(prefix + "a", stream(data[: length // 2], data[length // 2 :]), size=length + difference)
        with pytest.raises(StorageError, match="announced"):
            await store.put(prefix + "a", data, size=length + difference)
        await self.assert_nothing(store, prefix)

    @pytest.mark.parametrize("sent", [0, 5, 9 * MIB])
    async def test_a_source_that_breaks_stores_nothing(self, store: ObjectStore, prefix: str, sent: int) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield bytes(sent)
            raise ConnectionResetError("the client went away")

        with pytest.raises(ConnectionResetError, match="the client went away"):
            await store.put(prefix + "a", broken())
        await self.assert_nothing(store, prefix)

    @pytest.mark.parametrize("sent", [5, 17 * MIB])
    async def test_a_cancelled_put_stores_nothing(self, store: ObjectStore, prefix: str, sent: int) -> None:
        waiting = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield bytes(sent)
            waiting.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(store.put(prefix + "a", endless()))
        await asyncio.wait_for(waiting.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.assert_nothing(store, prefix)

    async def test_a_broken_put_leaves_the_former_object(self, store: ObjectStore, prefix: str) -> None:
        await store.put(prefix + "a", b"former")
        with pytest.raises(StorageError):
            await store.put(prefix + "a", stream(b"latter"), size=7)
        assert await store.read(prefix + "a") == b"former"

    async def assert_nothing(self, store: ObjectStore, prefix: str) -> None:
        assert await keys(store, prefix) == []
        assert list(await store.list_uploads(prefix)) == []

    # Conditions

    async def test_if_none_match_stores_only_where_there_is_none(self, store: ObjectStore, prefix: str) -> None:
        await store.put(prefix + "a", b"first", if_none_match=True)
        for data in (b"second", stream(b"sec", b"ond"), stream(bytes(9 * MIB))):
            with pytest.raises(PreconditionFailed):
                await store.put(prefix + "a", data, if_none_match=True)
        assert await store.read(prefix + "a") == b"first"
        assert list(await store.list_uploads(prefix)) == []

    async def test_if_match_replaces_only_that_object(self, store: ObjectStore, prefix: str) -> None:
        first = await store.put(prefix + "a", b"first")
        second = await store.put(prefix + "a", b"second", if_match=first.etag)
        for data in (b"third", stream(b"third")):
            with pytest.raises(PreconditionFailed):
                await store.put(prefix + "a", data, if_match=first.etag)
        assert await store.read(prefix + "a") == b"second"
        await store.delete(prefix + "a")
        with pytest.raises(PreconditionFailed):
            await store.put(prefix + "a", b"third", if_match=second.etag)
        await self.assert_nothing(store, prefix)

    async def test_of_24_racing_creators_exactly_one_wins(self, store: ObjectStore, prefix: str) -> None:
        outcomes = await asyncio.gather(
            *(store.put(prefix + "a", f"writer {n}".encode(), if_none_match=True) for n in range(24)), return_exceptions=True
        )
        losers = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        winners = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
        assert ([type(loser) for loser in losers], len(winners)) == ([PreconditionFailed] * 23, 1)
        assert await store.read(prefix + "a") == f"writer {winners[0]}".encode()

    async def test_racing_writers_leave_one_whole_object(self, store: ObjectStore, prefix: str) -> None:
        written = [bytes([n]) * (MIB + n) for n in range(12)]
        await asyncio.gather(*(store.put(prefix + "a", stream(data[:1000], data[1000:])) for data in written))
        assert await store.read(prefix + "a") in written
        assert await keys(store, prefix) == [prefix + "a"]

    async def test_readers_see_one_object_or_the_other(self, store: ObjectStore, prefix: str) -> None:
        old, new = b"o" * 3 * MIB, b"n" * 3 * MIB
        await store.put(prefix + "a", old)
        results = await asyncio.gather(*(store.read(prefix + "a") for _ in range(6)), store.put(prefix + "a", new))
        assert {r[:1] + r[-1:] for r in results if isinstance(r, bytes)} <= {b"oo", b"nn"}
        assert {len(r) for r in results if isinstance(r, bytes)} == {3 * MIB}

    # Listing

    async def test_listing_is_by_prefix_in_the_order_of_bytes(self, store: ObjectStore, prefix: str) -> None:
        names = ["a-b", "a.txt", "a/b", "a/c/d", "a0", "b", "ab", "é", "z", "Z", "🎬", "\uffee"]
        await asyncio.gather(*(store.put(prefix + name, name.encode()) for name in names))
        ordered = sorted((prefix + name for name in names), key=str.encode)
        assert await keys(store, prefix) == ordered
        assert await keys(store, prefix + "a") == [k for k in ordered if k.startswith(prefix + "a")]
        assert await keys(store, prefix + "a/") == [prefix + "a/b", prefix + "a/c/d"]
        assert await keys(store, prefix + "a/c/d") == [prefix + "a/c/d"]
        assert await keys(store, prefix + "nothing/") == []
        assert await keys(store, prefix + "a/b/") == []
        for after in [*ordered, prefix + "a/", prefix + "aa", prefix + "a/c/"]:
            assert await keys(store, prefix, start_after=after) == [k for k in ordered if k.encode() > after.encode()]

    async def test_a_listing_tells_size_date_and_etag(self, store: ObjectStore, prefix: str) -> None:
        put = await store.put(prefix + "a", b"12345")
        (listed,) = [info async for info in store.list(prefix)]
        assert (listed.bucket, listed.key, listed.size, listed.etag) == (store.bucket, prefix + "a", 5, put.etag)
        assert abs(listed.modified_ms - (await store.head(prefix + "a")).modified_ms) <= 1000

    async def test_more_than_a_thousand_objects_are_listed_and_deleted(self, store: ObjectStore, prefix: str) -> None:
        names = [f"{prefix}{n % 7}/{n:05}" for n in range(1205)]
        for start in range(0, len(names), 50):
            await asyncio.gather(*(store.put(name, b"x") for name in names[start : start + 50]))
        assert await keys(store, prefix) == sorted(names)
        assert await keys(store, prefix, start_after=sorted(names)[1100]) == sorted(names)[1101:]
        assert await store.delete_many([*names, prefix + "was never there"]) == {}
        assert await keys(store, prefix) == []

    async def test_delete_many_of_nothing_is_nothing(self, store: ObjectStore) -> None:
        assert await store.delete_many([]) == {}

    # Copies

    async def test_a_copy_is_a_whole_object_of_its_own(self, store: ObjectStore, other: ObjectStore, prefix: str) -> None:
        data = os.urandom(3 * MIB)
        source = await store.put(prefix + "a.mp4", data)
        copied = await other.copy(store, prefix + "a.mp4", prefix + "b/c.mp4", if_match=source.etag)
        assert (copied.bucket, copied.key, copied.size) == (other.bucket, prefix + "b/c.mp4", len(data))
        await store.delete(prefix + "a.mp4")
        assert await other.read(prefix + "b/c.mp4") == data

    async def test_a_copy_of_another_etag_is_refused(self, store: ObjectStore, prefix: str) -> None:
        first = await store.put(prefix + "a", b"one")
        await store.put(prefix + "a", b"two")
        with pytest.raises(PreconditionFailed):
            await store.copy(store, prefix + "a", prefix + "b", if_match=first.etag)
        assert await keys(store, prefix) == [prefix + "a"]

    # Multipart

    async def test_parts_in_any_order_make_an_object(self, store: ObjectStore, prefix: str) -> None:
        data = os.urandom(2 * MIN_PART_BYTES + 5)
        upload = await store.begin_upload(prefix + "a.mkv")
        last = await store.upload_part(upload, 9, data[2 * MIN_PART_BYTES :])
        first, second = await asyncio.gather(
            store.upload_part(upload, 1, data[:MIN_PART_BYTES]),
            store.upload_part(upload, 5, data[MIN_PART_BYTES : 2 * MIN_PART_BYTES]),
        )
        assert await keys(store, prefix) == []
        info = await store.complete_upload(upload, [first, second, last])
        assert (info.key, info.size, info.content_type) == (prefix + "a.mkv", len(data), "video/matroska")
        assert info == await store.head(prefix + "a.mkv")
        assert await store.read(prefix + "a.mkv") == data
        assert list(await store.list_uploads(prefix)) == []

    async def test_an_upload_is_taken_up_again_from_its_list(self, store: ObjectStore, prefix: str) -> None:
        begun = await store.begin_upload(prefix + "a", content_type="video/x-special")
        one = await store.upload_part(begun, 1, b"1" * MIN_PART_BYTES)
        await store.upload_part(begun, 2, b"wrong")
        two = await store.upload_part(begun, 2, b"right")
        (found,) = await store.list_uploads(prefix)
        assert (found.bucket, found.key, found.upload_id) == (store.bucket, prefix + "a", begun.upload_id)
        assert "upload dates" in self.lacks or abs(found.initiated_ms / 1000 - time.time()) < 60
        parts = await store.list_parts(found)
        assert list(parts) == [one, two]
        info = await store.complete_upload(found, parts)
        assert (info.size, info.content_type) == (MIN_PART_BYTES + 5, "video/x-special")
        assert await collect(store.get(prefix + "a", start=MIN_PART_BYTES - 1)) == b"1right"

    async def test_list_parts_of_more_than_a_page(self, store: ObjectStore, prefix: str) -> None:
        upload = await store.begin_upload(prefix + "a")
        numbers = list(range(1, 1113)) if "gaps over pages" in self.lacks else list(range(1, MAX_PARTS + 1, 9))
        for start in range(0, len(numbers), 30):
            await asyncio.gather(*(store.upload_part(upload, n, b"x") for n in numbers[start : start + 30]))
        assert [part.number for part in await store.list_parts(upload)] == numbers
        await store.abort_upload(upload)

    async def test_an_aborted_upload_is_gone(self, store: ObjectStore, prefix: str) -> None:
        self.need("ended uploads")
        upload = await store.begin_upload(prefix + "a")
        part = await store.upload_part(upload, 1, b"x")
        await store.abort_upload(upload)
        await store.abort_upload(upload)
        with pytest.raises(NotFound, match=upload.upload_id):
            await store.upload_part(upload, 2, b"x")
        with pytest.raises(NotFound, match=upload.upload_id):
            await store.list_parts(upload)
        with pytest.raises(NotFound, match=upload.upload_id):
            await store.complete_upload(upload, [part])
        await self.assert_nothing(store, prefix)

    async def test_a_completed_upload_is_over(self, store: ObjectStore, prefix: str) -> None:
        self.need("ended uploads")
        upload = await store.begin_upload(prefix + "a")
        part = await store.upload_part(upload, 1, b"x")
        await store.complete_upload(upload, [part])
        with pytest.raises(NotFound):
            await store.list_parts(upload)
        with pytest.raises(NotFound):
            await store.upload_part(upload, 1, b"y")
        assert await store.read(prefix + "a") == b"x"

    async def test_an_upload_id_belongs_to_its_key(self, store: ObjectStore, prefix: str) -> None:
        self.need("ended uploads")
        upload = await store.begin_upload(prefix + "a")
        stranger = MultipartUpload(bucket=store.bucket, key=prefix + "b", upload_id=upload.upload_id)
        with pytest.raises(NotFound):
            await store.upload_part(stranger, 1, b"x")
        await store.abort_upload(stranger)
        assert len(await store.list_uploads(prefix)) == 1
        await store.abort_upload(upload)

    async def test_parts_that_are_not_the_stored_ones_are_refused(self, store: ObjectStore, prefix: str) -> None:
        upload = await store.begin_upload(prefix + "a")
        one = await store.upload_part(upload, 1, b"1" * MIN_PART_BYTES)
        two = await store.upload_part(upload, 2, b"2")
        replaced = await store.upload_part(upload, 2, b"two")
        with pytest.raises(PreconditionFailed):
            await store.complete_upload(upload, [one, two])
        with pytest.raises(PreconditionFailed):
            await store.complete_upload(upload, [one, Part(number=3, etag=replaced.etag, size=3)])
        with pytest.raises(Refused, match="ascending"):
            await store.complete_upload(upload, [replaced, one])
        with pytest.raises(Refused, match="without parts"):
            await store.complete_upload(upload, [])
        assert await keys(store, prefix) == []
        assert (await store.complete_upload(upload, [one, replaced])).size == MIN_PART_BYTES + 3

    async def test_a_small_part_may_only_be_the_last(self, store: ObjectStore, prefix: str) -> None:
        upload = await store.begin_upload(prefix + "a")
        parts = [await store.upload_part(upload, n, b"small") for n in (1, 2)]
        with pytest.raises(Refused):
            await store.complete_upload(upload, parts)
        await store.abort_upload(upload)
        await self.assert_nothing(store, prefix)

    @pytest.mark.parametrize("number", [0, 10_001, -1])
    async def test_a_part_number_out_of_range_is_refused(self, store: ObjectStore, prefix: str, number: int) -> None:
        upload = await store.begin_upload(prefix + "a")
        with pytest.raises(Refused, match="1 to 10000"):
            await store.upload_part(upload, number, b"x")
        await store.abort_upload(upload)

    async def test_complete_if_none_match(self, store: ObjectStore, prefix: str) -> None:
        upload = await store.begin_upload(prefix + "a")
        part = await store.upload_part(upload, 1, b"parts")
        await store.put(prefix + "a", b"first")
        with pytest.raises(PreconditionFailed):
            await store.complete_upload(upload, [part], if_none_match=True)
        assert await store.read(prefix + "a") == b"first"
        await store.abort_upload(upload)
        await self.assert_only(store, prefix, "a")

    async def test_of_racing_completions_if_none_match_exactly_one_wins(self, store: ObjectStore, prefix: str) -> None:
        uploads = [await store.begin_upload(prefix + "a") for _ in range(8)]
        parts = [await store.upload_part(upload, 1, f"writer {n}".encode()) for n, upload in enumerate(uploads)]
        outcomes = await asyncio.gather(
            *(store.complete_upload(upload, [part], if_none_match=True) for upload, part in zip(uploads, parts, strict=True)),
            return_exceptions=True,
        )
        winners = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ObjectInfo"] + ["PreconditionFailed"] * 7
        assert await store.read(prefix + "a") == f"writer {winners[0]}".encode()
        await asyncio.gather(*(store.abort_upload(upload) for upload in uploads))
        await self.assert_only(store, prefix, "a")

    async def test_two_completions_of_one_upload_make_one_object(self, store: ObjectStore, prefix: str) -> None:
        self.need("ended uploads")
        upload = await store.begin_upload(prefix + "a")
        parts = [await store.upload_part(upload, 1, b"1" * MIN_PART_BYTES), await store.upload_part(upload, 2, b"2")]
        outcomes = await asyncio.gather(
            *(store.complete_upload(upload, parts, if_none_match=True) for _ in range(4)), return_exceptions=True
        )
        # The later ones are told that it is there, or over, or (Amazon S3) the same again.
        assert await store.head(prefix + "a") in outcomes
        lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert all(isinstance(outcome, NotFound | PreconditionFailed) for outcome in lost), lost
        assert await store.read(prefix + "a") == b"1" * MIN_PART_BYTES + b"2"
        await self.assert_only(store, prefix, "a")

    async def assert_only(self, store: ObjectStore, prefix: str, name: str) -> None:
        assert await keys(store, prefix) == [prefix + name]
        assert list(await store.list_uploads(prefix)) == []

    async def test_parts_are_copied_inside_the_store(self, store: ObjectStore, other: ObjectStore, prefix: str) -> None:
        data = os.urandom(MIN_PART_BYTES + 100)
        source = await store.put(prefix + "a", data)
        upload = await other.begin_upload(prefix + "b")
        one = await other.copy_part(upload, 1, store, prefix + "a", start=50, end=50 + MIN_PART_BYTES, if_match=source.etag)
        two = await other.upload_part(upload, 2, b"tail")
        assert one.size == MIN_PART_BYTES
        assert (await other.complete_upload(upload, [one, two])).size == MIN_PART_BYTES + 4
        assert await other.read(prefix + "b") == data[50 : 50 + MIN_PART_BYTES] + b"tail"

    async def test_a_part_is_not_copied_from_another_object_than_meant(self, store: ObjectStore, prefix: str) -> None:
        self.need("copy conditions")
        first = await store.put(prefix + "a", b"one")
        await store.put(prefix + "a", b"two")
        upload = await store.begin_upload(prefix + "b")
        with pytest.raises(PreconditionFailed):
            await store.copy_part(upload, 1, store, prefix + "a", start=0, end=3, if_match=first.etag)
        await store.abort_upload(upload)

    async def test_a_range_beyond_the_source_is_not_copied(self, store: ObjectStore, prefix: str) -> None:
        self.need("copy conditions")
        await store.put(prefix + "a", b"0123456789")
        upload = await store.begin_upload(prefix + "b")
        for start, end in ((5, 11), (20, 30), (3, 3), (-1, 4)):
            with pytest.raises(Refused):
                await store.copy_part(upload, 1, store, prefix + "a", start=start, end=end)
        with pytest.raises(NotFound):
            await store.copy_part(upload, 1, store, prefix + "nothing", start=0, end=1)
        await store.abort_upload(upload)

    async def test_copies_of_ranges_are_probed_and_leave_nothing(self, store: ObjectStore, other: ObjectStore, prefix: str) -> None:
        source = await store.put(prefix + "a", os.urandom(MIN_PART_BYTES + 1))
        for target in (store, other):
            found = await probe(store, source, target)
            assert (found.possible, found.pinned) == (True, "copy conditions" not in self.lacks)
            assert bool(found.reason) == (not found.pinned)
            assert await keys(target, ".reelworks") == []
            assert list(await target.list_uploads(".reelworks")) == []

    # Checksums

    async def test_a_checksum_is_right_or_not_known(self, store: ObjectStore, prefix: str) -> None:
        data = os.urandom(1000)
        first = await store.put(prefix + "a", data)
        assert await store.checksum(prefix + "a", etag=first.etag) in (None, zlib.crc32(data))
        await store.put(prefix + "a", b"another")
        with pytest.raises(PreconditionFailed):
            await store.checksum(prefix + "a", etag=first.etag)
        with pytest.raises(NotFound):
            await store.checksum(prefix + "nothing", etag=first.etag)
        with pytest.raises(Refused):
            await store.checksum("/a", etag=first.etag)

    async def test_an_upload_with_checksums_tells_those_of_its_parts_where_it_keeps_them(self, store: ObjectStore, prefix: str) -> None:
        data = os.urandom(MIN_PART_BYTES + 100)
        await self.compose_with_checksums(store, prefix, data)

    async def compose_with_checksums(self, store: ObjectStore, prefix: str, data: bytes) -> ObjectInfo:
        """An object of a copied part, whose checksum is not kept in between, and an uploaded one."""
        source = await store.put(prefix + "a", data)
        upload = await store.begin_upload(prefix + "b", checksums=True)
        made = [
            await store.copy_part(upload, 1, store, prefix + "a", start=50, end=50 + MIN_PART_BYTES, if_match=source.etag),
            await store.upload_part(upload, 2, b"tail"),
        ]
        right = [zlib.crc32(data[50 : 50 + MIN_PART_BYTES]), zlib.crc32(b"tail")]
        assert [part.crc32 for part in made] == (right if upload.checksums else [None, None])
        assert list(await store.list_parts(upload)) == made
        (found,) = await store.list_uploads(prefix)
        assert found.checksums == upload.checksums
        info = await store.complete_upload(upload, [Part(number=1, etag=made[0].etag, size=made[0].size), made[1]])
        assert await store.read(prefix + "b") == data[50 : 50 + MIN_PART_BYTES] + b"tail"
        return info

    async def test_sweep_removes_only_what_is_old(self, store: ObjectStore, prefix: str) -> None:
        self.need("upload dates")
        upload = await store.begin_upload(prefix + "a")
        await store.upload_part(upload, 1, b"x")
        await store.sweep(older_than_seconds=3600)
        assert [u.upload_id for u in await store.list_uploads(prefix)] == [upload.upload_id]
        assert await store.sweep(older_than_seconds=-60) >= 1
        assert list(await store.list_uploads(prefix)) == []

    # Signed URLs

    async def test_a_signed_get_is_readable_by_anybody(self, store: ObjectStore, prefix: str, fetch: Fetch) -> None:
        key = prefix + "Größe 🎬 a+b&c=d?e#f%20.mp4"
        await store.put(key, b"0123456789")
        url = store.sign_get(key, expires_seconds=300)
        answer = await fetch("GET", url)
        assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, b"0123456789", "video/mp4")
        part = await fetch("GET", url, headers={"Range": "bytes=2-4"})
        assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")

    async def test_a_signed_get_may_name_the_file_and_its_type(self, store: ObjectStore, prefix: str, fetch: Fetch) -> None:
        await store.put(prefix + "a", b"x")
        url = store.sign_get(prefix + "a", expires_seconds=300, filename='Größe "1".mp4', content_type="video/mp4")
        answer = await fetch("GET", url)
        assert answer.headers["Content-Type"] == "video/mp4"
        assert (
            answer.headers["Content-Disposition"]
            == "attachment; filename=\"Gr__e _1_.mp4\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%221%22.mp4"
        )

    async def test_a_signed_get_stays_the_same_for_browsers(self, store: ObjectStore, prefix: str) -> None:
        urls = {store.sign_get(prefix + "a", expires_seconds=86400) for _ in range(3)}
        assert len(urls) == 1
        assert store.sign_get(prefix + "b", expires_seconds=86400) not in urls

    async def test_a_forged_get_is_refused(self, store: ObjectStore, prefix: str, fetch: Fetch) -> None:
        self.need("signatures")
        await store.put(prefix + "a", b"public")
        await store.put(prefix + "b", b"secret")
        url = store.sign_get(prefix + "a", expires_seconds=300)
        forged = [url.replace(prefix + "a", prefix + "b"), url[:-2] + ("AA" if not url.endswith("AA") else "BB"), url.partition("?")[0]]
        for attempt in forged:
            answer = await fetch("GET", attempt)
            assert (answer.status, b"secret" in answer.body) == (403, False)
        assert (await fetch("PUT", url, data=b"x")).status == 403
        assert await store.read(prefix + "a") == b"public"

    async def test_an_expired_get_is_refused(self, store: ObjectStore, prefix: str, fetch: Fetch) -> None:
        self.need("signatures")
        await store.put(prefix + "a", b"x")
        url = store.sign_get(prefix + "a", expires_seconds=1)
        deadline = time.monotonic() + 20
        while (answer := await fetch("GET", url)).status == 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert answer.status == 403

    async def test_a_signed_put_stores_that_object(self, store: ObjectStore, prefix: str, fetch: Fetch) -> None:
        key = prefix + "Ü 🎬.mp4"
        signed = store.sign_put(key, expires_seconds=300, size=5)
        assert 250 < signed.expires_ms / 1000 - time.time() <= 300
        answer = await fetch(signed.method, signed.url, headers=signed.headers, data=b"hello")
        assert answer.status in (200, 201, 204)
        assert await store.read(key) == b"hello"
        assert (await store.head(key)).content_type == "video/mp4"

    async def test_a_signed_put_of_another_size_or_type_is_refused(self, store: ObjectStore, prefix: str, fetch: Fetch) -> None:
        self.need("signatures")
        signed = store.sign_put(prefix + "a", expires_seconds=300, size=5, content_type="video/mp4")
        plain = {k: v for k, v in signed.headers.items() if k != "Content-Length"}
        attempts = [(plain, b"1234"), (plain, b"123456"), ({**plain, "Content-Type": "text/html"}, b"12345")]
        for headers, data in attempts:
            assert (await fetch("PUT", signed.url, headers=headers, data=data)).status == 403
        assert (await fetch("GET", signed.url)).status == 403
        moved = signed.url.replace(prefix + "a", prefix + "b")
        assert (await fetch("PUT", moved, headers=signed.headers, data=b"12345")).status == 403
        assert await keys(store, prefix) == []

    async def test_source_for_is_something_to_read_from(self, store: ObjectStore, prefix: str, fetch: Fetch) -> None:
        await store.put(prefix + "a.mp4", b"film")
        source = await store.source_for(prefix + "a.mp4")
        if source.startswith("/"):
            with open(source, "rb") as file:
                assert file.read() == b"film"
        else:
            assert (await fetch("GET", source, headers={"Range": "bytes=1-2"})).body == b"il"

    async def test_check_is_content(self, store: ObjectStore) -> None:
        await store.check()

    def need(self, ability: str) -> None:
        if ability in self.lacks:
            pytest.skip(self.lacks[ability])
