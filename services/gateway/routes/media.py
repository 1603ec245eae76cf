"""/v1/media/{key}: objects of the folder store by signed URL. Other stores serve theirs themselves."""

from __future__ import annotations

import time

from aiohttp import web

from services.gateway.context import GATEWAY, Gateway
from services.gateway.delivery.sending import send
from services.gateway.problems import Problem
from services.gateway.routes.uploads import GATE
from services.gateway.uploads.receive import body_of, declared_size, expect_later, say_continue
from services.gateway.uploads.stored import store_body
from services.runtime.storage import signing
from services.runtime.storage.base import Refused
from services.runtime.storage.disposition import attachment


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
    except Refused as refused:
        raise Problem(403, "refused", str(refused)) from None
    # The URL alone decides who may read, so pages of other sites may too.
    headers = {"Cache-Control": f"private, max-age={max(0, grant.expires - int(time.time()))}", "Access-Control-Allow-Origin": "*"}
    if grant.filename:
        headers["Content-Disposition"] = attachment(grant.filename)
    return await send(request, store, grant.key, content_type=grant.content_type, headers=headers, counters=gateway.counters)


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
