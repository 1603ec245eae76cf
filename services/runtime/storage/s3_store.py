"""An S3 bucket: the ObjectStore protocol over `s3.py` (control) and `s3_bytes.py` (bytes)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from isal import isal_zlib

from services.runtime.settings import Settings
from services.runtime.storage.base import (
    MultipartUpload,
    NotFound,
    ObjectInfo,
    ObjectStore,
    Part,
    PreconditionFailed,
    Refused,
    SignedRequest,
    StorageError,
)
from services.runtime.storage.disposition import attachment
from services.runtime.storage.keys import check_key, content_type_of, key_fault
from services.runtime.storage.parts import MIB, check_number, check_order, check_size
from services.runtime.storage.ranges import check_range, clip
from services.runtime.storage.roles import Role
from services.runtime.storage.s3 import S3Control
from services.runtime.storage.s3_bytes import BeyondEnd, S3Bytes
from services.runtime.storage.s3_checksums import Checksums, CopiedChecksums, decode, encode
from services.runtime.storage.s3_errors import REPEATED, InvalidCredentials, NoBucket
from services.runtime.storage.s3_large import copy_in_parts, put_stream
from services.runtime.storage.signed_urls import UrlCache
from services.runtime.storage.threads import in_thread

# Of the URLs for our own bytes: longer than all attempts together.
_OWN_SECONDS = 900
# Above this a copy is done in parts, side by side; at 5 GiB CopyObject ends (Amazon S3 API reference).
_COPY_AT_ONCE = 1024 * MIB
_DELETE_AT_ONCE = 1000
"""Amazon S3 API reference, DeleteObjects."""


class S3Connection:
    """What the buckets of one process share."""

    def __init__(self, settings: Settings, role: Role = "app") -> None:
        self.control = S3Control(settings, role)
        self.bytes = S3Bytes()
        self.role: Role = role
        self.copied_checksums = CopiedChecksums(self.control, urlsplit(settings.storage_url).netloc)

    async def close(self) -> None:
        await self.bytes.close()
        self.control.close()


class S3Store:
    """One bucket of any S3-compatible store."""

    def __init__(self, bucket: str, connection: S3Connection) -> None:
        self.bucket = bucket
        self._connection = connection
        self._control = connection.control
        self._checksums = Checksums(bucket, connection.control, connection.bytes, connection.copied_checksums)
        self._urls = UrlCache()

    async def check(self) -> None:
        await self._control.call("list_objects_v2", bucket=self.bucket, role="app", MaxKeys=1)
        # The other roles' rights cannot be tried without leaving traces, but whether their keys are valid can.
        probes: list[tuple[Role, str, dict[str, Any]]] = [
            ("ingest", "abort_multipart_upload", {"upload": "0"}),
            ("delivery", "get_object", {"Range": "bytes=0-0"}),
        ]
        for role, operation, more in probes:
            if self._control.is_separate(role):
                try:
                    await self._control.call(operation, bucket=self.bucket, key=".reelworks-check", role=role, **more)
                except (NoBucket, InvalidCredentials):
                    raise
                except (NotFound, Refused):
                    continue

    async def head(self, key: str) -> ObjectInfo:
        return self._info(key, await self._call("head_object", key))

    async def checksum(self, key: str, *, etag: str) -> int | None:
        return await self._checksums.of(check_key(key), etag)

    async def get(self, key: str, *, start: int = 0, end: int | None = None, if_match: str = "") -> AsyncIterator[bytes]:
        check_key(key)
        check_range(key, start, end)
        if start != end:
            url = await self._control.presigned_get(self.bucket, key, _OWN_SECONDS)
            chunks = self._connection.bytes.receive(
                url, bucket=self.bucket, key=key, role=self._connection.role, start=start, end=end, if_match=if_match
            )
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        yield chunk
                return
            except BeyondEnd:
                pass
        info = await self.head(key)
        clip(key, start, end, info.size)
        if if_match and info.etag != if_match:
            raise PreconditionFailed(f"{key!r} in bucket {self.bucket!r} has changed: its ETag is {info.etag}, expected was {if_match}")

    async def read(self, key: str, *, limit: int = 64 * MIB) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.get(key):
            size += len(chunk)
            if size > limit:
                raise StorageError(f"{key!r} in bucket {self.bucket!r} has more than the {limit} bytes that were expected")
            chunks.append(chunk)
        return b"".join(chunks)

    async def put(
        self,
        key: str,
        data: bytes | AsyncIterable[bytes],
        *,
        size: int | None = None,
        content_type: str = "",
        if_none_match: bool = False,
        if_match: str = "",
    ) -> ObjectInfo:
        check_key(key)
        content_type = content_type or content_type_of(key)
        conditions: dict[str, str] = {}
        if if_none_match:
            conditions["IfNoneMatch"] = "*"
        if if_match:
            conditions["IfMatch"] = f'"{if_match}"'
        try:
            if isinstance(data, bytes):
                check_size(key, size, len(data))
                return await self.put_bytes(key, data, content_type, conditions)
            return await put_stream(self, key, data, size, content_type, conditions)
        except NotFound as wrong:
            if if_match and not isinstance(wrong, NoBucket):
                raise PreconditionFailed(
                    f"{key!r} in bucket {self.bucket!r} was not replaced: it is not there, expected was {if_match}"
                ) from wrong
            raise

    async def put_bytes(self, key: str, data: bytes, content_type: str, conditions: dict[str, str]) -> ObjectInfo:
        parameters = {"Bucket": self.bucket, "Key": key, "ContentType": content_type, **conditions}
        url, md5, digest = await self._control.presigned_body("put_object", parameters, data, _OWN_SECONDS)
        headers = {"Content-Type": content_type, "Content-MD5": md5}
        for name, header in (("IfNoneMatch", "If-None-Match"), ("IfMatch", "If-Match")):
            if name in conditions:
                headers[header] = conditions[name]
        try:
            answer = await self._connection.bytes.send(
                url, headers, data, bucket=self.bucket, key=key, role=self._connection.role, operation="put_object"
            )
        except PreconditionFailed as wrong:
            # Ours may be the object that stands in the way: its answer was lost and the request repeated.
            if REPEATED in getattr(wrong, "__notes__", ()):
                there = await self.head(key)
                if there.etag == digest:
                    return there
            raise
        stored = parsedate_to_datetime(answer["Date"]).timestamp() if "Date" in answer else time.time()
        return ObjectInfo(
            bucket=self.bucket,
            key=key,
            size=len(data),
            etag=answer.get("ETag", "").strip('"'),
            modified_ms=int(stored) * 1000,
            content_type=content_type,
        )

    async def delete(self, key: str) -> None:
        try:
            await self._call("delete_object", key)
        except NoBucket:
            raise
        except NotFound:
            return

    async def delete_many(self, keys: Sequence[str]) -> dict[str, str]:
        remaining = {key: f"the key {key!r} cannot be used: {fault}" for key in keys if (fault := key_fault(key))}
        good = [key for key in keys if key not in remaining]
        for start in range(0, len(good), _DELETE_AT_ONCE):
            page = good[start : start + _DELETE_AT_ONCE]
            try:
                answer = await self._control.call(
                    "delete_objects", bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in page], "Quiet": True}
                )
            except StorageError as wrong:
                remaining.update(dict.fromkeys(page, str(wrong)))
                continue
            for error in answer.get("Errors", []):
                if error.get("Code") not in ("NoSuchKey", "NotFound"):
                    remaining[str(error["Key"])] = f"{error.get('Code', '')}: {error.get('Message', '')}"
        return remaining

    async def list(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        more: dict[str, Any] = {"StartAfter": start_after} if start_after else {}
        while True:
            page = await self._control.call("list_objects_v2", bucket=self.bucket, Prefix=prefix, **more)
            for entry in page.get("Contents", []):
                if not key_fault(entry["Key"]):
                    yield ObjectInfo(
                        bucket=self.bucket,
                        key=entry["Key"],
                        size=entry["Size"],
                        etag=entry.get("ETag", "").strip('"'),
                        modified_ms=int(entry["LastModified"].timestamp() * 1000),
                    )
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def copy(self, source: ObjectStore, source_key: str, key: str, *, if_match: str = "") -> ObjectInfo:
        check_key(key)
        origin = self._same_kind(source)
        before = await origin.head(source_key)
        if if_match and before.etag != if_match:
            raise PreconditionFailed(
                f"{source_key!r} in bucket {origin.bucket!r} has changed: its ETag is {before.etag}, expected was {if_match}"
            )
        if before.size > _COPY_AT_ONCE:
            return await copy_in_parts(self, origin, before, key)
        await self._call(
            "copy_object",
            key,
            CopySource={"Bucket": origin.bucket, "Key": source_key},
            CopySourceIfMatch=f'"{before.etag}"',
        )
        return await self.head(key)

    async def begin_upload(self, key: str, *, content_type: str = "", checksums: bool = False) -> MultipartUpload:
        check_key(key)
        checksums = checksums and await self._connection.copied_checksums.are_true(self.bucket)
        more = {"ChecksumAlgorithm": "CRC32"} if checksums else {}
        answer = await self._call("create_multipart_upload", key, ContentType=content_type or content_type_of(key), **more)
        now = time.time_ns() // 1_000_000
        return MultipartUpload(bucket=self.bucket, key=key, upload_id=answer["UploadId"], initiated_ms=now, checksums=checksums)

    async def upload_part(self, upload: MultipartUpload, number: int, data: bytes) -> Part:
        check_number(number)
        parameters = {"Bucket": self.bucket, "Key": check_key(upload.key), "UploadId": upload.upload_id, "PartNumber": number}
        headers: dict[str, str] = {}
        crc32 = await in_thread(None, isal_zlib.crc32, data) if upload.checksums else None
        if crc32 is not None:
            parameters["ChecksumCRC32"] = headers["x-amz-checksum-crc32"] = encode(crc32)
        url, headers["Content-MD5"], _ = await self._control.presigned_body("upload_part", parameters, data, _OWN_SECONDS)
        answer = await self._connection.bytes.send(
            url,
            headers,
            data,
            bucket=self.bucket,
            key=upload.key,
            role=self._connection.role,
            operation="upload_part",
            upload=upload.upload_id,
        )
        return Part(number=number, etag=answer.get("ETag", "").strip('"'), size=len(data), crc32=crc32)

    async def copy_part(
        self,
        upload: MultipartUpload,
        number: int,
        source: ObjectStore,
        source_key: str,
        *,
        start: int,
        end: int,
        if_match: str = "",
    ) -> Part:
        check_number(number)
        origin = self._same_kind(source)
        if not 0 <= start < end:
            raise Refused(f"the bytes [{start}, {end}) of {source_key!r} cannot be copied")
        more = {"CopySourceIfMatch": f'"{if_match}"'} if if_match else {}
        answer = await self._call(
            "upload_part_copy",
            upload.key,
            upload=upload.upload_id,
            PartNumber=number,
            CopySource={"Bucket": origin.bucket, "Key": check_key(source_key)},
            CopySourceRange=f"bytes={start}-{end - 1}",
            **more,
        )
        result = answer["CopyPartResult"]
        return Part(number=number, etag=result["ETag"].strip('"'), size=end - start, crc32=_crc32(upload, result))

    async def complete_upload(self, upload: MultipartUpload, parts: Sequence[Part], *, if_none_match: bool = False) -> ObjectInfo:
        return await self.complete(upload, parts, {"IfNoneMatch": "*"} if if_none_match else {})

    async def complete(self, upload: MultipartUpload, parts: Sequence[Part], conditions: dict[str, str]) -> ObjectInfo:
        check_order(upload.key, parts, gapless=upload.checksums)
        named = await self._named(upload, parts)
        try:
            await self._call(
                "complete_multipart_upload", upload.key, upload=upload.upload_id, MultipartUpload={"Parts": named}, **conditions
            )
        except (NotFound, PreconditionFailed) as wrong:
            # An earlier attempt may have succeeded and its answer been lost; then the object is the one of these parts.
            if REPEATED not in getattr(wrong, "__notes__", ()):
                raise
            there = await self.head(upload.key)
            if there.etag != multipart_etag(parts):
                raise
            return there
        return await self.head(upload.key)

    async def _named(self, upload: MultipartUpload, parts: Sequence[Part]) -> list[dict[str, Any]]:
        """Parts as CompleteMultipartUpload names them. A checksum that the caller did not keep is asked for."""
        sums = {part.number: part.crc32 for part in parts}
        if upload.checksums and None in sums.values():
            sums |= {part.number: part.crc32 for part in await self.list_parts(upload)}
        return [
            {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
            | ({} if (crc32 := sums[part.number]) is None else {"ChecksumCRC32": encode(crc32)})
            for part in parts
        ]

    async def abort_upload(self, upload: MultipartUpload) -> None:
        try:
            await self._call("abort_multipart_upload", upload.key, upload=upload.upload_id)
        except NoBucket:
            raise
        except NotFound:
            return

    async def list_parts(self, upload: MultipartUpload) -> Sequence[Part]:
        found: list[Part] = []
        more: dict[str, Any] = {}
        while True:
            page = await self._call("list_parts", upload.key, upload=upload.upload_id, **more)
            found += [
                Part(number=p["PartNumber"], etag=p["ETag"].strip('"'), size=p["Size"], crc32=_crc32(upload, p))
                for p in page.get("Parts", [])
            ]
            if not page.get("IsTruncated"):
                return found
            more = {"PartNumberMarker": page["NextPartNumberMarker"]}

    async def list_uploads(self, prefix: str = "") -> Sequence[MultipartUpload]:
        found: list[MultipartUpload] = []
        more: dict[str, Any] = {}
        while True:
            page = await self._control.call("list_multipart_uploads", bucket=self.bucket, Prefix=prefix, **more)
            for entry in page.get("Uploads", []):
                initiated = int(entry["Initiated"].timestamp() * 1000)
                found.append(
                    MultipartUpload(
                        bucket=self.bucket,
                        key=entry["Key"],
                        upload_id=entry["UploadId"],
                        initiated_ms=initiated,
                        checksums=entry.get("ChecksumAlgorithm") == "CRC32",
                    )
                )
            if not page.get("IsTruncated"):
                return sorted(found, key=lambda u: (u.key, u.initiated_ms, u.upload_id))
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def sweep(self, *, older_than_seconds: float) -> int:
        before = (time.time() - older_than_seconds) * 1000
        stale = [upload for upload in await self.list_uploads() if upload.initiated_ms < before]
        for upload in stale:
            await self.abort_upload(upload)
        return len(stale)

    def sign_get(self, key: str, *, expires_seconds: int, filename: str = "", content_type: str = "") -> str:
        parameters = {"Bucket": self.bucket, "Key": check_key(key)}
        if filename:
            parameters["ResponseContentDisposition"] = attachment(filename)
        if content_type:
            parameters["ResponseContentType"] = content_type
        return self._urls.get(
            (key, filename, content_type, str(expires_seconds)),
            life=expires_seconds,
            now=time.time(),
            make=lambda: self._control.presign("get_object", parameters, expires_seconds, role="delivery", public=True),
        )

    def sign_put(self, key: str, *, expires_seconds: int, size: int, content_type: str = "") -> SignedRequest:
        content_type = content_type or content_type_of(key)
        parameters = {"Bucket": self.bucket, "Key": check_key(key), "ContentType": content_type, "ContentLength": size}
        return SignedRequest(
            method="PUT",
            url=self._control.presign("put_object", parameters, expires_seconds, role="ingest", public=True),
            headers={"Content-Type": content_type, "Content-Length": str(size)},
            expires_ms=int(time.time() + expires_seconds) * 1000,
        )

    async def source_for(self, key: str, *, seconds: int = 6 * 3600) -> str:
        return await self._control.presigned_get(self.bucket, check_key(key), seconds)

    async def close(self) -> None:
        await self._connection.close()

    async def _call(self, operation: str, key: str, *, upload: str = "", **more: Any) -> Any:
        return await self._control.call(operation, bucket=self.bucket, key=check_key(key), upload=upload, **more)

    def _info(self, key: str, answer: Any) -> ObjectInfo:
        return ObjectInfo(
            bucket=self.bucket,
            key=key,
            size=answer["ContentLength"],
            etag=answer["ETag"].strip('"'),
            modified_ms=int(answer["LastModified"].timestamp() * 1000),
            content_type=answer.get("ContentType") or "application/octet-stream",
        )

    def _same_kind(self, source: ObjectStore) -> S3Store:
        if isinstance(source, S3Store) and source._control.endpoint == self._control.endpoint:
            return source
        raise Refused(
            f"bucket {source.bucket!r} is not at the same store as bucket {self.bucket!r}; its objects cannot be copied inside it"
        )


def _crc32(upload: MultipartUpload, answer: Any) -> int | None:
    return decode(answer.get("ChecksumCRC32", "")) if upload.checksums else None


def multipart_etag(parts: Sequence[Part]) -> str:
    """The ETag that S3 gives an object of these parts: MD5 of their MD5s and their number; "" when they are no MD5s."""
    try:
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
    except ValueError:
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
