"""From settings to buckets."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.runtime.settings import Settings, SettingsError
from services.runtime.storage.base import ObjectStore, Refused
from services.runtime.storage.factory import open_storage
from services.runtime.storage.local import LocalStore
from services.runtime.storage.s3_store import S3Store


async def test_a_folder_and_its_siblings_are_buckets(tmp_path: Path) -> None:
    storage = open_storage(Settings(storage_url=f"file://{tmp_path}/my%20media", buckets=("archive",), data_dir=str(tmp_path / "data")))
    assert storage.default_bucket == "my media"
    for name, folder in (("", "my media"), ("my media", "my media"), ("archive", "archive")):
        store = storage.bucket(name)
        assert isinstance(store, LocalStore)
        assert isinstance(store, ObjectStore)
        await store.put("a", folder.encode())
        assert (tmp_path / folder / "a").read_text() == store.bucket == folder
    await storage.close()


@pytest.mark.parametrize("name", ["other", "..", "../archive", "/etc", "media/../archive", "MEDIA"])
def test_a_bucket_that_is_not_allowed_is_refused_with_those_that_are(tmp_path: Path, name: str) -> None:
    storage = open_storage(Settings(storage_url=f"file://{tmp_path}/media", buckets=("archive",), data_dir=str(tmp_path)))
    with pytest.raises(Refused, match="not on the allow-list; it has: media, archive"):
        storage.bucket(name)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is not set; accepted are file:///folder and s3://bucket"),
        ("/var/media", "is not understood"),
        ("http://host/bucket", "is not understood"),
        ("file://var/media", "three slashes"),
        ("file:media", "three slashes"),
        ("file:///", "three slashes"),
        ("file:///var/../etc", "three slashes"),
        ("file:///var/%00", "three slashes"),
        ("file:///var/media?x=1", "a query"),
        ("s3://", "no name of a bucket"),
        ("s3://B", "no name of a bucket"),
        ("s3://bucket/prefix", "accepted is s3://bucket"),
        ("s3://key:secret@bucket", "credentials"),
        ("s3://[bucket", "accepted are"),
        ("oci://bucket", "this version does not have"),
    ],
)
def test_a_url_that_cannot_be_used_is_said_with_what_can(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match="REELWORKS_STORAGE_URL") as caught:
        open_storage(Settings(storage_url=url, data_dir=str(tmp_path)))
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["..", "a/b", "a\\b"])
def test_a_sibling_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="REELWORKS_BUCKETS"):
        open_storage(Settings(storage_url=f"file://{tmp_path}/media", buckets=(name,), data_dir=str(tmp_path)))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"the folder .*file/media"):
        open_storage(Settings(storage_url=f"file://{tmp_path}/file/media", data_dir=str(tmp_path)))


def test_s3_asks_nothing_of_the_network() -> None:
    storage = open_storage(Settings(storage_url="s3://my-bucket", buckets=("my.archive",), s3_endpoint="http://127.0.0.1:9"))
    store = storage.bucket("my.archive")
    assert isinstance(store, S3Store)
    assert isinstance(store, ObjectStore)
    assert (storage.default_bucket, store.bucket) == ("my-bucket", "my.archive")
    with pytest.raises(Refused, match="allow-list"):
        storage.bucket("another")
