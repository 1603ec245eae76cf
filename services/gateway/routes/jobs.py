"""/v1/jobs: begin, poll, list, ask in bulk, cancel, try again."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec
from aiohttp import web

from schemas.api import Cancellation, JobQuery, NewJob
from schemas.events import (
    KINDS,
    TERMINAL,
    AssetChanged,
    CancelRequested,
    JobStatus,
    RetryRequested,
    State,
    StreamRequested,
    UploadReceived,
    ZipRequested,
)
from services.gateway.announce import accepted, announce, known_before, now_ms, send, traceparent_of
from services.gateway.body import cursor, cursor_after, decode_json, idempotency_key, one_of, read_json, whole_number
from services.gateway.context import GATEWAY, Gateway
from services.gateway.identity import SOURCE, asset_id_of_object, event_id, job_id
from services.gateway.problems import Problem
from services.gateway.routes.zip import begin as begin_archive
from services.gateway.uploads import archives
from services.gateway.uploads.names import clean_title, shown_name, title_of
from services.gateway.uploads.requests import bucket_of, check_request, existing, read_request, request_kind, with_callback
from services.gateway.views.ready import Ready
from services.gateway.views.statuses import known
from services.runtime.kafka.producer import record
from services.runtime.storage.base import ObjectInfo
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
MAX_WAIT_SECONDS = 60
STATES: tuple[State, ...] = ("queued", "planning", "running", "finishing", "succeeded", "failed", "cancelled")


def routes() -> list[web.RouteDef]:
    return [
        web.get("/v1/jobs/{job_id}", get),
        web.get("/v1/jobs", listing),
        web.post("/v1/jobs", begin),
        web.post("/v1/jobs/query", query),
        web.post("/v1/jobs/{job_id}/cancel", cancel),
        web.post("/v1/jobs/{job_id}/retry", retry),
    ]


# ── Polling ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def get(request: web.Request) -> web.Response:
    """A status: from memory, 304 when the client has it already; with `?wait=` when it changes."""
    gateway = request.app[GATEWAY]
    name = request.match_info["job_id"]
    ready = gateway.statuses.answer(name, partial(gateway.origin, request))
    if ready is None:
        raise unknown(name)
    had = request.headers.get("If-None-Match", "")
    if (
        request.query_string
        and not ready.terminal
        and (seconds := whole_number(request, "wait", default=0, least=0, most=MAX_WAIT_SECONDS))
    ):
        ready = await _changed(request, gateway, name, ready, had, seconds)
    gateway.counters.polls += 1
    if had and ready.matches(had):
        gateway.counters.not_modified += 1
        return web.Response(status=304, headers=ready.headers_304.copy())
    return web.Response(body=ready.body, headers=ready.headers.copy())


async def _changed(request: web.Request, gateway: Gateway, name: str, ready: Ready, had: str, seconds: int) -> Ready:
    """The status once it differs from what the client has (or, when it has none, from now), or when the time is over."""
    if had and not ready.matches(had):
        return ready
    began = ready.etag
    deadline = asyncio.get_running_loop().time() + seconds
    with gateway.watchers.watch(name) as box:
        while not ready.terminal and ready.etag == began and not gateway.watchers.closing:
            latest = gateway.statuses.answer(name, partial(gateway.origin, request))
            if latest is None:
                raise unknown(name)
            ready = latest
            left = deadline - asyncio.get_running_loop().time()
            if ready.etag != began or left <= 0:
                break
            await box.wait(left)
    return ready


async def listing(request: web.Request) -> web.Response:
    """A page of jobs, newest first."""
    gateway = request.app[GATEWAY]
    state = one_of(request, "state", STATES)
    kinds = {k.kind for k in KINDS.values()}
    wanted = one_of(request, "type", (*KINDS, *kinds))
    limit = whole_number(request, "limit", default=50, least=1, most=200)
    rows = gateway.view.jobs(
        state=state,
        kind=wanted if wanted in kinds else "",
        request_type=wanted if wanted in KINDS else "",
        before=cursor(request),
        limit=limit + 1,
    )
    page = rows[:limit]
    following = "null"
    if len(rows) > limit:
        last = known(page[-1]).status
        following = f'"{cursor_after(last.created_ms, last.job_id)}"'
    return _joined(gateway, request, [row.job_id for row in page], b'{"jobs":[', f'],"next_cursor":{following}}}'.encode())


async def query(request: web.Request) -> web.Response:
    """Many statuses at once."""
    gateway = request.app[GATEWAY]
    body = await read_json(request, JobQuery)
    wanted = list(dict.fromkeys(body.ids))
    missing = [name for name in wanted if gateway.statuses.known(name) is None]
    end = b'],"missing":' + msgspec.json.encode(missing) + b"}"
    return _joined(gateway, request, wanted, b'{"jobs":[', end)


def _joined(gateway: Gateway, request: web.Request, names: list[str], begin: bytes, end: bytes) -> web.Response:
    """Answers that are ready, put together: nothing is encoded again."""
    origin = partial(gateway.origin, request)
    found = (gateway.statuses.answer(name, origin) for name in names)
    body = begin + b",".join(ready.body for ready in found if ready is not None) + end
    return web.Response(body=body, headers={"Content-Type": "application/json", "Cache-Control": "no-cache"})


# ── Beginning ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def begin(request: web.Request) -> web.Response:
    """A job for objects that are there already."""
    gateway = request.app[GATEWAY]
    body = await read_json(request, NewJob)
    kind = request_kind(body.type)
    wanted = read_request(kind, body.data)
    follow = with_callback(body.callback, gateway.settings)
    event = event_id("POST /v1/jobs", wanted.owner, idempotency_key(request))
    changes = {
        "job_id": wanted.job_id or job_id(event),
        "cause": None,
        "then": (*wanted.then, *follow),
        "otherwise": (*wanted.otherwise, *follow),
    }
    wanted = msgspec.structs.replace(wanted, **changes)
    if isinstance(wanted, ZipRequested):
        # Lists of a hundred thousand take half a second, in which others want their polls answered.
        await asyncio.to_thread(check_request, wanted, gateway.settings, gateway.storage)
        wanted = archives.filled(wanted, gateway.storage.default_bucket)
        return accepted(gateway, request, await begin_archive(request, wanted, event))
    check_request(wanted, gateway.settings, gateway.storage)
    asset: AssetChanged | None = None
    ignoring: frozenset[str] = frozenset()
    if isinstance(wanted, StreamRequested):
        wanted = _filled_stream(wanted, gateway)
    elif isinstance(wanted, UploadReceived):
        wanted = _filled(wanted, gateway)
        # The object may have changed or gone since a first request; a repetition means the job that is there.
        ignoring = frozenset({"size", "etag", "content_type"})
    if (job := known_before(gateway, wanted, ignoring=ignoring)) is None:
        if isinstance(wanted, UploadReceived):
            wanted, asset = await _of_object(wanted, gateway)
        elif isinstance(wanted, StreamRequested):
            asset = await _to_stream(wanted, gateway)
        job = await asyncio.shield(announce(gateway, wanted, event_id=event, traceparent=traceparent_of(request), asset=asset))
    return accepted(gateway, request, job)


def _filled(wanted: UploadReceived, gateway: Gateway) -> UploadReceived:
    """With everything that the key alone tells, so that equal requests are equal."""
    bucket = wanted.bucket or gateway.storage.default_bucket
    filename = wanted.filename or shown_name(wanted.key)
    return msgspec.structs.replace(
        wanted,
        bucket=bucket,
        asset_id=wanted.asset_id or asset_id_of_object(bucket, wanted.key),
        filename=filename,
        title=clean_title(wanted.title) or title_of(filename),
    )


async def _of_object(wanted: UploadReceived, gateway: Gateway) -> tuple[UploadReceived, AssetChanged | None]:
    """The request with the object's facts; and the asset, unless a person has decided about it already."""
    info = await existing(bucket_of(gateway.storage, wanted.bucket), wanted.key)
    if wanted.size is not None and wanted.size != info.size:
        raise Problem(409, "size", f"the object {wanted.key!r} has {info.size} bytes", value=wanted.size, accepted=info.size)
    if wanted.etag and wanted.etag.strip('"') != info.etag:
        raise Problem(409, "object-changed", f"the object {wanted.key!r} has another ETag", value=wanted.etag, accepted=info.etag)
    content_type = wanted.content_type or info.content_type
    wanted = msgspec.structs.replace(wanted, size=info.size, etag=info.etag, content_type=content_type)
    return wanted, _new_asset(gateway, wanted, info, title=wanted.title, filename=wanted.filename, content_type=content_type)


