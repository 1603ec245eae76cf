"""CRC-32s that an S3 store keeps: of whole objects, and of ranges that it copies.

Amazon S3 User Guide, "Checking object integrity in Amazon S3"; API reference, HeadObject, GetObjectAttributes, CopyPartResult.
"""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from isal import isal_zlib

from services.runtime.storage.base import MIN_PART_BYTES, Part, PreconditionFailed, Refused, StorageError
from services.runtime.storage.s3 import S3Control
from services.runtime.storage.s3_bytes import S3Bytes
from services.runtime.storage.s3_errors import InvalidCredentials

# One page of parts is 1,000 of them, some 200 bytes each.
_PAGE_BYTES = 1024**2
_SECONDS = 900
_PART = re.compile(r"<Part>(.*?)</Part>", re.DOTALL)
_TRIAL = b"Reelworks"


class Checksums:
    """What one bucket tells of its objects. A store that does not understand the question is not asked again."""

    def __init__(self, bucket: str, control: S3Control, connection: S3Bytes, copied: CopiedChecksums) -> None:
        self.bucket = bucket
        self._control = control
        self._bytes = connection
        self._copied = copied
        self._heads = self._attributes = True

    async def of(self, key: str, etag: str) -> int | None:
        """`ObjectStore.checksum`."""
        if not self._heads:
            return None
        try:
            head = await self._head(key, ChecksumMode="ENABLED")
        except InvalidCredentials:
            raise
        except Refused:
            # Backblaze B2 answers 400 to a header that it does not know. The object itself may be refused as well: then so is this.
            head = await self._head(key)
            self._heads = False
        self._same(key, head["ETag"], etag)
        value, kind = head.get("ChecksumCRC32", ""), head.get("ChecksumType", "")
        if value and "-" in etag and not await self._copied.are_true(self.bucket):
            # An object of parts: some may have been copied, and of those this store does not tell the truth.
            return None
        if kind == "FULL_OBJECT" or (not kind and "-" not in etag):
            return decode(value)
        if value and self._attributes:
            return await self._combined(key, etag, head["ContentLength"])
        return None

    async def _head(self, key: str, **more: Any) -> Any:
        return await self._control.call("head_object", bucket=self.bucket, key=key, **more)

    async def _combined(self, key: str, etag: str, size: int) -> int | None:
        """From the checksums of its parts."""
        parts: list[Part] = []
        marker = 0
        try:
            while True:
                page = await self._page(key, marker)
                self._same(key, tag(page, "ETag"), etag)
                found = [part for part in map(_part, _PART.findall(page)) if part]
                parts += found
                if not found or found[-1].number <= marker or tag(page, "IsTruncated") != "true":
                    break
                marker = found[-1].number
        except InvalidCredentials:
            raise
        except Refused:
            # Not implemented, or not among this key's rights.
            self._attributes = False
            return None
        return combined(parts) if sum(part.size for part in parts) == size else None

    async def _page(self, key: str, marker: int) -> str:
        """Not by the control client: a store that takes no notice of `?attributes` answers with the object, and it would read it whole."""
        asked = {"Bucket": self.bucket, "Key": key, "ObjectAttributes": ["ETag", "ObjectParts"], "MaxParts": 1000}
        headers = {"x-amz-object-attributes": "ETag,ObjectParts", "x-amz-max-parts": "1000"}
        if marker:
            asked["PartNumberMarker"] = marker
            headers["x-amz-part-number-marker"] = str(marker)
        url = await self._control.presigned("get_object_attributes", asked, _SECONDS)
        body = (
            await self._bytes.document(
                url,
                headers,
                limit=_PAGE_BYTES,
                bucket=self.bucket,
                key=key,
                role=self._control.role,
                operation="get_object_attributes",
            )
        ).decode("utf-8", "replace")
        if "<GetObjectAttributesResponse" not in body:
            raise Refused(f"{key!r} in bucket {self.bucket!r}: get_object_attributes is answered with something else")
        return body

    def _same(self, key: str, there: str, etag: str) -> None:
        if there.strip('"') != etag:
            raise PreconditionFailed(
                f"{key!r} in bucket {self.bucket!r} has changed: its ETag is {there.strip(chr(34))}, expected was {etag}"
            )


class CopiedChecksums:
    """Whether a store keeps CRC-32s of the parts of an upload, and tells the true one of a range that it copies: found out by doing it.

    Some do not know them (Backblaze B2), some keep none of what they copy, and versitygw 1.8 gives for a range the checksum
    of the whole object that it is part of, where that has one.
    """

    def __init__(self, control: S3Control, home: str = "") -> None:
        """`home`: the bucket to try it in; else the one that the question is about."""
        self._control, self._home = control, home
        self._asking = asyncio.Lock()
        self.true: bool | None = None
        """None until it was tried."""

    async def are_true(self, bucket: str) -> bool:
        """Tried the first time. Raises StorageError when it could not be tried now."""
        async with self._asking:
            if self.true is None:
                self.true = await self._tried(self._home or bucket)
            return self.true

    async def _tried(self, bucket: str) -> bool:
        key = f".reelworks-probe/{uuid.uuid4().hex}"
        # Amazon S3 copies ranges only of objects of more than 5 MiB.
        whole = bytes(MIN_PART_BYTES) + _TRIAL

        async def call(operation: str, **more: Any) -> Any:
            return await self._control.call(operation, bucket=bucket, key=key, **more)

        upload = ""
        try:
            await call("put_object", Body=whole, ChecksumCRC32=encode(zlib.crc32(whole)))
            upload = (await call("create_multipart_upload", ChecksumAlgorithm="CRC32"))["UploadId"]
            copied = await call(
                "upload_part_copy",
                upload=upload,
                PartNumber=1,
                CopySource={"Bucket": bucket, "Key": key},
                CopySourceRange=f"bytes={MIN_PART_BYTES}-{len(whole) - 1}",
            )
            listed = (await call("list_parts", upload=upload)).get("Parts", [])
            told = [decode(each.get("ChecksumCRC32", "")) for each in (copied["CopyPartResult"], *listed)]
            return told == [zlib.crc32(_TRIAL)] * 2
        except InvalidCredentials:
            raise
        except Refused:
            return False
        finally:
            with suppress(StorageError):
                # One whose answer was lost too, when it was asked for a second time.
                begun = await self._control.call("list_multipart_uploads", bucket=bucket, Prefix=key) if upload else {}
                for each in begun.get("Uploads", []):
                    await call("abort_multipart_upload", upload=each["UploadId"])
            with suppress(StorageError):
                await call("delete_object")


def decode(value: str) -> int | None:
    """A CRC-32 as S3 writes it: base64 of four bytes, most significant first. None for what is none, as `…-3` of a composite."""
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


def encode(crc32: int) -> str:
    """A CRC-32 as S3 writes it."""
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()


def combined(parts: Sequence[Part]) -> int | None:
    """The CRC-32 of the bytes of all parts, one after the other; None when one of them is not known."""
    value = 0
    for part in parts:
        if part.crc32 is None:
            return None
        value = isal_zlib.crc32_combine(value, part.crc32, part.size)
    return value


def tag(document: str, name: str) -> str:
    """The text of the first element of that name; "" where there is none."""
    found = re.search(f"<{name}>([^<]*)</{name}>", document)
    return found.group(1).strip().replace("&quot;", '"') if found else ""


def _part(document: str) -> Part | None:
    number, size = tag(document, "PartNumber"), tag(document, "Size")
    if not (number.isdigit() and size.isdigit()):
        return None
    return Part(number=int(number), etag="", size=int(size), crc32=decode(tag(document, "ChecksumCRC32")))
