"""Which objects go into an archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.events import ZipEntry
from services.runtime.archives.records import MAX_NAME_BYTES
from services.runtime.archives.selection import Chosen, Limits, Unusable, select
from services.runtime.storage.base import ObjectInfo, Refused, StorageError
from services.runtime.storage.factory import Buckets
from services.runtime.storage.local import LocalStore

LIMITS = Limits(entries=1000, bytes=10**6, entries_setting="REELWORKS_MOST_ENTRIES", bytes_setting="REELWORKS_MOST_BYTES")


class Watched(LocalStore):
    """A folder that counts who looks at it."""

    looked: list[str]
    looking = most = 0
    broken = False
    slowest = ""
    """The key that is answered after all others."""

    async def head(self, key: str) -> ObjectInfo:
        self.looked.append(key)
        self.looking += 1
        self.most = max(self.most, self.looking)
        try:
            await asyncio.sleep(0)
            while key == self.slowest and self.looking > 1:
                await asyncio.sleep(0)
            if self.broken:
                raise StorageError("the store does not answer")
            return await super().head(key)
        finally:
            self.looking -= 1


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Buckets]:
    def open_bucket(name: str) -> Watched:
        (tmp_path / name).mkdir()
        store = Watched(tmp_path / name, bucket=name, signing_key=b"k" * 32)
        store.looked = []
        return store

    buckets = Buckets("media", ("other",), open_bucket)
    yield buckets
    await buckets.close()


def media(storage: Buckets, name: str = "") -> Watched:
    store = storage.bucket(name)
    assert isinstance(store, Watched)
    return store


async def chosen(
    storage: Buckets,
    *entries: ZipEntry,
    prefix: str = "",
    bucket: str = "",
    exclude: tuple[str, str] | None = None,
    limits: Limits = LIMITS,
    concurrency: int = 32,
) -> list[Chosen]:
    return await select(
        storage, entries=entries, prefix=prefix, bucket=bucket, exclude=exclude, limits=limits, concurrency=concurrency
    )  # fmt: skip


async def refused(storage: Buckets, *entries: ZipEntry, **more: object) -> Unusable:
    with pytest.raises(Unusable) as caught:
        await chosen(storage, *entries, **more)  # type: ignore[arg-type]
    assert str(caught.value) == caught.value.message
    assert caught.value.hint
    return caught.value


async def test_entries_are_pinned_in_their_order_with_their_names(storage: Buckets) -> None:
    a = await media(storage).put("films/a.mp4", b"aa")
    b = await media(storage, "other").put("b.mp4", b"bbb")
    assert await chosen(
        storage, ZipEntry(bucket="other", key="b.mp4", name="Ferien/b.mp4"), ZipEntry(key="films/a.mp4", etag=a.etag)
    ) == [
        Chosen(bucket="other", key="b.mp4", etag=b.etag, size=3, modified_ms=b.modified_ms, name="Ferien/b.mp4"),
        Chosen(bucket="media", key="films/a.mp4", etag=a.etag, size=2, modified_ms=a.modified_ms, name="films/a.mp4"),
    ]  # fmt: skip


async def test_entries_without_a_bucket_lie_in_that_of_the_request(storage: Buckets) -> None:
    await media(storage, "other").put("a", b"1")
    assert [one.bucket for one in await chosen(storage, ZipEntry(key="a"), bucket="other")] == ["other"]


async def test_names_that_meet_are_numbered(storage: Buckets) -> None:
    for key in ("x/a.mp4", "y/a.mp4"):
        await media(storage).put(key, b"1")
    entries = [ZipEntry(key="x/a.mp4", name="a.mp4"), ZipEntry(key="y/a.mp4", name="A.mp4"), ZipEntry(key="x/a.mp4")]
    assert [one.name for one in await chosen(storage, *entries)] == ["a.mp4", "A (2).mp4", "x/a.mp4"]
    # One that is wanted twice is looked at once.
    assert sorted(media(storage).looked) == ["x/a.mp4", "y/a.mp4"]


async def test_a_prefix_is_listed_and_nothing_is_looked_at(storage: Buckets) -> None:
    for key in ("films/b.mp4", "films/a.mp4", "films/deep/c.mp4", "films2/d.mp4", "e.mp4"):
        await media(storage, "other").put(key, key.encode())
    found = await chosen(storage, prefix="films/", bucket="other")
    assert [(one.bucket, one.key, one.name, one.size) for one in found] == [
        ("other", key, key, len(key)) for key in ("films/a.mp4", "films/b.mp4", "films/deep/c.mp4")
    ]
    assert media(storage, "other").looked == []
    assert {one.etag for one in found} == {(await media(storage, "other").head(one.key)).etag for one in found}


async def test_the_target_is_left_out_of_a_prefix(storage: Buckets) -> None:
    for key in ("films/a.mp4", "films/all.zip"):
        await media(storage).put(key, b"1")
        await media(storage, "other").put(key, b"1")
    assert [one.key for one in await chosen(storage, prefix="films/", exclude=("", "films/all.zip"))] == ["films/a.mp4"]
    assert [one.key for one in await chosen(storage, prefix="films/", exclude=("media", "films/all.zip"))] == ["films/a.mp4"]
    assert len(await chosen(storage, prefix="films/", exclude=("other", "films/all.zip"))) == 2
    alone = await refused(storage, prefix="films/all", exclude=("", "films/all.zip"))
    assert alone.code == "nothing-selected"
    assert "begins with 'films/all' but the archive to be written" in alone.message


@pytest.mark.parametrize(("bucket", "target"), [("", "media"), ("media", ""), ("", "")])
async def test_the_target_is_refused_as_an_entry(storage: Buckets, bucket: str, target: str) -> None:
    await media(storage).put("all.zip", b"1")
    wrong = await refused(storage, ZipEntry(key="all.zip", bucket=bucket), exclude=(target, "all.zip"))
    assert (wrong.code, media(storage).looked) == ("target-selected", [])
    assert "'all.zip' in bucket 'media'" in wrong.message


@pytest.mark.parametrize("slowest", ["", "gone-0"])
async def test_objects_that_are_missing_are_counted_and_the_first_are_named(storage: Buckets, slowest: str) -> None:
    await media(storage).put("there", b"1")
    media(storage).slowest = slowest
    wrong = await refused(storage, ZipEntry(key="there"), *(ZipEntry(key=f"gone-{n}") for n in range(7)))
    assert wrong.code == "object-missing"
    assert wrong.message == (
        "7 objects do not exist: " + "; ".join(f"'gone-{n}' in bucket 'media'" for n in range(5)) + "; and 2 more"
    )  # fmt: skip
    one = await refused(storage, ZipEntry(key="gone"))
    assert one.message == "1 object does not exist: 'gone' in bucket 'media'"


async def test_an_object_of_another_etag_has_changed(storage: Buckets) -> None:
    info = await media(storage).put("a", b"1")
    assert len(await chosen(storage, ZipEntry(key="a", etag=f'"{info.etag}"'))) == 1
    wrong = await refused(storage, ZipEntry(key="a", etag="old"))
    assert wrong.code == "object-changed"
    assert wrong.message == f"1 object has changed: 'a' in bucket 'media' (its ETag is {info.etag}, expected was old)"


async def test_the_limits_are_named_with_the_figures(storage: Buckets) -> None:
    for n in range(3):
        await media(storage).put(f"f/{n}", b"12345")
    small = Limits(entries=2, bytes=14, entries_setting="REELWORKS_MOST_ENTRIES", bytes_setting="REELWORKS_MOST_BYTES")
    entries = [ZipEntry(key=f"f/{n}") for n in range(3)]
    many = await refused(storage, *entries, limits=small)
    assert (many.code, many.message) == ("too-many-entries", "3 objects were selected; an archive may have 2")
    assert "REELWORKS_MOST_ENTRIES" in many.hint
    assert media(storage).looked == []
    assert (await refused(storage, prefix="f/", limits=small)).message == "at least 3 objects were selected; an archive may have 2"

    light = Limits(entries=3, bytes=14, entries_setting="REELWORKS_MOST_ENTRIES", bytes_setting="REELWORKS_MOST_BYTES")
    for large in (await refused(storage, *entries, limits=light), await refused(storage, prefix="f/", limits=light)):
        assert (large.code, large.message) == ("too-large", "the selected objects have 15 bytes together; an archive may have 14")
        assert "REELWORKS_MOST_BYTES" in large.hint
    assert len(await chosen(storage, *entries, limits=Limits(entries=3, bytes=15, entries_setting="", bytes_setting=""))) == 3


async def test_nothing_and_both_are_refused(storage: Buckets) -> None:
    assert (await refused(storage)).code == "nothing-selected"
    nowhere = await refused(storage, prefix="nowhere/")
    assert (nowhere.code, nowhere.message) == ("nothing-selected", "no object in bucket 'media' begins with 'nowhere/'")
    assert (await refused(storage, ZipEntry(key="a"), prefix="b")).code == "both-given"


async def test_names_that_cannot_be_used_are_refused_with_what_is_accepted(storage: Buckets) -> None:
    await media(storage).put("a", b"1")
    await media(storage).put("C:/b", b"1")
    wrong = await refused(storage, ZipEntry(key="a", name="../a"), ZipEntry(key="C:/b"))
    assert wrong.code == "name"
    assert wrong.message == (
        "2 names cannot be used in an archive: '../a' (it has the segment '..'); 'C:/b' (it begins with a drive letter, 'C:')"
    )
    assert "relative, with '/' between its folders" in wrong.hint
    longest = "x" * MAX_NAME_BYTES
    assert [one.name for one in await chosen(storage, ZipEntry(key="a", name=longest))] == [longest]
    numbered = await refused(storage, *(ZipEntry(key="a", name=longest) for _ in range(2)))
    assert f"(it is {MAX_NAME_BYTES + 4} bytes long)" in numbered.message
    assert len(numbered.message) < 400


async def test_objects_are_looked_at_side_by_side_within_bounds(storage: Buckets) -> None:
    for n in range(20):
        await media(storage).put(f"{n:02}", b"%d" % n)
    found = await chosen(storage, *(ZipEntry(key=f"{n:02}") for n in reversed(range(20))), concurrency=4)
    assert [one.key for one in found] == [f"{n:02}" for n in reversed(range(20))]
    assert (media(storage).most, len(media(storage).looked)) == (4, 20)


async def test_errors_of_the_store_are_raised_as_they_are(storage: Buckets) -> None:
    with pytest.raises(Refused, match="not on the allow-list"):
        await chosen(storage, ZipEntry(key="a", bucket="secret"))
    with pytest.raises(Refused, match="not on the allow-list"):
        await chosen(storage, prefix="a", bucket="secret")
    media(storage).broken = True
    with pytest.raises(StorageError, match="does not answer"):
        await chosen(storage, *(ZipEntry(key=str(n)) for n in range(50)))
    assert media(storage).looking == 0