def _filled_stream(wanted: StreamRequested, gateway: Gateway) -> StreamRequested:
    """With everything that the request alone tells. Raises Problem 400 when it does not say of what, or where to."""
    if not wanted.key and not wanted.asset_id:
        raise Problem(400, "nothing-named", "the request names no film", accepted="`asset_id` of an asset, or `key` of an object")
    if (wanted.layout == "flat-ts") != bool(wanted.target):
        raise Problem(
            400,
            "target",
            "`target` and the layout `flat-ts` belong together",
            value=wanted.target,
            accepted="Folder/NAME.hls/ with `flat-ts`",
        )
    bucket = wanted.bucket or gateway.storage.default_bucket
    return msgspec.structs.replace(
        wanted, bucket=bucket, asset_id=wanted.asset_id or asset_id_of_object(bucket, wanted.key), title=clean_title(wanted.title)
    )


async def _to_stream(wanted: StreamRequested, gateway: Gateway) -> AssetChanged | None:
    """The asset that an object becomes, unless it is one. Raises Problem 404 for what is not there."""
    asset_id = wanted.asset_id or ""
    if not wanted.key:
        if gateway.catalogue.film(asset_id) is None:
            raise Problem(
                404, "no-such-asset", "there is no such asset", value=asset_id, accepted="the id of an asset, or the `key` of an object"
            )
        return None
    info = await existing(bucket_of(gateway.storage, wanted.bucket), wanted.key)
    if wanted.layout == "flat-ts":
        return None
    filename = shown_name(wanted.key)
    title = wanted.title or title_of(filename)
    return _new_asset(gateway, wanted, info, title=title, filename=filename, content_type=info.content_type)


