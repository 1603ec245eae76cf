"""An S3 bucket is an object store."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial

import pytest

from services.runtime.storage import s3_large, s3_store
from services.runtime.storage.base import MIN_PART_BYTES, Storage
from services.runtime.storage.factory import open_storage
from services.runtime.storage.parts import copy_ranges
from services.runtime.storage.s3_store import S3Store
from tests.contract.client import stranger
from tests.contract.object_store import Fetch, ObjectStoreContract
from tests.servers.s3 import S3Server


@pytest.fixture(scope="module")
def buckets(s3_server: S3Server) -> tuple[str, str]:
    """Two buckets, that may be one on a server that the environment names."""
    return s3_server.make_bucket(), s3_server.named_buckets[-1] if s3_server.named_buckets else s3_server.make_bucket()


@pytest.mark.s3
class TestS3Store(ObjectStoreContract):
    @pytest.fixture(autouse=True)
    def _abilities(self, s3_server: S3Server) -> None:
        self.lacks = s3_server.lacks

    @pytest.fixture
    async def storage(self, s3_server: S3Server, buckets: tuple[str, str]) -> AsyncIterator[Storage]:
        storage = open_storage(s3_server.settings(*buckets))
        yield storage
        await storage.close()

    @pytest.fixture
    def store(self, storage: Storage) -> S3Store:
        store = storage.bucket()
        assert isinstance(store, S3Store)
        return store

    @pytest.fixture
    def other(self, storage: Storage, buckets: tuple[str, str]) -> S3Store:
        other = storage.bucket(buckets[1])
        assert isinstance(other, S3Store)
        return other

    @pytest.fixture
    async def fetch(self) -> AsyncIterator[Fetch]:
        async with stranger() as fetch:
            yield fetch

    async def test_a_copy_too_large_for_one_request_is_made_in_parts(
        self, store: S3Store, other: S3Store, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_store, "_COPY_AT_ONCE", MIN_PART_BYTES)
        monkeypatch.setattr(s3_large, "copy_ranges", partial(copy_ranges, least=MIN_PART_BYTES))
        data = os.urandom(2 * MIN_PART_BYTES + 1)
        await store.put(prefix + "a", data, content_type="video/x-special")
        copied = await other.copy(store, prefix + "a", prefix + "b")
        assert (copied.size, copied.content_type, copied.etag[-2:]) == (len(data), "video/x-special", "-3")
        assert await other.read(prefix + "b") == data
