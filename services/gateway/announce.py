"""From an accepted request to a job that everybody can see: nothing is answered before the broker has it."""

from __future__ import annotations

import asyncio
import time

import msgspec
from aiohttp import web

from schemas.api import Accepted
from schemas.envelope import Unreadable, check_depth
from schemas.events import KINDS, AssetChanged, JobStatus, Request
from schemas.topics import REQUEST_DEPTH, REQUEST_LIMIT_BYTES
from services.gateway.context import Gateway
from services.gateway.identity import SOURCE, differs, subject_of
from services.gateway.problems import Problem
from services.gateway.views.fold import makes_asset
from services.gateway.views.projection import accepted_status
from services.runtime.kafka.producer import Record, record
from services.runtime.telemetry import tracing
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)


async def announce(
    gateway: Gateway, request: Request, *, event_id: str, traceparent: str = "", asset: AssetChanged | None = None
) -> JobStatus:
    """Emit the request, and the asset with it; when the broker has both, show the job.

    `request` has its job_id. Raises Problem 413 for a request that is too large, 400 for one that is too deep, BrokerUnavailable.
    """
    job_id = request.job_id or ""
    wanted = record(request, job_id, source=SOURCE, event_id=event_id, traceparent=traceparent)
    if len(wanted.value or b"") > REQUEST_LIMIT_BYTES:
        raise Problem(
            413, "too-large", f"a request may have {REQUEST_LIMIT_BYTES} bytes as an event", accepted="put long lists into an object"
        )
    try:
        check_depth(wanted.value or b"", REQUEST_DEPTH)
    except Unreadable as wrong:
        raise Problem(400, "too-deep", f"in the request {wrong}", accepted=f"at most {REQUEST_DEPTH}") from None
    records = [wanted]
    if asset is not None:
        records.append(record(asset, asset.asset_id, source=SOURCE, event_id=f"{event_id}-asset", traceparent=traceparent))
    await send(gateway, records)
    kind = KINDS[type(request).__name__]
    job = accepted_status(
        request,
        request_type=type(request).__name__,
        kind=kind.kind,
        service=kind.service,
        subject=subject_of(request),
        source=SOURCE,
        at_ms=now_ms(),
    )
    await gateway.remember(job=job, asset=asset)
    log.info("request accepted", job_id=job_id, type=job.request_type, subject=job.subject, trace_id=tracing.trace_id(traceparent))
    return job


async def send(gateway: Gateway, records: list[Record]) -> None:
    """Send and wait until all are acknowledged. Raises BrokerUnavailable when one is not."""
    results = await asyncio.gather(*(gateway.producer.publish(r) for r in records), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    gateway.counters.events_sent += len(records)


def known_before(gateway: Gateway, request: Request, *, ignoring: frozenset[str] = frozenset()) -> JobStatus | None:
    """The job that this request began when it came before; None when it is new.

    Raises Problem 422 when the same Idempotency-Key came with another body.
    """
    known = gateway.statuses.known(request.job_id or "")
    if known is None:
        return None
    status = known.status
    name = type(request).__name__
    try:
        field = "type" if status.request_type != name else differs(request, status.request, ignoring)
    except msgspec.ValidationError:
        field = "data"
    if field:
        raise Problem(
            422,
            "idempotency-conflict",
            f"the job {status.job_id} was begun with the same Idempotency-Key or job_id and another {field}",
            value=field,
            accepted="the same body as before, or another key",
        )
    return status


def accepted(gateway: Gateway, request: web.Request, job: JobStatus) -> web.Response:
    """The 202 of a job."""
    origin = gateway.origin(request)
    is_film = makes_asset(job)
    body = Accepted(
        asset_id=job.subject if is_film else "",
        job_id=job.job_id,
        state=job.state,
        status_url=f"{origin}/v1/jobs/{job.job_id}",
        events_url=f"{origin}/v1/jobs/{job.job_id}/events",
        asset_url=f"{origin}/v1/assets/{job.subject}" if is_film else "",
        watch_url=f"{origin}/watch/{job.subject}" if is_film else "",
    )
    return web.Response(
        status=202,
        body=msgspec.json.encode(body),
        headers={"Content-Type": "application/json", "Location": f"/v1/jobs/{job.job_id}", "Cache-Control": "no-store"},
    )


def traceparent_of(request: web.Request) -> str:
    """The client's trace, or a new one."""
    return str(tracing.child(request.headers.get("traceparent")))


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