def _new_asset(
    gateway: Gateway, wanted: UploadReceived | StreamRequested, info: ObjectInfo, *, title: str, filename: str, content_type: str
) -> AssetChanged | None:
    """The library's entry for an object; None when a person has decided about it already."""
    film = gateway.catalogue.film(wanted.asset_id or "")
    if film is not None and film.decided:
        return None
    now = now_ms()
    return AssetChanged(
        asset_id=wanted.asset_id or "",
        title=title,
        created_ms=now,
        updated_ms=now,
        owner=wanted.owner,
        filename=filename,
        bucket=wanted.bucket,
        key=wanted.key,
        size=info.size,
        content_type=content_type,
    )


# ── Changing ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def cancel(request: web.Request) -> web.Response:
    """Ask the coordinator to end a job."""
    gateway = request.app[GATEWAY]
    body = Cancellation()
    if raw := await request.read():
        body = decode_json(raw, Cancellation)
    job = _job(request, gateway)
    key = idempotency_key(request)
    if job.state in TERMINAL:
        if key and job.state == "cancelled":
            return accepted(gateway, request, job)
        raise _not_now(job, "cancelled", "jobs that have not ended")
    await ask(
        gateway, CancelRequested(job_id=job.job_id, reason=body.reason), event_id(f"cancel {job.job_id}", "", key), traceparent_of(request)
    )
    return accepted(gateway, request, job)


async def retry(request: web.Request) -> web.Response:
    """Ask the coordinator to go on with a job that failed or was cancelled."""
    gateway = request.app[GATEWAY]
    job = _job(request, gateway)
    key = idempotency_key(request)
    if job.state not in ("failed", "cancelled"):
        if key and job.runs > 1:
            return accepted(gateway, request, job)
        raise _not_now(job, "tried again", "jobs that failed or were cancelled")
    # A second failure may be retried with the same key: the run is part of the event's id.
    await ask(gateway, RetryRequested(job_id=job.job_id), event_id(f"retry {job.job_id} {job.runs}", "", key), traceparent_of(request))
    return accepted(gateway, request, job)


async def ask(gateway: Gateway, wish: CancelRequested | RetryRequested, event: str, traceparent: str) -> None:
    """Emit a wish about a job; returns when the broker has it."""
    await asyncio.shield(send(gateway, [record(wish, wish.job_id, source=SOURCE, event_id=event, traceparent=traceparent)]))
    log.info("asked", job_id=wish.job_id, what=type(wish).__name__)


def _job(request: web.Request, gateway: Gateway) -> JobStatus:
    name = request.match_info["job_id"]
    found = gateway.statuses.known(name)
    if found is None:
        raise unknown(name)
    return found.status


def unknown(name: str) -> Problem:
    """404 for a job."""
    return Problem(404, "no-such-job", "there is no such job; statuses are kept for 30 days", value=name)


def _not_now(job: JobStatus, what: str, accepted: str) -> Problem:
    return Problem(409, "state", f"the job is {job.state} and cannot be {what}", value=job.state, accepted=accepted)
