"""CRC-32s that S3 keeps, and stores that do not know them, tell them of something else, or cannot be asked now."""

from __future__ import annotations

import os
import zlib
from collections.abc import AsyncGenerator
from typing import Any

import boto3
import msgspec
import pytest
from botocore.config import Config

from services.runtime.storage.base import MIN_PART_BYTES, PreconditionFailed, Refused, StorageError
from services.runtime.storage.s3_checksums import encode
from services.runtime.storage.s3_store import S3Connection, S3Store
from tests.contract.object_store import ObjectStoreContract
from tests.servers.faulty import Fault, FaultyProxy, document, error, faulty
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.s3
MIB = 1024**2
DATA = os.urandom(MIN_PART_BYTES + 1000)


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    return s3_server.make_bucket()


@pytest.fixture
def writer(s3_server: S3Server) -> Any:
    """Another program that writes into the bucket."""
    return boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.key,
        aws_secret_access_key=s3_server.secret,
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture
async def line(s3_server: S3Server) -> AsyncGenerator[FaultyProxy]:
    async with faulty(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def connection(s3_server: S3Server, bucket: str, line: FaultyProxy) -> AsyncGenerator[S3Connection]:
    connection = S3Connection(msgspec.structs.replace(s3_server.settings(bucket), s3_endpoint=line.endpoint))
    yield connection
    await connection.close()


@pytest.fixture
def store(connection: S3Connection, bucket: str) -> S3Store:
    return S3Store(bucket, connection)


@pytest.fixture
def truthful(connection: S3Connection) -> None:
    """As after a trial of a store that tells the true checksum of what it copies."""
    connection.copied_checksums.true = True


@pytest.fixture
def composite(s3_server: S3Server, writer: Any, bucket: str, truthful: None) -> str:
    """The ETag of the object "composite", of DATA in two parts with checksums."""
    if "part checksums" in s3_server.lacks:
        pytest.skip(s3_server.lacks["part checksums"])
    upload = writer.create_multipart_upload(Bucket=bucket, Key="composite", ChecksumAlgorithm="CRC32")["UploadId"]
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate((DATA[:MIN_PART_BYTES], DATA[MIN_PART_BYTES:]), 1):
        answer = writer.upload_part(
            Bucket=bucket, Key="composite", UploadId=upload, PartNumber=number, Body=piece, ChecksumAlgorithm="CRC32"
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]})
    done = writer.complete_multipart_upload(Bucket=bucket, Key="composite", UploadId=upload, MultipartUpload={"Parts": parts})
    return done["ETag"].strip('"')


def page(etag: str, pieces: dict[int, bytes], *, more: bool = False, checksums: bool = True) -> Fault:
    """GetObjectAttributes as Amazon S3 answers it, once."""
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>{len(piece)}</Size>"
        + (f"<ChecksumCRC32>{encode(zlib.crc32(piece))}</ChecksumCRC32>" if checksums else "")
        + "</Part>"
        for number, piece in pieces.items()
    )
    return Fault(
        operation="GetObjectAttributes",
        reply=document(
            '<?xml version="1.0" encoding="UTF-8"?>\n<GetObjectAttributesResponse xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<ETag>{etag}</ETag><ObjectParts><IsTruncated>{'true' if more else 'false'}</IsTruncated><PartsCount>2</PartsCount>"
            f"{listed}</ObjectParts></GetObjectAttributesResponse>"
        ),
    )


async def test_the_checksum_of_an_object_that_was_stored_with_one(store: S3Store, writer: Any, bucket: str, line: FaultyProxy) -> None:
    put = writer.put_object(Bucket=bucket, Key="whole", Body=DATA, ChecksumAlgorithm="CRC32")
    assert await store.checksum("whole", etag=put["ETag"].strip('"')) == zlib.crc32(DATA)
    assert line.total().requests == line.requests("HeadObject") == 1


async def test_parts_are_believed_after_a_trial_only(store: S3Store, connection: S3Connection, composite: str, line: FaultyProxy) -> None:
    connection.copied_checksums.true = None
    told = await store.checksum("composite", etag=composite)
    assert line.requests("UploadPartCopy") == 1
    assert connection.copied_checksums.true is (told is not None)


async def test_another_kind_of_checksum_is_none(store: S3Store, writer: Any, bucket: str) -> None:
    put = writer.put_object(Bucket=bucket, Key="sha", Body=DATA, ChecksumAlgorithm="SHA256")
    assert await store.checksum("sha", etag=put["ETag"].strip('"')) is None


