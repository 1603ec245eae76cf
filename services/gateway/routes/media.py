"""/v1/media/{key}: objects of the folder store by signed URL. Other stores serve theirs themselves."""

from __future__ import annotations

import time
from email.utils import formatdate, parsedate_to_datetime

from aiohttp import web

from services.gateway.context import GATEWAY, Gateway
from services.gateway.problems import Problem
from services.gateway.routes.uploads import GATE
from services.gateway.uploads.ranges import Unsatisfiable, parse
from services.gateway.uploads.receive import body_of, declared_size, expect_later, say_continue
from services.gateway.uploads.stored import store_body
from services.runtime.storage import signing
from services.runtime.storage.base import NotFound, ObjectInfo, Refused, StorageError
from services.runtime.storage.disposition import attachment
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
# What uploads contain is not ours: a browser must not run it as a page of this site.
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


def routes() -> list[web.RouteDef]:
    return [web.get(r"/v1/media/{key:(?s:.+)}", get), web.put(r"/v1/media/{key:(?s:.+)}", put, expect_handler=expect_later)]


def _grant(request: web.Request, gateway: Gateway) -> signing.Grant:
    """What the URL allows. Raises Problem 403 with the reason."""
    key = request.match_info["key"]
    is_put = request.method == "PUT"
    try:
        return signing.verify(
            gateway.signing_key,
            method=request.method,
            key=key,
            query=request.query,
            now=time.time(),
            size=request.content_length if is_put else None,
            content_type=request.headers.get("Content-Type", "") if is_put else None,
        )
    except signing.Expired as refused:
        raise Problem(403, "expired", str(refused), value=request.query.get("expires"), accepted="a fresh signed URL") from None
    except signing.BadSignature as refused:
        raise Problem(403, "signature", str(refused), value=key, accepted="a signed URL, unchanged") from None


async def get(request: web.Request) -> web.StreamResponse:
    """GET and HEAD, whole or in part."""
    gateway = request.app[GATEWAY]
    grant = _grant(request, gateway)
    try:
        store = gateway.storage.bucket(grant.bucket)
        info = await store.head(grant.key)
    except Refused as refused:
        raise Problem(403, "refused", str(refused)) from None
    except NotFound:
        raise Problem(404, "object-missing", f"there is no object {grant.key!r}", value=grant.key) from None
    headers = _headers(grant, info)
    etag = headers["ETag"]
    had = request.headers.get("If-None-Match", "")
    if had and (had == "*" or any(t.strip().removeprefix("W/") == etag for t in had.split(","))):
        return web.Response(status=304, headers={k: v for k, v in headers.items() if k in ("ETag", "Cache-Control", "Last-Modified")})
    part = _part(request, info, etag)
    start, end = part or (0, info.size)
    response = web.StreamResponse(status=206 if part else 200, headers=headers)
    response.content_length = end - start
    if part:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    # The object that was looked at is the one that is sent.
    stream = store.get(grant.key, start=start, end=end, if_match=info.etag)
    await response.prepare(request)
    try:
        async for chunk in stream:
            await response.write(chunk)
            gateway.counters.media_bytes += len(chunk)
    except StorageError as wrong:
        # The head is out: only a cut connection can say that the body is not whole.
        log.warning("an object could not be sent to its end", key=grant.key, reason=str(wrong))
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


def _headers(grant: signing.Grant, info: ObjectInfo) -> dict[str, str]:
    headers = _SAFE | {
        "Content-Type": grant.content_type or info.content_type,
        "ETag": f'"{info.etag}"',
        "Last-Modified": formatdate(info.modified_ms / 1000, usegmt=True),
        "Accept-Ranges": "bytes",
        "Cache-Control": f"private, max-age={max(0, grant.expires - int(time.time()))}",
    }
    if grant.filename:
        headers["Content-Disposition"] = attachment(grant.filename)
    return headers


def _part(request: web.Request, info: ObjectInfo, etag: str) -> tuple[int, int] | None:
    header = request.headers.get("Range", "")
    condition = request.headers.get("If-Range", "")
    if not header or (condition and not _still(condition, etag, info)):
        return None
    try:
        return parse(header, info.size)
    except Unsatisfiable:
        raise Problem(
            416,
            "range",
            f"the object has {info.size} bytes; none of them lies in the range",
            value=header,
            accepted=f"bytes=0-{max(0, info.size - 1)}",
            headers={"Content-Range": f"bytes */{info.size}", "Accept-Ranges": "bytes"},
        ) from None


def _still(condition: str, etag: str, info: ObjectInfo) -> bool:
    """If-Range: the very same ETag (a weak one never is), or the very same date (RFC 9110 §13.1.5)."""
    if condition.startswith(('"', "W/")):
        return condition == etag
    try:
        return int(parsedate_to_datetime(condition).timestamp()) == info.modified_ms // 1000
    except ValueError:
        return False


async def put(request: web.Request) -> web.Response:
    """The bytes of `POST /v1/uploads`: exactly as many as were announced."""
    gateway, settings = request.app[GATEWAY], request.app[GATEWAY].settings
    grant = _grant(request, gateway)
    declared_size(request, settings.upload_limit_bytes)
    with request.app[GATE].enter():
        await say_continue(request)
        body = body_of(request, limit=grant.size, idle_seconds=settings.idle_timeout_seconds, counters=gateway.counters)
        store = gateway.storage.bucket(grant.bucket)
        info = await store_body(store, grant.key, body, size=grant.size, content_type=grant.content_type)
    return web.Response(status=200, headers={"ETag": f'"{info.etag}"'})
