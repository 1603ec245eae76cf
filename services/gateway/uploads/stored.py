"""A request's body as an object: whole or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.gateway.problems import Problem
from services.runtime.storage.base import ObjectInfo, ObjectStore, StorageError


async def store_body(store: ObjectStore, key: str, body: AsyncIterator[bytes], *, size: int | None, content_type: str) -> ObjectInfo:
    """Write the object. A Problem that the body raised comes out as it was, though a store may wrap what it meets."""
    problems: list[Problem] = []

    async def watched() -> AsyncIterator[bytes]:
        try:
            async for chunk in body:
                yield chunk
        except Problem as problem:
            problems.append(problem)
            raise

    try:
        return await store.put(key, watched(), size=size, content_type=content_type)
    except StorageError:
        if problems:
            raise problems[0] from None
        raise