async def test_the_checksum_of_parts_that_was_computed_over_the_whole(
    store: S3Store, writer: Any, bucket: str, s3_server: S3Server, truthful: None
) -> None:
    if "part checksums" in s3_server.lacks:
        pytest.skip(s3_server.lacks["part checksums"])
    upload = writer.create_multipart_upload(Bucket=bucket, Key="full", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")["UploadId"]
    sent = writer.upload_part(Bucket=bucket, Key="full", UploadId=upload, PartNumber=1, Body=DATA, ChecksumAlgorithm="CRC32")
    parts = [{"PartNumber": 1, "ETag": sent["ETag"], "ChecksumCRC32": sent["ChecksumCRC32"]}]
    done = writer.complete_multipart_upload(
        Bucket=bucket, Key="full", UploadId=upload, ChecksumType="FULL_OBJECT", MultipartUpload={"Parts": parts}
    )
    assert await store.checksum("full", etag=done["ETag"].strip('"')) == zlib.crc32(DATA)


async def test_the_checksums_of_parts_are_combined(store: S3Store, composite: str, line: FaultyProxy) -> None:
    line.faults = [page(composite, {1: DATA[:MIN_PART_BYTES], 2: DATA[MIN_PART_BYTES:]})]
    assert await store.checksum("composite", etag=composite) == zlib.crc32(DATA)
    line.faults = [page(composite, {1: DATA[:MIN_PART_BYTES]}, more=True), page(composite, {2: DATA[MIN_PART_BYTES:]})]
    assert await store.checksum("composite", etag=composite) == zlib.crc32(DATA)
    assert line.requests("GetObjectAttributes") == 3
    assert line.traffic["GetObject"].received == 0


async def test_parts_without_checksums_or_not_all_of_them_give_none(store: S3Store, composite: str, line: FaultyProxy) -> None:
    first, rest = DATA[:MIN_PART_BYTES], DATA[MIN_PART_BYTES:]
    for fault in (
        page(composite, {1: first, 2: rest}, checksums=False),
        page(composite, {1: first}),
        page(composite, {}, more=True),
    ):
        line.faults = [fault]
        assert await store.checksum("composite", etag=composite) is None
        assert line.faults == []


async def test_a_list_of_parts_that_does_not_advance_is_left(store: S3Store, composite: str, line: FaultyProxy) -> None:
    line.faults = [page(composite, {1: DATA[:MIN_PART_BYTES]}, more=True)] * 3
    assert await store.checksum("composite", etag=composite) is None
    assert len(line.faults) == 1


async def test_parts_of_another_object_than_meant_are_not_combined(store: S3Store, composite: str, line: FaultyProxy) -> None:
    line.faults = [page("0" * 32 + "-2", {1: DATA[:MIN_PART_BYTES], 2: DATA[MIN_PART_BYTES:]})]
    with pytest.raises(PreconditionFailed, match="has changed"):
        await store.checksum("composite", etag=composite)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(error(501, "NotImplemented"), id="not-implemented"),
        pytest.param(error(405, "MethodNotAllowed"), id="not-allowed"),
        pytest.param(error(403, "AccessDenied"), id="denied"),
        pytest.param(document("x" * 3 * MIB), id="the-object-itself"),
        pytest.param(document("<small/>"), id="something-else"),
    ],
)
async def test_a_store_that_does_not_list_parts_is_asked_once(store: S3Store, composite: str, line: FaultyProxy, answer: bytes) -> None:
    line.faults = [Fault(operation="GetObjectAttributes", reply=answer, times=9)]
    assert await store.checksum("composite", etag=composite) is None
    assert await store.checksum("composite", etag=composite) is None
    assert line.requests("GetObjectAttributes") == 1


# botocore sends a HEAD that was answered with 400 once more, for it may be that of another region.
@pytest.mark.parametrize(("answer", "times"), [(error(400, "InvalidArgument"), 2), (error(501, "NotImplemented"), 1)])
async def test_a_store_that_does_not_know_checksums_is_asked_once(store: S3Store, line: FaultyProxy, answer: bytes, times: int) -> None:
    info = await store.put("plain", b"data")
    line.traffic.clear()
    line.faults = [Fault(operation="HeadObject", reply=answer, times=times)]
    assert await store.checksum("plain", etag=info.etag) is None
    assert line.requests("HeadObject") == times + 1  # again without the header, to know that it was the header
    assert await store.checksum("plain", etag=info.etag) is None
    assert line.requests("HeadObject") == times + 1


async def test_an_object_that_is_refused_does_not_speak_for_the_store(store: S3Store, writer: Any, bucket: str, line: FaultyProxy) -> None:
    put = writer.put_object(Bucket=bucket, Key="whole", Body=DATA, ChecksumAlgorithm="CRC32")
    line.faults = [Fault(operation="HeadObject", reply=error(403, "AccessDenied"), times=2)]
    with pytest.raises(Refused):
        await store.checksum("whole", etag="0")
    assert await store.checksum("whole", etag=put["ETag"].strip('"')) == zlib.crc32(DATA)


