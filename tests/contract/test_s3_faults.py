"""S3 over a bad line, with wrong credentials, with a bucket that is not there."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from services.runtime.settings import Settings
from services.runtime.storage.base import MIN_PART_BYTES, NotFound, ObjectStore, PreconditionFailed, Refused, Storage, StorageError
from services.runtime.storage.factory import open_storage
from tests.servers.faulty import LOST, UNAVAILABLE, Fault, FaultyProxy, error, faulty
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.s3
MIB = 1024**2


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    return s3_server.make_bucket()


@pytest.fixture
def settings(s3_server: S3Server, bucket: str) -> Settings:
    return s3_server.settings(bucket)


@pytest.fixture
async def line(s3_server: S3Server) -> AsyncIterator[FaultyProxy]:
    async with faulty(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def direct(settings: Settings) -> AsyncIterator[ObjectStore]:
    storage = open_storage(settings)
    yield storage.bucket()
    await storage.close()


@pytest.fixture
async def shaky(settings: Settings, line: FaultyProxy) -> AsyncIterator[ObjectStore]:
    """The same bucket through the faulty line."""
    storage: Storage = open_storage(msgspec.structs.replace(settings, s3_endpoint=line.endpoint))
    yield storage.bucket()
    await storage.close()


async def test_a_broken_download_is_taken_up_where_it_broke(direct: ObjectStore, shaky: ObjectStore, line: FaultyProxy) -> None:
    data = os.urandom(6 * MIB)
    await direct.put("download", data)
    line.faults = [Fault(answer_bytes=2 * MIB), UNAVAILABLE, Fault(answer_bytes=100), Fault(answer_bytes=MIB)]
    chunks = [chunk async for chunk in shaky.get("download", start=5)]
    assert hashlib.sha256(b"".join(chunks)).digest() == hashlib.sha256(data[5:]).digest()
    assert line.connections == 5


async def test_a_download_is_not_taken_up_from_another_object(direct: ObjectStore, shaky: ObjectStore, line: FaultyProxy) -> None:
    await direct.put("changing", b"a" * 6 * MIB)
    line.faults = [Fault(answer_bytes=2 * MIB)]
    chunks = shaky.get("changing")
    await anext(chunks)
    await direct.put("changing", b"b" * 6 * MIB)
    seen: set[int] = set()

    async def read_on() -> None:
        async for chunk in chunks:
            seen.update(chunk)

    with pytest.raises(PreconditionFailed):
        await read_on()
    assert seen == {ord("a")}


async def test_a_download_that_always_breaks_never_passes_for_whole(direct: ObjectStore, shaky: ObjectStore, line: FaultyProxy) -> None:
    await direct.put("cut", b"x" * MIB)
    line.always = Fault(answer_bytes=50)
    with pytest.raises(StorageError, match="'cut'"):
        await asyncio.wait_for(shaky.read("cut"), 30)


async def test_an_upload_is_repeated_after_503(shaky: ObjectStore, direct: ObjectStore, line: FaultyProxy) -> None:
    line.faults = [UNAVAILABLE, UNAVAILABLE]
    await shaky.put("repeated", b"data")
    assert (await direct.read("repeated"), line.connections) == (b"data", 3)


async def test_a_body_that_was_cut_on_the_way_is_not_stored(
    shaky: ObjectStore, direct: ObjectStore, line: FaultyProxy, s3_server: S3Server
) -> None:
    if "cut bodies" in s3_server.lacks:
        pytest.skip(s3_server.lacks["cut bodies"])
    data = os.urandom(MIB)
    line.always = Fault(request_bytes=MIB // 2)
    with pytest.raises(StorageError):
        await asyncio.wait_for(shaky.put("half", data), 60)
    with pytest.raises(NotFound):
        await direct.head("half")
    line.always = Fault()
    line.faults = [Fault(request_bytes=MIB // 2)]
    await shaky.put("half", data)
    assert await direct.read("half") == data


async def test_a_part_that_was_cut_on_the_way_is_not_stored(shaky: ObjectStore, direct: ObjectStore, line: FaultyProxy) -> None:
    upload = await direct.begin_upload("parts")
    line.always = Fault(request_bytes=MIN_PART_BYTES // 2)
    with pytest.raises(StorageError):
        await asyncio.wait_for(shaky.upload_part(upload, 1, bytes(MIN_PART_BYTES)), 60)
    assert list(await direct.list_parts(upload)) == []
    await direct.abort_upload(upload)


async def test_a_lost_answer_does_not_hide_that_we_won(shaky: ObjectStore, direct: ObjectStore, line: FaultyProxy) -> None:
    line.faults = [Fault(answer_bytes=0)]
    info = await shaky.put("won", b"mine", if_none_match=True)
    assert info.etag == (await direct.head("won")).etag
    line.faults = [UNAVAILABLE]
    with pytest.raises(PreconditionFailed):
        await shaky.put("won", b"another", if_none_match=True)
    assert await direct.read("won") == b"mine"


async def test_a_lost_answer_to_a_completion_is_found_out(shaky: ObjectStore, direct: ObjectStore, line: FaultyProxy) -> None:
    upload = await direct.begin_upload("completed")
    parts = [await direct.upload_part(upload, 1, bytes(MIN_PART_BYTES)), await direct.upload_part(upload, 2, b"tail")]
    line.faults = [Fault(answer_bytes=0)]
    info = await shaky.complete_upload(upload, parts)
    assert info == await direct.head("completed")
    with pytest.raises(NotFound):
        await shaky.list_parts(upload)


@pytest.mark.parametrize("told", [Fault(), Fault(reply=error(412, "PreconditionFailed"))])
async def test_a_lost_answer_to_a_completion_if_none_match_does_not_hide_that_we_won(
    shaky: ObjectStore, direct: ObjectStore, line: FaultyProxy, told: Fault
) -> None:
    await direct.delete("won by parts")
    upload = await direct.begin_upload("won by parts")
    parts = [await direct.upload_part(upload, 1, b"mine")]
    line.faults = [LOST, told]
    info = await shaky.complete_upload(upload, parts, if_none_match=True)
    assert info == await direct.head("won by parts")
    upload = await direct.begin_upload("won by parts")
    line.faults = [UNAVAILABLE]
    with pytest.raises(PreconditionFailed):
        await shaky.complete_upload(upload, [await direct.upload_part(upload, 1, b"another")], if_none_match=True)
    await direct.abort_upload(upload)
    assert await direct.read("won by parts") == b"mine"


@pytest.mark.parametrize("passed", [0, 5, 17, 60, 130, 150, 180, 210, 240, 300])
async def test_an_answer_that_ends_within_its_head_counts_for_none(
    shaky: ObjectStore, direct: ObjectStore, line: FaultyProxy, passed: int
) -> None:
    await direct.put("head", b"1234567890" * 1000)
    whole = await direct.head("head")
    line.faults = [Fault(operation="HeadObject", answer_bytes=passed)]
    assert await shaky.head("head") == whole  # asked once more
    line.faults = [Fault(operation="HeadObject", answer_bytes=passed, times=100)]
    with pytest.raises(StorageError):
        await shaky.head("head")


async def test_a_store_that_does_not_answer_is_an_error_worth_another_attempt(settings: Settings, line: FaultyProxy) -> None:
    storage = open_storage(msgspec.structs.replace(settings, s3_endpoint="http://127.0.0.1:9"))
    for call in (storage.bucket().head("a"), storage.bucket().read("a"), storage.bucket().put("a", b"x")):
        with pytest.raises(StorageError) as caught:
            await asyncio.wait_for(call, 60)
        assert type(caught.value) is StorageError
    await storage.close()


async def test_a_missing_bucket_is_named(s3_server: S3Server) -> None:
    storage = open_storage(s3_server.settings("is-not-there"))
    store = storage.bucket()
    for call in (store.check(), store.put("a", b"x"), store.begin_upload("a"), store.put("a", b"x", if_match="0" * 32)):
        with pytest.raises(NotFound, match="there is no bucket 'is-not-there'"):
            await call
    await storage.close()


async def test_wrong_credentials_are_named_by_role(s3_server: S3Server, bucket: str) -> None:
    if "signatures" in s3_server.lacks:
        pytest.skip(s3_server.lacks["signatures"])
    right = s3_server.settings(bucket)
    wrong = {
        "app": msgspec.structs.replace(right, s3_app_secret="wrong"),
        "ingest": msgspec.structs.replace(right, s3_ingest_key="nobody", s3_ingest_secret="wrong"),
        "delivery": msgspec.structs.replace(right, s3_delivery_key="nobody", s3_delivery_secret="wrong"),
    }
    for role, settings in wrong.items():
        storage = open_storage(settings)
        with pytest.raises(Refused, match=f"the role '{role}' are not valid"):
            await storage.bucket().check()
        await storage.close()
    storage = open_storage(wrong["ingest"], role="ingest")
    for call in (storage.bucket().put("a", b"x"), storage.bucket().head("a")):
        with pytest.raises(Refused, match=r"'a' in bucket .* the role 'ingest' .*"):
            await call
    await storage.close()


async def test_each_role_signs_with_its_own_key_for_the_public_endpoint(settings: Settings) -> None:
    storage = open_storage(
        msgspec.structs.replace(
            settings,
            s3_public_endpoint="https://media.example.org",
            s3_ingest_key="INGEST",
            s3_ingest_secret="i",
            s3_delivery_key="DELIVERY",
            s3_delivery_secret="d",
        )
    )
    store = storage.bucket()
    urls = {
        "INGEST": store.sign_put("a", expires_seconds=60, size=1).url,
        "DELIVERY": store.sign_get("a", expires_seconds=60),
        settings.s3_app_key: await store.source_for("a", seconds=60),
    }
    signed_by = {key: parse_qs(urlsplit(url).query)["X-Amz-Credential"][0].split("/")[0] for key, url in urls.items()}
    assert signed_by == {key: key for key in urls}
    assert [urlsplit(url).netloc for url in urls.values()] == [
        "media.example.org",
        "media.example.org",
        urlsplit(settings.s3_endpoint).netloc,
    ]
    await storage.close()
