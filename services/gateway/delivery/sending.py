"""An object of the store through the gateway: whole or in part, unless the client has it (RFC 9110 §13, §14)."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime

from aiohttp import web

from services.gateway.counters import Counters
from services.gateway.problems import Problem
from services.gateway.uploads.ranges import Unsatisfiable, parse
from services.runtime.storage.base import NotFound, ObjectStore, Refused, StorageError
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
# What uploads contain is not ours: a browser must not run it as a page of this site.
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


async def send(
    request: web.Request, store: ObjectStore, key: str, *, content_type: str, headers: Mapping[str, str], counters: Counters
) -> web.StreamResponse:
    """Answer a GET or HEAD with an object.

    `content_type`: instead of the stored one, when not empty. `headers`: Cache-Control, and what else the answer is to have; that of a 304
    too. Raises Problem 403 for what the store refuses, 404, 416.
    """
    try:
        info = await store.head(key)
    except Refused as refused:
        raise Problem(403, "refused", str(refused)) from None
    except NotFound:
        raise Problem(404, "object-missing", f"there is no object {key!r}", value=key) from None
    etag = f'"{info.etag}"'
    kept = {"ETag": etag, "Last-Modified": formatdate(info.modified_ms / 1000, usegmt=True), **headers}
    if is_had(request, etag):
        return web.Response(status=304, headers=kept)
    part = wanted_range(request, size=info.size, etag=etag, modified_ms=info.modified_ms)
    start, end = part or (0, info.size)
    response = web.StreamResponse(
        status=206 if part else 200,
        headers=SAFE | {"Content-Type": content_type or info.content_type, "Accept-Ranges": "bytes"} | kept,
    )
    response.content_length = end - start
    if part:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    # The object that was looked at is the one that is sent.
    stream = store.get(key, start=start, end=end, if_match=info.etag)
    await response.prepare(request)
    try:
        async for chunk in stream:
            await response.write(chunk)
            counters.media_bytes += len(chunk)
    except StorageError as wrong:
        # The head is out: only a cut connection can say that the body is not whole.
        log.warning("an object could not be sent to its end", key=key, reason=str(wrong))
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


def is_had(request: web.Request, etag: str) -> bool:
    """If-None-Match: whether the client has what this ETag, in its quotes, is of (RFC 9110 §13.1.2)."""
    had = request.headers.get("If-None-Match", "")
    return had == "*" or any(t.strip().removeprefix("W/") == etag for t in had.split(","))


def wanted_range(request: web.Request, *, size: int, etag: str, modified_ms: int | None) -> tuple[int, int] | None:
    """The bytes [start, end) that are asked for; None to send the whole, also of several ranges.

    `modified_ms` None: no date is known, so none is the same. Raises Problem 416 when the range lies behind the end.
    """
    header = request.headers.get("Range", "")
    condition = request.headers.get("If-Range", "")
    if not header or (condition and not _still(condition, etag, modified_ms)):
        return None
    try:
        return parse(header, size)
    except Unsatisfiable:
        raise Problem(
            416,
            "range",
            f"there are {size} bytes; none of them lies in the range",
            value=header,
            accepted=f"bytes=0-{max(0, size - 1)}",
            headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"},
        ) from None


def _still(condition: str, etag: str, modified_ms: int | None) -> bool:
    """If-Range: the very same ETag (a weak one never is), or the very same date (RFC 9110 §13.1.5)."""
    if condition.startswith(('"', "W/")):
        return condition == etag
    if modified_ms is None:
        return False
    try:
        return int(parsedate_to_datetime(condition).timestamp()) == modified_ms // 1000
    except ValueError:
        return False