async def test_a_store_that_cannot_answer_now_is_asked_again(store: S3Store, composite: str, line: FaultyProxy) -> None:
    line.faults = [Fault(operation="GetObjectAttributes", reply=error(503, "SlowDown"), times=9)]
    with pytest.raises(StorageError, match="SlowDown"):
        await store.checksum("composite", etag=composite)
    line.faults = [
        Fault(operation="GetObjectAttributes", reply=error(503, "SlowDown")),
        Fault(operation="GetObjectAttributes", reset=True),
        page(composite, {1: DATA[:MIN_PART_BYTES], 2: DATA[MIN_PART_BYTES:]}),
    ]
    assert await store.checksum("composite", etag=composite) == zlib.crc32(DATA)


# Of parts


async def test_whether_checksums_of_copies_are_true_is_found_out_once(store: S3Store, connection: S3Connection, line: FaultyProxy) -> None:
    uploads = [await store.begin_upload(f"a{n}", checksums=True) for n in range(2)]
    for upload in uploads:
        await store.abort_upload(upload)
    assert [upload.checksums for upload in uploads] == [connection.copied_checksums.true] * 2
    assert line.requests("PutObject") == line.requests("DeleteObject") == line.requests("UploadPartCopy") == 1
    assert [info.key async for info in store.list(".reelworks")] == []
    assert list(await store.list_uploads(".reelworks")) == []


async def test_the_checksum_of_the_whole_source_is_not_taken_for_that_of_a_range(
    store: S3Store, connection: S3Connection, s3_server: S3Server
) -> None:
    if s3_server.kind != "versitygw":
        pytest.skip("versitygw 1.8 answers with it")
    upload = await store.begin_upload("a", checksums=True)
    assert (upload.checksums, connection.copied_checksums.true) == (False, False)
    await store.abort_upload(upload)


async def test_objects_of_parts_are_not_trusted_where_checksums_of_copies_are_not_true(
    store: S3Store, connection: S3Connection, composite: str, line: FaultyProxy
) -> None:
    connection.copied_checksums.true = False
    assert await store.checksum("composite", etag=composite) is None
    assert line.requests("GetObjectAttributes") == 0


@pytest.mark.parametrize("operation", ["PutObject", "CreateMultipartUpload", "UploadPartCopy"])
async def test_a_store_that_rejects_checksums_gets_uploads_without(
    store: S3Store, connection: S3Connection, line: FaultyProxy, operation: str
) -> None:
    line.faults = [Fault(operation=operation, reply=error(400, "InvalidArgument"))]
    upload = await store.begin_upload("a", checksums=True)
    assert (upload.checksums, connection.copied_checksums.true) == (False, False)
    part = await store.upload_part(upload, 4, b"x")
    assert part.crc32 is None
    assert (await store.complete_upload(upload, [part])).size == 1
    assert list(await store.list_uploads(".reelworks")) == []


async def test_what_cannot_be_tried_now_is_tried_again(store: S3Store, connection: S3Connection, line: FaultyProxy) -> None:
    line.faults = [Fault(operation="UploadPartCopy", reply=error(503, "SlowDown"), times=9)]
    with pytest.raises(StorageError, match="SlowDown"):
        await store.begin_upload("a", checksums=True)
    assert connection.copied_checksums.true is None
    assert list(await store.list_uploads("")) == []


@pytest.fixture
def trusted(s3_server: S3Server, connection: S3Connection) -> None:
    """Of a source without a checksum of its own versitygw, too, tells the truth: it is believed here."""
    if "part checksums" in s3_server.lacks:
        pytest.skip(s3_server.lacks["part checksums"])
    connection.copied_checksums.true = True


@pytest.mark.usefixtures("trusted")
async def test_parts_are_stored_and_completed_with_their_checksums(store: S3Store, line: FaultyProxy) -> None:
    info = await ObjectStoreContract().compose_with_checksums(store, "composed/", DATA)
    assert (info.key, info.size) == ("composed/b", MIN_PART_BYTES + 4)
    assert line.requests("ListParts") == 2  # one of them for the checksum that was not kept


@pytest.mark.usefixtures("trusted")
async def test_parts_with_checksums_are_numbered_without_gaps(store: S3Store) -> None:
    upload = await store.begin_upload("gaps", checksums=True)
    parts = [await store.upload_part(upload, number, DATA) for number in (1, 3)]
    with pytest.raises(Refused, match="without gaps"):
        await store.complete_upload(upload, parts)
    await store.abort_upload(upload)


@pytest.mark.usefixtures("trusted")
async def test_a_part_with_a_checksum_that_was_cut_on_the_way_is_not_stored(store: S3Store, line: FaultyProxy) -> None:
    upload = await store.begin_upload("cut", checksums=True)
    line.faults = [Fault(operation="UploadPart", request_bytes=MIB)]
    part = await store.upload_part(upload, 1, DATA)
    assert (part.crc32, part.size, line.requests("UploadPart")) == (zlib.crc32(DATA), len(DATA), 2)
    assert list(await store.list_parts(upload)) == [part]
    await store.abort_upload(upload)
