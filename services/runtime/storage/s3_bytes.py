"""Bytes to and from presigned URLs, by aiohttp, which costs half of boto3's CPU time."""

from __future__ import annotations

import asyncio
import io
import random
import re
from collections.abc import AsyncGenerator, Mapping
from types import SimpleNamespace

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from services.runtime.storage.base import Refused, StorageError
from services.runtime.storage.s3_errors import REPEATED, from_body, retriable, translate

ATTEMPTS = 5
# A store that takes no connection for so long, or is silent in the middle of an object, will not go on.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_CONNECTIONS = 128
_BUFFER = 256 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class BeyondEnd(Refused):
    """The range begins at the object's end or after it."""


class S3Bytes:
    """One pool of connections."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, url: str, headers: Mapping[str, str], data: bytes, *, bucket: str, key: str, role: str, operation: str, upload: str = ""
    ) -> CIMultiDictProxy[str]:
        """PUT bytes held in memory; the answer's headers.

        Only what may pass is repeated: 5xx, 429, a broken connection, a damaged body. An error after a repetition has the note REPEATED.
        """
        wrong: StorageError | None = None
        # aiohttp repeats a PUT once by itself when a connection ends without an answer; it shows in the connections used.
        used: list[str] = []
        for attempt in range(ATTEMPTS):
            if attempt:
                await pause(attempt)
            try:
                async with self._opened().put(
                    URL(url, encoded=True),
                    data=io.BytesIO(data),
                    headers=headers,
                    skip_auto_headers=("Content-Type",),
                    trace_request_ctx=used,
                ) as answer:
                    body = await answer.read()
                    if answer.status in (200, 204):
                        return answer.headers
            except (aiohttp.ClientError, TimeoutError, OSError) as broken:
                wrong = StorageError(f"{key!r} in bucket {bucket!r}: {operation} failed: {describe(broken)}")
                wrong.__cause__ = broken
                continue
            code, message = from_body(body)
            wrong = translate(answer.status, code, message, operation=operation, bucket=bucket, key=key, role=role, upload=upload)
            if attempt or len(used) > 1:
                wrong.add_note(REPEATED)
            if not retriable(answer.status, code):
                raise wrong
        assert wrong is not None
        raise wrong

    async def receive(
        self, url: str, *, bucket: str, key: str, role: str, start: int, end: int | None, if_match: str
    ) -> AsyncGenerator[bytes]:
        """The bytes [start, end) of an object. A connection that breaks is taken up where it broke, at the same ETag."""
        position, limit, etag, failures = start, end, if_match, 0
        while True:
            headers = {"Accept-Encoding": "identity"}
            if position or end is not None:
                headers["Range"] = f"bytes={position}-{'' if limit is None else limit - 1}"
            if etag:
                headers["If-Match"] = f'"{etag}"'
            try:
                async with self._opened().get(URL(url, encoded=True), headers=headers) as answer:
                    if answer.status not in (200, 206):
                        code, message = from_body(await answer.read())
                        if answer.status == 416:
                            raise BeyondEnd(f"the bytes of {key!r} in bucket {bucket!r} from {position} on cannot be read: it ends before")
                        wrong = translate(answer.status, code, message, operation="get_object", bucket=bucket, key=key, role=role)
                        if not retriable(answer.status, code):
                            raise wrong
                    else:
                        limit = _stop(answer, position, limit, bucket, key)
                        etag = etag or answer.headers.get("ETag", "").strip('"')
                        async for chunk in answer.content.iter_any():
                            position += len(chunk)
                            failures = 0
                            yield chunk
                        if position >= limit:
                            return
                        wrong = StorageError(f"{key!r} in bucket {bucket!r} ended at byte {position} of {limit}")
            except (aiohttp.ClientError, TimeoutError, OSError) as broken:
                wrong = StorageError(f"{key!r} in bucket {bucket!r} broke off at byte {position}: {describe(broken)}")
                wrong.__cause__ = broken
            failures += 1
            if failures >= ATTEMPTS:
                raise wrong
            await pause(failures)

    async def document(
        self, url: str, headers: Mapping[str, str], *, limit: int, bucket: str, key: str, role: str, operation: str
    ) -> bytes:
        """GET an answer of at most `limit` bytes. Raises Refused for a longer one, of which no more is read."""
        wrong: StorageError | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                await pause(attempt)
            try:
                async with self._opened().get(URL(url, encoded=True), headers={**headers, "Accept-Encoding": "identity"}) as answer:
                    body = bytearray()
                    async for chunk in answer.content.iter_any():
                        body += chunk
                        if len(body) > limit:
                            answer.close()
                            raise Refused(f"{key!r} in bucket {bucket!r}: {operation} is answered with more than {limit} bytes")
                    if answer.status == 200:
                        return bytes(body)
            except (aiohttp.ClientError, TimeoutError, OSError) as broken:
                wrong = StorageError(f"{key!r} in bucket {bucket!r}: {operation} failed: {describe(broken)}")
                wrong.__cause__ = broken
                continue
            code, message = from_body(bytes(body))
            wrong = translate(answer.status, code, message, operation=operation, bucket=bucket, key=key, role=role)
            if not retriable(answer.status, code):
                raise wrong
        assert wrong is not None
        raise wrong

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                trace_configs=[_counting()],
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                timeout=_TIMEOUT,
                auto_decompress=False,
                read_bufsize=_BUFFER,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def describe(wrong: BaseException) -> str:
    """An exception of the network in words; many of them have none of their own."""
    return str(wrong) or type(wrong).__name__


async def pause(failures: int) -> None:
    """0.1 s doubling to 1.6 s, with jitter: under a store's own time to recover a node, and no two clients in step."""
    await asyncio.sleep(min(1.6, 0.1 * 2 ** (failures - 1)) * random.uniform(0.5, 1.0))  # noqa: S311


def _counting() -> aiohttp.TraceConfig:
    """Appends to the list that a request gives as its context, for every connection that it uses."""

    async def note(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.append("connection")

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(note)
    trace.on_connection_reuseconn.append(note)
    return trace


def _stop(answer: aiohttp.ClientResponse, position: int, limit: int | None, bucket: str, key: str) -> int:
    """Where the answer's bytes end in the object, when they are those that were asked for."""
    if answer.status == 206:
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None or int(found.group(1)) != position:
            raise StorageError(
                f"{key!r} in bucket {bucket!r}: another range was answered than asked: {answer.headers.get('Content-Range')!r}"
            )
        return int(found.group(2)) + 1
    if answer.content_length is None:
        raise StorageError(f"{key!r} in bucket {bucket!r}: the store does not say how long it is")
    if position or (limit is not None and answer.content_length > limit):
        raise Refused(f"{key!r} in bucket {bucket!r}: the store does not answer ranges")
    return answer.content_length
