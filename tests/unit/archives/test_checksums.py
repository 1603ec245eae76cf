"""CRC-32: computed, combined, remembered."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.archives import checksums
from services.runtime.storage.local import LocalStore
from tests.archives import crc_of_zeros

IDENTITY = "media/Holidays/Crete.mp4/abc-1/5"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalStore]:
    folder = tmp_path / "media"
    folder.mkdir()
    opened = LocalStore(folder, bucket="media", signing_key=b"k" * 32)
    yield opened
    await opened.close()


@given(st.binary(), st.binary())
def test_crc32_is_that_of_zlib_and_can_be_continued_and_combined(a: bytes, b: bytes) -> None:
    assert checksums.crc32(a) == zlib.crc32(a)
    assert checksums.crc32(memoryview(b), checksums.crc32(a)) == zlib.crc32(a + b)
    assert checksums.combine(zlib.crc32(a), zlib.crc32(b), len(b)) == zlib.crc32(a + b)


def test_the_second_piece_may_be_longer_than_4_gib() -> None:
    head, length = zlib.crc32(b"head"), 2**33 + 5
    last = zlib.crc32(b"\0")
    one_by_one = checksums.combine(checksums.combine(head, crc_of_zeros(length - 1), length - 1), last, 1)
    assert checksums.combine(head, crc_of_zeros(length), length) == one_by_one
    assert checksums.combine(head, crc_of_zeros(length), length - 2**33) != one_by_one


async def test_an_identity_is_one_content_of_one_object(store: LocalStore) -> None:
    info = await store.put("Holidays/Crete.mp4", b"hello")
    assert checksums.identity_of(info) == f"media/Holidays/Crete.mp4/{info.etag}/5"


async def test_what_is_saved_is_known_for_that_identity_alone(store: LocalStore) -> None:
    await checksums.save(store, IDENTITY, {"a": 1, "日本": 0xFFFFFFFF})
    assert await checksums.load(store, IDENTITY) == {"a": 1, "日本": 0xFFFFFFFF}
    assert await checksums.load(store, IDENTITY + "0") == {}
    (found,) = [info.key async for info in store.list()]
    assert found == checksums.key_of(IDENTITY)
    assert found.startswith("checksums/")
    await checksums.save(store, IDENTITY, {"b": 2})
    assert await checksums.load(store, IDENTITY) == {"b": 2}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        json.dumps({"identity": IDENTITY}).encode(),
        json.dumps({"identity": IDENTITY, "crc32": {"a": "1"}}).encode(),
        json.dumps({"identity": IDENTITY, "crc32": {"a": -1}}).encode(),
        json.dumps({"identity": IDENTITY, "crc32": {"a": 2**32}}).encode(),
        json.dumps({"identity": IDENTITY, "crc32": {"a": 1.5}}).encode(),
        json.dumps({"identity": IDENTITY, "crc32": {"a": 1}, "more": 1}).encode(),
        json.dumps({"identity": "another", "crc32": {"a": 1}}).encode(),
    ],
)
async def test_what_save_did_not_write_is_not_believed(store: LocalStore, content: bytes) -> None:
    await store.put(checksums.key_of(IDENTITY), content)
    assert await checksums.load(store, IDENTITY) == {}


async def test_a_store_that_refuses_is_logged_and_stops_nobody(store: LocalStore, caplog: pytest.LogCaptureFixture) -> None:
    # In a folder an object and objects below it cannot exist side by side.
    await store.put("checksums", b"in the way")
    with caplog.at_level(logging.WARNING):
        await checksums.save(store, IDENTITY, {"a": 1})
    assert "checksums not saved" in caplog.text
    assert await checksums.load(store, IDENTITY) == {}


async def test_a_store_that_cannot_be_read_is_logged_and_nothing_is_known(
    store: LocalStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "media" / "checksums").symlink_to(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert await checksums.load(store, IDENTITY) == {}
    assert "checksums not read" in caplog.text
