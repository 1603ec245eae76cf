"""PUT /v1/uploads/{filename}, POST /v1/uploads, POST /v1/uploads/{id}/complete."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

import msgspec
from aiohttp import web

from schemas.api import Callback, NewUpload, SignedTarget, UploadTicket
from schemas.events import AssetChanged, FollowUp, JobStatus, Recipe, UploadReceived
from services.gateway.announce import accepted, announce, known_before, now_ms, traceparent_of
from services.gateway.body import idempotency_key, read_json
from services.gateway.context import GATEWAY, Gateway
from services.gateway.identity import event_id, job_id, new_asset_id
from services.gateway.problems import Problem, unavailable
from services.gateway.uploads.names import clean_title, safe_segment, shown_name, title_of
from services.gateway.uploads.receive import UploadGate, body_of, declared_size, drain, expect_later, say_continue
from services.gateway.uploads.requests import bucket_of, check_request, with_callback
from services.gateway.uploads.stored import store_body
from services.gateway.views.times import rfc3339
from services.runtime.kafka.producer import BrokerUnavailable
from services.runtime.storage.base import NotFound, ObjectInfo, ObjectStore, StorageError
from services.runtime.storage.keys import content_type_of
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
REACH_SECONDS = 4.0
"""Before gigabytes are taken in: a broker on its feet answers in milliseconds, on a machine that is out of breath in some seconds."""
SIGNED_SECONDS = 6 * 3600
"""To send a large file over a slow line; the clock runs until the upload begins with most stores."""
GATE: web.AppKey[UploadGate] = web.AppKey("uploads", UploadGate)


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an upload that goes to storage directly, as `assets/{id}/upload.json`: any gateway can complete it."""

    asset_id: str
    event_id: str
    bucket: str
    key: str
    size: int
    filename: str
    title: str
    content_type: str
    created_ms: int
    owner: str = ""
    recipe: Recipe = Recipe()
    follow: tuple[FollowUp, ...] = ()


def routes() -> list[web.RouteDef]:
    """Of this file. Names with slashes reach the handler, which takes the last segment."""
    return [
        web.put(r"/v1/uploads/{filename:(?s:.+)}", put, expect_handler=expect_later),
        web.post("/v1/uploads", begin),
        web.post("/v1/uploads/{upload_id}/complete", complete),
    ]


async def put(request: web.Request) -> web.Response:
    """Store the body, then announce it."""
    gateway, settings = request.app[GATEWAY], request.app[GATEWAY].settings
    size = declared_size(request, settings.upload_limit_bytes)
    wanted, event = _from_put(request, gateway, size)
    with request.app[GATE].enter():
        ignoring = frozenset({"etag"} if size is not None else {"etag", "size"})
        if (job := known_before(gateway, wanted, ignoring=ignoring)) is not None:
            await say_continue(request)
            await drain(request, limit=settings.upload_limit_bytes, idle_seconds=settings.idle_timeout_seconds)
            return accepted(gateway, request, job)
        if not await asyncio.to_thread(gateway.producer.reachable, REACH_SECONDS):
            raise unavailable("Kafka does not answer; the upload was not taken in. Send it again later.")
        await say_continue(request)
        store = gateway.storage.bucket()
        body = body_of(request, limit=settings.upload_limit_bytes, idle_seconds=settings.idle_timeout_seconds, counters=gateway.counters)
        info = await store_body(store, wanted.key, body, size=size, content_type=wanted.content_type)
        # From here on the object is there: what follows runs to its end even when the client goes away.
        finish = asyncio.create_task(_finish(gateway, wanted, info, event, traceparent_of(request), keep=bool(idempotency_key(request))))
        return accepted(gateway, request, await asyncio.shield(finish))


async def _finish(gateway: Gateway, wanted: UploadReceived, info: ObjectInfo, event: str, traceparent: str, *, keep: bool) -> JobStatus:
    wanted = msgspec.structs.replace(wanted, size=info.size, etag=info.etag)
    try:
        job = await announce(gateway, wanted, event_id=event, traceparent=traceparent, asset=_asset(wanted, now_ms()))
    except BrokerUnavailable:
        # With an Idempotency-Key the client's next attempt writes the same object; without one nobody would find it again.
        if not keep:
            await gateway.storage.bucket(wanted.bucket).delete(wanted.key)
        raise
    gateway.counters.uploads += 1
    return job


def _from_put(request: web.Request, gateway: Gateway, size: int | None) -> tuple[UploadReceived, str]:
    filename = request.match_info["filename"]
    title = clean_title(request.query.get("title") or unquote(request.headers.get("X-Title", "")))
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not content_type.isascii():
        raise Problem(400, "content-type", "this is no content type", value=content_type, accepted="video/mp4, and the like")
    owner = request.query.get("owner", "")
    if len(owner) > 128:
        raise Problem(400, "parameter", "owner is too long", value=owner, accepted="at most 128 characters")
    # What curl and browsers send when they do not know says less than the name's ending.
    if content_type in ("", "application/octet-stream", "application/x-www-form-urlencoded"):
        content_type = content_type_of(safe_segment(filename))
    follow = with_callback(Callback(url=request.query["callback"]) if "callback" in request.query else None, gateway.settings)
    event = event_id("PUT /v1/uploads", owner, idempotency_key(request))
    asset_id = new_asset_id(event)
    wanted = UploadReceived(
        job_id=job_id(event),
        key=f"assets/{asset_id}/source/{safe_segment(filename)}",
        bucket=gateway.storage.default_bucket,
        asset_id=asset_id,
        filename=shown_name(filename),
        title=title or title_of(filename),
        content_type=content_type[:200],
        size=size,
        owner=owner,
        then=follow,
        otherwise=follow,
    )
    return wanted, event


