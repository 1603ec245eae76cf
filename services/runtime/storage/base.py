"""The ObjectStore protocol. `tests/contract/object_store.py` is its meaning; every store passes it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

import msgspec


class StorageError(Exception):
    """Root of what storage raises. The store could not do it now: worth another attempt."""


class NotFound(StorageError):
    """No such object or bucket."""


class PreconditionFailed(StorageError):
    """The object is not the one that was meant (ETag), or exists although it must not."""


class Refused(StorageError):
    """Never possible: the key is malformed, the bucket is not on the allow-list, access is denied."""


class StorageFull(StorageError):
    """There is no room for it: the disk is full, or a quota is used up. Worth another attempt when somebody has made some."""


class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What HEAD tells."""

    bucket: str
    key: str
    size: int
    etag: str
    """Opaque, without quotes. Changes when the content does."""
    modified_ms: int
    content_type: str = "application/octet-stream"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A stored part of a multipart upload. Numbers count from 1 to 10,000."""

    number: int
    etag: str
    size: int
    crc32: int | None = None
    """CRC-32 of its bytes, in uploads that keep them (`MultipartUpload.checksums`); else None."""


class MultipartUpload(msgspec.Struct, frozen=True, kw_only=True):
    """A multipart upload that is under way."""

    bucket: str
    key: str
    upload_id: str
    initiated_ms: int = 0
    checksums: bool = False
    """Whether the store keeps a CRC-32 of each part, and tells it. Then the parts that are completed must be numbered 1, 2, 3 …"""


class SignedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a client without credentials needs to send an object."""

    method: str
    url: str
    headers: dict[str, str]
    """To be sent exactly as they are: the signature covers them."""
    expires_ms: int


MIN_PART_BYTES = 5 * 1024**2
MAX_PART_BYTES = 5 * 1024**3
MAX_PARTS = 10_000
"""Of a multipart upload: Amazon S3 User Guide, "Amazon S3 multipart upload limits"."""


@runtime_checkable
class ObjectStore(Protocol):
    """One bucket. Keys are UTF-8, relative, 1 to 1024 bytes, without `.` or `..` as a segment, backslash or control character
    (`keys.py`). A folder further accepts at most 255 bytes between two slashes, and not both `a` and `a/b`.

    All methods raise Refused for a malformed key, NotFound, PreconditionFailed or StorageError as their names say.
    """

    bucket: str

    async def check(self) -> None:
        """Whether the bucket can be used with the credentials that are configured; raises what says which of them cannot."""
        ...

    async def head(self, key: str) -> ObjectInfo:
        """Size, ETag, date and type. Raises NotFound."""
        ...

    async def checksum(self, key: str, *, etag: str) -> int | None:
        """The CRC-32 of the whole object of that ETag where the store knows it, else None. Never costs a read of the object.

        Raises PreconditionFailed when the object has another ETag, NotFound when it is gone; but a store that is known to
        keep none is not asked again.
        """
        ...

    def get(self, key: str, *, start: int = 0, end: int | None = None, if_match: str = "") -> AsyncIterator[bytes]:
        """The bytes [start, end) as they arrive; a stream that ends early raises StorageError, never passes for whole.

        An `end` beyond the object's is the object's; a `start` beyond it raises Refused.
        """
        ...

    async def read(self, key: str, *, limit: int = 64 * 1024**2) -> bytes:
        """A small object at once. Raises StorageError when it is larger than `limit`."""
        ...

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
        """Store an object: it appears whole or not at all. Constant memory for a stream of any length.

        `size`, when given, must be what arrives, else StorageError and nothing is stored. `if_none_match`: only where
        there is none; `if_match`: only in place of that ETag (PreconditionFailed
        also when it is gone). `content_type` is guessed from the key when empty.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove it; none there is no error."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> dict[str, str]:
        """Remove any number. Answers those that remain, each with the reason."""
        ...

    def list(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """All objects whose key begins with `prefix`, in the order of their UTF-8 bytes. `content_type` is not filled.

        What other programs stored under a name that is no key (a "folder" that ends with a slash) is left out.
        """
        ...

    async def copy(self, source: ObjectStore, source_key: str, key: str, *, if_match: str = "") -> ObjectInfo:
        """Copy an object of the same kind of store without moving its bytes through here."""
        ...

    async def begin_upload(self, key: str, *, content_type: str = "", checksums: bool = False) -> MultipartUpload:
        """Begin a multipart upload. With `checksums` it keeps a CRC-32 of each part, for `Part.crc32`, where the store can do that:
        the upload's `checksums` says so. The first time, an object of 5 MiB is stored and removed again to find out."""
        ...

    async def upload_part(self, upload: MultipartUpload, number: int, data: bytes) -> Part:
        """Store a part; repeating a number replaces it."""
        ...

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
        """Store the bytes [start, end) of an object as a part, inside the store. Amazon S3 does so only for objects of more than
        5 MiB and ranges of up to 5 GiB. Raises PreconditionFailed when the object has another ETag."""
        ...

    async def complete_upload(self, upload: MultipartUpload, parts: Sequence[Part], *, if_none_match: bool = False) -> ObjectInfo:
        """Make the object appear, whole. Numbers may have gaps, but for an upload with `checksums`. Raises PreconditionFailed when a
        part's ETag is another, or with `if_none_match` when there is an object; Refused when the parts are not in ascending order
        or one that is not the last is shorter than MIN_PART_BYTES; NotFound when the upload is over."""
        ...

    async def abort_upload(self, upload: MultipartUpload) -> None:
        """Forget it and its parts; none there is no error."""
        ...

    async def list_parts(self, upload: MultipartUpload) -> Sequence[Part]:
        """Parts stored so far, by number. Raises NotFound when the upload is over."""
        ...

    async def list_uploads(self, prefix: str = "") -> Sequence[MultipartUpload]:
        """Uploads that are under way, by key."""
        ...

    async def sweep(self, *, older_than_seconds: float) -> int:
        """Remove what broken-off writes left behind: uploads and temporary files untouched for so long. Answers how many."""
        ...

    def sign_get(self, key: str, *, expires_seconds: int, filename: str = "", content_type: str = "") -> str:
        """URL by which anybody may read the object until it expires; `filename` makes browsers save it.

        It stays the same for three quarters of its life, so that browsers can cache it; so it holds for a quarter of
        `expires_seconds` at least and the whole of it at most. A folder's URL is a path of the gateway (`/v1/media/…`).
        """
        ...

    def sign_put(self, key: str, *, expires_seconds: int, size: int, content_type: str = "") -> SignedRequest:
        """How anybody may store this one object, of this size, until it expires."""
        ...

    async def source_for(self, key: str, *, seconds: int = 6 * 3600) -> str:
        """What ffmpeg can open for reading: a path or a signed URL that holds for `seconds`."""
        ...

    async def close(self) -> None:
        """End connections."""
        ...


class Storage(Protocol):
    """The buckets on the allow-list."""

    default_bucket: str

    def bucket(self, name: str = "") -> ObjectStore:
        """A bucket by name, the default one for "". Raises Refused when it is not on the allow-list, saying what is."""
        ...

    async def close(self) -> None: ...
