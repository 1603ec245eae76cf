"""Large objects of S3, in parts: streams of any length in constant memory, and copies beyond what one request may copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from typing import Protocol

from services.runtime.storage.base import MultipartUpload, ObjectInfo, ObjectStore, Part, StorageError
from services.runtime.storage.parts import check_size, copy_ranges, part_size
from services.runtime.together import to_the_end

# Copies side by side; each is work of the store, not ours.
_COPIES = 4


class Target(ObjectStore, Protocol):
    """What of an S3 bucket is needed beyond the protocol. `conditions` are IfNoneMatch or IfMatch as S3 names them."""

    async def put_bytes(self, key: str, data: bytes, content_type: str, conditions: dict[str, str]) -> ObjectInfo:
        """One PUT."""
        ...

    async def complete(self, upload: MultipartUpload, parts: Sequence[Part], conditions: dict[str, str]) -> ObjectInfo:
        """CompleteMultipartUpload."""
        ...


async def put_stream(
    store: Target, key: str, stream: AsyncIterable[bytes], size: int | None, content_type: str, conditions: dict[str, str]
) -> ObjectInfo:
    """One PUT for what fits in a part; else parts, of which one is sent while the next is filled."""
    upload: MultipartUpload | None = None
    sending: asyncio.Task[Part] | None = None
    parts: list[Part] = []
    waiting: list[bytes] = []
    length = received = 0
    try:
        async for chunk in stream:
            waiting.append(chunk)
            length += len(chunk)
            received += len(chunk)
            if size is not None and received > size:
                break
            # One byte more than a part is needed to know that there is a next one.
            number = len(parts) + 1 + (sending is not None)
            while length > (step := part_size(number, size)):
                upload = upload or await store.begin_upload(key, content_type=content_type)
                if sending is not None:
                    parts.append(await sending)
                joined = b"".join(waiting)
                sending = asyncio.create_task(store.upload_part(upload, number, joined[:step]))
                waiting, length, number = [joined[step:]], length - step, number + 1
                del joined
        check_size(key, size, received)
        rest = b"".join(waiting)
        if upload is None:
            return await store.put_bytes(key, rest, content_type, conditions)
        if sending is not None:
            parts.append(await sending)
        parts.append(await store.upload_part(upload, len(parts) + 1, rest))
        return await store.complete(upload, parts, conditions)
    except BaseException:
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if upload is not None:
            # Also when this task is cancelled: the parts would be paid for until somebody sweeps.
            await to_the_end(_abandon(store, upload))
        raise


async def copy_in_parts(store: Target, origin: ObjectStore, before: ObjectInfo, key: str) -> ObjectInfo:
    """Copy an object, of that ETag, inside the store."""
    upload = await store.begin_upload(key, content_type=before.content_type)
    free = asyncio.Semaphore(_COPIES)

    async def one(number: int, start: int, end: int) -> Part:
        async with free:
            return await store.copy_part(upload, number, origin, before.key, start=start, end=end, if_match=before.etag)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number, *span)) for number, span in enumerate(copy_ranges(before.size), 1)]
        return await store.complete_upload(upload, [task.result() for task in tasks])
    except BaseException as wrong:
        await to_the_end(_abandon(store, upload))
        if isinstance(wrong, BaseExceptionGroup):
            raise wrong.exceptions[0] from None
        raise


async def _abandon(store: ObjectStore, upload: MultipartUpload) -> None:
    try:
        await store.abort_upload(upload)
    except StorageError:
        return  # the error that led here says more; sweep removes it
