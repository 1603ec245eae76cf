"""An archive through the gateway: whole or in part, unless the client has it (RFC 9110 §13, §14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from typing import Final

from aiohttp import web

from services.gateway.archives.archive import Archive
from services.gateway.archives.stream import stream
from services.gateway.context import Gateway
from services.gateway.counters import Counters
from services.gateway.delivery.sending import SAFE, is_had, wanted_range
from services.gateway.problems import RETRY_SECONDS, Problem
from services.runtime.settings import variable
from services.runtime.storage.base import NotFound, PreconditionFailed, StorageError
from services.runtime.storage.disposition import attachment
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
_WRITE: Final = 256 * 1024
"""Written at once: a client that takes less of it in the idle timeout is not there any more."""


class DownloadGate:
    """At most so many downloads at once: each may hold some megabytes, and connections to the store."""

    def __init__(self, most: int, counters: Counters) -> None:
        self._most = most
        self._counters = counters

    @contextmanager
    def enter(self) -> Generator[None]:
        """Raises Problem 503 when all places are taken."""
        if self._counters.archives_running >= self._most:
            self._counters.archives_refused += 1
            raise Problem(
                503,
                "busy",
                f"{self._most} archives are being sent, which is all that this gateway sends at once ({variable('archive_downloads')})",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        self._counters.archives_running += 1
        try:
            yield
        finally:
            self._counters.archives_running -= 1


async def send(request: web.Request, gateway: Gateway, archive: Archive, *, filename: str) -> web.StreamResponse:
    """Answer a GET, a HEAD, or a POST that asks for the same.

    Raises Problem 409 when an object has changed or gone before the first byte, 416; StorageError when the store fails before it.
    After the first byte only a cut connection can say that the archive is not whole.
    """
    etag = f'"{archive.etag}"'
    # Asked for each time, because objects change; a browser that goes on with a download does so too.
    kept = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if request.method != "POST" and is_had(request, etag):
        return web.Response(status=304, headers=kept)
    part = wanted_range(request, size=archive.size, etag=etag, modified_ms=None)
    start, end = part or (0, archive.size)
    headers = {"Content-Type": "application/zip", "Content-Disposition": attachment(filename), "Accept-Ranges": "bytes"}
    response = web.StreamResponse(status=206 if part else 200, headers=SAFE | headers | kept)
    response.content_length = end - start
    if part:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{archive.size}"
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    async with aclosing(stream(archive, gateway.storage, start, end)) as body:
        first = await _first(body)
        await response.prepare(request)
        await _send_all(request, response, first, body, gateway)
    return response


async def _first(body: AsyncGenerator[bytes]) -> bytes:
    try:
        return await anext(body)
    except (PreconditionFailed, NotFound) as wrong:
        raise Problem(
            409,
            "object-changed",
            f"an object of the archive has changed since it was looked at: {wrong}",
            accepted="the same request again",
        ) from None


async def _send_all(
    request: web.Request, response: web.StreamResponse, first: bytes, body: AsyncGenerator[bytes], gateway: Gateway
) -> None:
    counters = gateway.counters
    try:
        await _write(response, first, gateway)
        async for chunk in body:
            await _write(response, chunk, gateway)
        await response.write_eof()
    except asyncio.CancelledError:
        counters.archives_broken_off += 1
        raise
    except (ConnectionError, TimeoutError) as gone:
        counters.archives_broken_off += 1
        log.info("a client left an archive before its end", reason=str(gone) or "it took nothing any more")
        _cut(request)
    except StorageError as wrong:
        counters.archives_cut += 1
        log.warning("an archive could not be sent to its end", reason=str(wrong))
        _cut(request)
    except Exception:
        # The head is out: an error page would become part of the archive.
        counters.archives_cut += 1
        log.exception("an archive could not be sent to its end")
        _cut(request)


async def _write(response: web.StreamResponse, chunk: bytes, gateway: Gateway) -> None:
    """As fast as the client takes it. Raises TimeoutError when it takes nothing for REELWORKS_IDLE_TIMEOUT_SECONDS."""
    view = memoryview(chunk)
    for at in range(0, len(view), _WRITE):
        async with asyncio.timeout(gateway.settings.idle_timeout_seconds):
            await response.write(view[at : at + _WRITE])
    gateway.counters.media_bytes += len(view)


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
