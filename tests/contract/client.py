"""A client without credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from tests.contract.object_store import Answer, Fetch


@asynccontextmanager
async def stranger(base: str = "") -> AsyncIterator[Fetch]:
    """Fetches URLs exactly as they are; `base` goes before those that are a path."""
    async with aiohttp.ClientSession() as session:

        async def fetch(method: str, url: str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None) -> Answer:
            target = URL(base + url if url.startswith("/") else url, encoded=True)
            async with session.request(method, target, headers=headers, data=data) as answer:
                return Answer(answer.status, answer.headers, await answer.read())

        yield fetch
