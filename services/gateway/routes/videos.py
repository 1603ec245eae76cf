"""POST /videos: the wire of an older transcoder, kept for its clients."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from schemas.api import Videos
from schemas.events import FollowUp, Recipe, UploadReceived
from services.gateway.announce import announce, known_before, traceparent_of
from services.gateway.body import idempotency_key, is_json
from services.gateway.context import GATEWAY
from services.gateway.identity import asset_id_of_object, event_id, job_id
from services.gateway.problems import Problem
from services.gateway.uploads.names import shown_name, title_of
from services.gateway.uploads.requests import check_callback
from services.runtime.storage.keys import key_fault

ANSWER = b'{"status":"transcoding"}'
RECIPE = Recipe(layout="beside", heights=(720,), thumbnail_at="1s")


def routes() -> list[web.RouteDef]:
    return [web.post("/videos", videos)]


async def videos(request: web.Request) -> web.Response:
    """Answers at once: a visitor's request waits for it. A missing object fails the job, and the callback says so."""
    gateway = request.app[GATEWAY]
    body = _read(await request.read(), request.headers.get("Content-Type", ""))
    if fault := key_fault(body.inputObject):
        raise Problem(400, "key", f"inputObject {body.inputObject[:120]!r} cannot be used: {fault}")
    try:
        check_callback(body.webhook, gateway.settings)
    except Problem as refused:
        raise Problem(400, refused.code, f"webhook: {refused}") from None
    bucket = gateway.storage.default_bucket
    event = event_id("POST /videos", "", idempotency_key(request))
    callback = FollowUp(type="CallbackRequested", data={"url": body.webhook, "format": "videos", "input_object": body.inputObject})
    filename = shown_name(body.inputObject)
    wanted = UploadReceived(
        job_id=job_id(event),
        key=body.inputObject,
        bucket=bucket,
        asset_id=asset_id_of_object(bucket, body.inputObject),
        filename=filename,
        title=title_of(filename),
        recipe=RECIPE,
        then=(callback,),
        otherwise=(callback,),
    )
    if known_before(gateway, wanted) is None:
        await asyncio.shield(announce(gateway, wanted, event_id=event, traceparent=traceparent_of(request)))
    return web.Response(body=ANSWER, headers={"Content-Type": "application/json; charset=utf-8"})


def _read(raw: bytes, content_type: str) -> Videos:
    if not is_json(content_type):
        raise Problem(
            400, "content-type", f"the body must be JSON; its Content-Type is {content_type or 'missing'!r}, accepted is application/json"
        )
    try:
        return msgspec.json.decode(raw, type=Videos)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as wrong:
        raise Problem(400, "shape", f"inputObject and webhook are needed, both texts: {wrong}") from None
