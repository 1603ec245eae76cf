"""A folder as a bucket. `local_files.py` says how files appear; this is the ObjectStore protocol over it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from services.runtime.storage.base import (
    MultipartUpload,
    ObjectInfo,
    ObjectStore,
    Part,
    PreconditionFailed,
    Refused,
    SignedRequest,
    StorageError,
)
from services.runtime.storage.keys import content_type_of
from services.runtime.storage.local_files import Draft, Folder, etag_of
from services.runtime.storage.local_listing import objects
from services.runtime.storage.local_uploads import Uploads
from services.runtime.storage.parts import check_number, check_size
from services.runtime.storage.ranges import clip
from services.runtime.storage.signing import Grant, sign, stable_expiry
from services.runtime.storage.threads import acquired, in_thread

# A hop to a thread costs some 50 µs: rarely enough per MiB not to count, and 32 streams hold 32 MiB.
_CHUNK = 1024**2
# Copied by one call at most, so that a cancelled copy ends soon.
_COPY = 64 * 1024**2
_PAGE = 500


class LocalStore:
    """One folder. Several processes may use it at once; other programs may add files to it."""

    def __init__(self, root: Path, *, bucket: str = "", signing_key: bytes, clock: Callable[[], float] = time.time) -> None:
        self.bucket = bucket or root.name
        self.root = root
        self._folder = Folder(root, self.bucket)
        self._uploads = Uploads(self._folder)
        self._signing_key = signing_key
        self._clock = clock

    async def check(self) -> None:
        await in_thread(None, self._writable)

    async def head(self, key: str) -> ObjectInfo:
        return await in_thread(None, self._head, key)

    async def checksum(self, key: str, *, etag: str) -> int | None:
        """None: a folder keeps no checksums."""
        fd, _ = await self._opened(self._folder, key, etag)
        os.close(fd)
        return None

    async def get(self, key: str, *, start: int = 0, end: int | None = None, if_match: str = "") -> AsyncIterator[bytes]:
        fd, info = await self._opened(self._folder, key, if_match)
        try:
            position, end = clip(key, start, end, info.size)
            while position < end:
                chunk = await in_thread(None, os.pread, fd, min(_CHUNK, end - position), position)
                if not chunk:
                    raise StorageError(
                        f"{key!r} in bucket {self.bucket!r} ended at {position} instead of {end}: it was changed while it was read"
                    )
                position += len(chunk)
                yield chunk
        except OSError as wrong:
            raise StorageError(f"{key!r} in bucket {self.bucket!r}: {wrong.strerror}") from wrong
        finally:
            os.close(fd)

    async def read(self, key: str, *, limit: int = 64 * 1024**2) -> bytes:
        return await in_thread(None, self._read, key, limit)

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
        self._folder.check(key)
        draft = await acquired(None, self._folder.draft, Draft.close)
        try:
            if isinstance(data, bytes):
                await in_thread(None, draft.write, data)
            else:
                await _fill(draft, data, size)
            check_size(key, size, draft.size)
            self._keep_type(draft, key, content_type)
            return await in_thread(None, self._folder.publish, draft, key, if_none_match=if_none_match, if_match=if_match)
        finally:
            draft.close()

    async def delete(self, key: str) -> None:
        await in_thread(None, self._folder.remove, key)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, str]:
        return await in_thread(None, self._remove_all, keys)

    async def list(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        walk = objects(self._folder, prefix, start_after)
        try:
            while page := await in_thread(None, lambda: [*islice(walk, _PAGE)]):
                for info in page:
                    yield info
        finally:
            await in_thread(None, walk.close)

    async def copy(self, source: ObjectStore, source_key: str, key: str, *, if_match: str = "") -> ObjectInfo:
        self._folder.check(key)
        fd, info = await self._opened(self._folder_of(source), source_key, if_match)
        try:
            draft = await acquired(None, self._folder.draft, Draft.close)
            try:
                await _copy(draft, fd, 0, info.size)
                _check_unchanged(fd, info)
                self._keep_type(draft, key, info.content_type)
                return await in_thread(None, self._folder.publish, draft, key)
            finally:
                draft.close()
        finally:
            os.close(fd)

    async def begin_upload(self, key: str, *, content_type: str = "", checksums: bool = False) -> MultipartUpload:
        return await in_thread(None, self._uploads.begin, key, content_type)

    async def upload_part(self, upload: MultipartUpload, number: int, data: bytes) -> Part:
        check_number(number)
        draft = await acquired(None, self._folder.draft, Draft.close)
        try:
            await in_thread(None, draft.write, data)
            return await in_thread(None, self._uploads.store, upload, number, draft)
        finally:
            draft.close()

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
        fd, info = await self._opened(self._folder_of(source), source_key, if_match)
        try:
            if not 0 <= start < end <= info.size:
                raise Refused(f"the bytes [{start}, {end}) of {source_key!r} cannot be copied: it has {info.size}")
            draft = await acquired(None, self._folder.draft, Draft.close)
            try:
                await _copy(draft, fd, start, end - start)
                _check_unchanged(fd, info)
                return await in_thread(None, self._uploads.store, upload, number, draft)
            finally:
                draft.close()
        finally:
            os.close(fd)

    async def complete_upload(self, upload: MultipartUpload, parts: Sequence[Part], *, if_none_match: bool = False) -> ObjectInfo:
        content_type = await in_thread(None, self._uploads.content_type, upload)
        chosen = await in_thread(None, self._uploads.verified, upload, parts)
        draft = await acquired(None, self._folder.draft, Draft.close)
        try:
            for part in chosen:
                fd = await acquired(None, partial(self._uploads.open, upload, part), os.close)
                try:
                    await _copy(draft, fd, 0, part.size)
                finally:
                    os.close(fd)
            self._keep_type(draft, upload.key, content_type)
            info = await in_thread(None, self._folder.publish, draft, upload.key, if_none_match=if_none_match)
        finally:
            draft.close()
        await in_thread(None, self._uploads.forget, upload)
        return info

    async def abort_upload(self, upload: MultipartUpload) -> None:
        await in_thread(None, self._uploads.forget, upload)

    async def list_parts(self, upload: MultipartUpload) -> Sequence[Part]:
        return await in_thread(None, self._uploads.parts, upload)

    async def list_uploads(self, prefix: str = "") -> Sequence[MultipartUpload]:
        return await in_thread(None, self._uploads.under_way, prefix)

    async def sweep(self, *, older_than_seconds: float) -> int:
        return await in_thread(None, self._uploads.sweep, self._clock() - older_than_seconds)

    def sign_get(self, key: str, *, expires_seconds: int, filename: str = "", content_type: str = "") -> str:
        self._folder.check(key)
        expires = stable_expiry(self._clock(), expires_seconds)
        return sign(
            self._signing_key,
            Grant(method="GET", bucket=self.bucket, key=key, expires=expires, content_type=content_type, filename=filename),
        )

    def sign_put(self, key: str, *, expires_seconds: int, size: int, content_type: str = "") -> SignedRequest:
        self._folder.check(key)
        content_type = content_type or content_type_of(key)
        expires = int(self._clock()) + expires_seconds
        grant = Grant(method="PUT", bucket=self.bucket, key=key, expires=expires, size=size, content_type=content_type)
        return SignedRequest(
            method="PUT",
            url=sign(self._signing_key, grant),
            headers={"Content-Type": content_type, "Content-Length": str(size)},
            expires_ms=expires * 1000,
        )

    async def source_for(self, key: str, *, seconds: int = 6 * 3600) -> str:
        await self.head(key)
        return str(self._folder.root / key)

    async def close(self) -> None:
        """Nothing is held open between calls."""

    async def _opened(self, folder: Folder, key: str, if_match: str) -> tuple[int, ObjectInfo]:
        return await acquired(None, lambda: folder.open(key, if_match=if_match), lambda opened: os.close(opened[0]))

    def _writable(self) -> None:
        draft = self._folder.draft()
        draft.close()

    def _head(self, key: str) -> ObjectInfo:
        fd, info = self._folder.open(key)
        os.close(fd)
        return info

    def _read(self, key: str, limit: int) -> bytes:
        fd, info = self._folder.open(key)
        with os.fdopen(fd, "rb") as file:
            if info.size > limit:
                raise StorageError(f"{key!r} in bucket {self.bucket!r} has {info.size} bytes; at most {limit} were expected")
            data = file.read(info.size)
        if len(data) != info.size:
            raise StorageError(f"{key!r} in bucket {self.bucket!r} was changed while it was read")
        return data

    def _remove_all(self, keys: Sequence[str]) -> dict[str, str]:
        remaining: dict[str, str] = {}
        for key in keys:
            try:
                self._folder.remove(key)
            except StorageError as wrong:
                remaining[key] = str(wrong)
        return remaining

    def _keep_type(self, draft: Draft, key: str, content_type: str) -> None:
        if content_type and content_type != content_type_of(key):
            draft.set_type(content_type)

    def _folder_of(self, source: ObjectStore) -> Folder:
        if isinstance(source, LocalStore):
            return source._folder
        raise Refused(f"bucket {source.bucket!r} is not a folder; its objects cannot be copied into the folder of bucket {self.bucket!r}")


def _check_unchanged(fd: int, info: ObjectInfo) -> None:
    """Other programs may write into a file while it is copied. Raises PreconditionFailed."""
    if (etag := etag_of(os.fstat(fd))) != info.etag:
        raise PreconditionFailed(f"{info.key!r} in bucket {info.bucket!r} has changed while it was copied: its ETag is {etag}")


async def _fill(draft: Draft, stream: AsyncIterable[bytes], size: int | None) -> None:
    """Write a stream as it comes, by the MiB. Ends early when more than `size` bytes arrive."""
    waiting: list[bytes] = []
    length = 0
    async for chunk in stream:
        waiting.append(chunk)
        length += len(chunk)
        if length >= _CHUNK:
            await in_thread(None, draft.write, b"".join(waiting))
            waiting, length = [], 0
            if size is not None and draft.size > size:
                return
    await in_thread(None, draft.write, b"".join(waiting))


async def _copy(draft: Draft, fd: int, start: int, count: int) -> None:
    for position in range(start, start + count, _COPY):
        await in_thread(None, draft.copy, fd, position, min(_COPY, start + count - position))