async def begin(request: web.Request) -> web.Response:
    """A place in storage to send the bytes to."""
    gateway = request.app[GATEWAY]
    body = await read_json(request, NewUpload)
    limit = gateway.settings.upload_limit_bytes
    if body.size > limit:
        raise Problem(
            413, "too-large", f"an upload may have {limit} bytes (REELWORKS_UPLOAD_LIMIT_BYTES)", value=body.size, accepted=f"1 to {limit}"
        )
    event = event_id("POST /v1/uploads", body.owner, idempotency_key(request))
    asset_id = new_asset_id(event)
    draft = Draft(
        asset_id=asset_id,
        event_id=event,
        bucket=gateway.storage.default_bucket,
        key=f"assets/{asset_id}/source/{safe_segment(body.filename)}",
        size=body.size,
        filename=shown_name(body.filename),
        title=clean_title(body.title) or title_of(body.filename),
        content_type=body.content_type or content_type_of(safe_segment(body.filename)),
        created_ms=now_ms(),
        owner=body.owner,
        recipe=body.recipe,
        follow=with_callback(body.callback, gateway.settings),
    )
    check_request(_request_of(draft, ""), gateway.settings, gateway.storage)
    store = bucket_of(gateway.storage, draft.bucket)
    if (before := await _draft(store, asset_id)) is not None:
        same = msgspec.structs.replace(draft, created_ms=before.created_ms) == before
        if not same:
            raise Problem(
                422, "idempotency-conflict", "the same Idempotency-Key came with another body", accepted="the same body, or another key"
            )
    else:
        await store.put(_draft_key(asset_id), msgspec.json.encode(draft), content_type="application/json")
    signed = store.sign_put(draft.key, expires_seconds=SIGNED_SECONDS, size=draft.size, content_type=draft.content_type)
    origin = gateway.origin(request)
    ticket = UploadTicket(
        upload_id=asset_id,
        asset_id=asset_id,
        upload=SignedTarget(
            method=signed.method,
            url=origin + signed.url if signed.url.startswith("/") else signed.url,
            headers=signed.headers,
            expires_at=rfc3339(signed.expires_ms),
        ),
        complete_url=f"{origin}/v1/uploads/{asset_id}/complete",
    )
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return web.Response(status=201, body=msgspec.json.encode(ticket), headers=headers)


async def complete(request: web.Request) -> web.Response:
    """The bytes were sent: look whether they are all there, then announce them."""
    gateway = request.app[GATEWAY]
    upload_id = request.match_info["upload_id"]
    store = gateway.storage.bucket()
    draft = await _draft(store, upload_id)
    if draft is None:
        raise Problem(404, "no-such-upload", "there is no such upload", value=upload_id, accepted="the upload_id of POST /v1/uploads")
    wanted = _request_of(draft, "")
    if (job := known_before(gateway, wanted, ignoring=frozenset({"etag"}))) is not None:
        return accepted(gateway, request, job)
    try:
        info = await gateway.storage.bucket(draft.bucket).head(draft.key)
    except NotFound:
        raise Problem(
            409, "not-uploaded", f"the object {draft.key!r} is not there: send its {draft.size} bytes first", value=upload_id
        ) from None
    if info.size != draft.size:
        raise Problem(
            409,
            "size",
            f"the object has {info.size} bytes; {draft.size} were announced. Nothing was begun: send it again",
            value=info.size,
            accepted=draft.size,
        )
    wanted = _request_of(draft, info.etag)
    asset = _asset(wanted, draft.created_ms)
    job = await asyncio.shield(announce(gateway, wanted, event_id=draft.event_id, traceparent=traceparent_of(request), asset=asset))
    return accepted(gateway, request, job)


def _request_of(draft: Draft, etag: str) -> UploadReceived:
    return UploadReceived(
        job_id=job_id(draft.event_id),
        key=draft.key,
        bucket=draft.bucket,
        asset_id=draft.asset_id,
        filename=draft.filename,
        title=draft.title,
        content_type=draft.content_type,
        size=draft.size,
        etag=etag,
        owner=draft.owner,
        recipe=draft.recipe,
        then=draft.follow,
        otherwise=draft.follow,
    )


def _asset(wanted: UploadReceived, created_ms: int) -> AssetChanged:
    return AssetChanged(
        asset_id=wanted.asset_id or "",
        title=wanted.title,
        created_ms=created_ms,
        updated_ms=created_ms,
        owner=wanted.owner,
        filename=wanted.filename,
        bucket=wanted.bucket,
        key=wanted.key,
        size=wanted.size or 0,
        content_type=wanted.content_type,
    )


def _draft_key(asset_id: str) -> str:
    return f"assets/{asset_id}/upload.json"


async def _draft(store: ObjectStore, asset_id: str) -> Draft | None:
    try:
        return msgspec.json.decode(await store.read(_draft_key(asset_id)), type=Draft)
    except NotFound:
        return None
    except (StorageError, msgspec.MsgspecError) as wrong:
        if isinstance(wrong, StorageError) and type(wrong) is StorageError:
            raise
        return None  # a malformed id is no id of ours
