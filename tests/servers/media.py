"""The least that serves a folder store's signed URLs, as the gateway does: for the store's own contract."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from services.runtime.storage.base import ObjectStore
from services.runtime.storage.disposition import attachment
from services.runtime.storage.signing import BadSignature, verify


@asynccontextmanager
async def media_server(store: ObjectStore, secret: bytes) -> AsyncIterator[str]:
    """Its address."""

    async def get(request: web.Request) -> web.StreamResponse:
        try:
            grant = verify(secret, method=request.method, key=request.match_info["key"], query=request.query, now=time.time())
        except BadSignature as wrong:
            raise web.HTTPForbidden(text=str(wrong)) from None
        info = await store.head(grant.key)
        span = request.http_range
        start, end = span.start or 0, min(info.size, info.size if span.stop is None else span.stop)
        headers = {"Content-Type": grant.content_type or info.content_type}
        if grant.filename:
            headers["Content-Disposition"] = attachment(grant.filename)
        if "Range" in request.headers:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
        body = b"".join([chunk async for chunk in store.get(grant.key, start=start, end=end)])
        return web.Response(status=206 if "Range" in request.headers else 200, headers=headers, body=body)

    async def put(request: web.Request) -> web.Response:
        try:
            grant = verify(
                secret,
                method="PUT",
                key=request.match_info["key"],
                query=request.query,
                now=time.time(),
                size=request.content_length,
                content_type=request.headers.get("Content-Type", ""),
            )
        except BadSignature as wrong:
            raise web.HTTPForbidden(text=str(wrong)) from None
        await store.put(grant.key, request.content.iter_any(), size=grant.size, content_type=grant.content_type)
        return web.Response(status=201)

    app = web.Application()
    app.add_routes([web.get("/v1/media/{key:.+}", get), web.put("/v1/media/{key:.+}", put)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
