"""The bytes of an upload: constant memory, a limit, and an end to clients that fall silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager

from aiohttp import web

from services.gateway.counters import Counters
from services.gateway.problems import RETRY_SECONDS, Problem


class UploadGate:
    """At most so many uploads at once."""

    def __init__(self, most: int, counters: Counters) -> None:
        self._most = most
        self._counters = counters

    @contextmanager
    def enter(self) -> Generator[None]:
        """Raises Problem 503 when all places are taken."""
        if self._counters.uploads_running >= self._most:
            self._counters.uploads_refused += 1
            raise Problem(
                503,
                "busy",
                f"{self._most} uploads are under way, which is all that this gateway takes (REELWORKS_UPLOAD_CONCURRENCY)",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        self._counters.uploads_running += 1
        try:
            yield
        finally:
            self._counters.uploads_running -= 1


def declared_size(request: web.Request, limit: int) -> int | None:
    """Content-Length; None for a chunked body. Raises Problem 400 for 0, 411 without either, 413 beyond the limit."""
    size = request.content_length
    if size is None:
        if "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
            raise Problem(
                411, "length-required", "the length of the upload is not known", accepted="Content-Length, or Transfer-Encoding: chunked"
            )
        return None
    if size == 0:
        raise _empty()
    if size > limit:
        raise _too_large(size, limit)
    return size


async def body_of(request: web.Request, *, limit: int, idle_seconds: float, counters: Counters) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises Problem 408 when the client falls silent, 413 beyond the limit, 400 for an empty body."""
    total = 0
    complete = False
    try:
        while True:
            try:
                async with asyncio.timeout(idle_seconds):
                    chunk = await request.content.readany()
            except TimeoutError:
                raise _silent(idle_seconds, total) from None
            if not chunk:
                break
            total += len(chunk)
            if total > limit:
                raise _too_large(total, limit)
            yield chunk
        if total == 0:
            raise _empty()
        complete = True
    finally:
        if complete:
            counters.upload_bytes += total
        else:
            counters.uploads_broken_off += 1


async def drain(request: web.Request, *, limit: int, idle_seconds: float) -> int:
    """Read a body that is not wanted any more, and say how long it was: the client listens only after its last byte."""
    total = 0
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                chunk = await request.content.readany()
        except TimeoutError:
            raise _silent(idle_seconds, total) from None
        if not chunk:
            return total
        total += len(chunk)
        if total > limit:
            raise _too_large(total, limit)


async def say_continue(request: web.Request) -> None:
    """Answer `Expect: 100-continue` once the upload is really wanted."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def expect_later(_request: web.Request) -> None:
    """For routes that call `say_continue` themselves. Another expectation than `100-continue` does not come here (`fast.py`)."""


def _silent(idle_seconds: float, total: int) -> Problem:
    return Problem(
        408,
        "silent",
        f"nothing arrived for {idle_seconds:g} s (REELWORKS_IDLE_TIMEOUT_SECONDS) after {total} bytes; nothing was kept",
        headers={"Connection": "close"},
    )


def _empty() -> Problem:
    return Problem(400, "empty", "the upload has no bytes", value=0, accepted="a video file of at least one byte")


def _too_large(size: int, limit: int) -> Problem:
    return Problem(
        413,
        "too-large",
        f"the upload is larger than {limit} bytes (REELWORKS_UPLOAD_LIMIT_BYTES)",
        value=size,
        accepted=f"at most {limit} bytes",
        headers={"Connection": "close"},
    )
