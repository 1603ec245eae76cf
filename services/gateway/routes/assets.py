"""/v1/assets: list, look at, change, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from aiohttp import web

from schemas.api import AssetDeleted, AssetPatch
from schemas.events import TERMINAL, AssetChanged, CancelRequested
from services.gateway.announce import now_ms, send, traceparent_of
from services.gateway.body import cursor, cursor_after, idempotency_key, read_json, whole_number
from services.gateway.context import GATEWAY, Gateway
from services.gateway.identity import SOURCE, event_id
from services.gateway.problems import RETRY_SECONDS, Problem
from services.gateway.routes.jobs import ask
from services.gateway.uploads.names import clean_title
from services.gateway.views.catalogue import Film
from services.gateway.views.statuses import known
from services.runtime.kafka.producer import record
from services.runtime.storage.base import Refused
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
END_SECONDS = 15.0
"""DELETE waits so long for cancelled jobs: a worker's lease is over after eight seconds of silence."""
HEARD_SECONDS = 1.0
"""A worker hears within moments that its job has ended; what it was writing just then is there a little later."""
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-cache"}


def routes() -> list[web.RouteDef]:
    return [
        web.get("/v1/assets", listing),
        web.get("/v1/assets/{asset_id}", get),
        web.patch("/v1/assets/{asset_id}", patch),
        web.delete("/v1/assets/{asset_id}", delete),
    ]


async def listing(request: web.Request) -> web.Response:
    """A page of the library, newest first."""
    gateway = request.app[GATEWAY]
    limit = whole_number(request, "limit", default=50, least=1, most=200)
    rows = gateway.catalogue.page(before=cursor(request), limit=limit + 1)
    following = f'"{cursor_after(rows[limit - 1].created_ms, rows[limit - 1].asset_id)}"' if len(rows) > limit else "null"
    answers = (gateway.catalogue.answer(row.asset_id, partial(gateway.origin, request)) for row in rows[:limit])
    body = b'{"assets":[' + b",".join(a.body for a in answers if a is not None) + f'],"next_cursor":{following}}}'.encode()
    return web.Response(body=body, headers=_JSON)


async def get(request: web.Request) -> web.Response:
    """One asset, with URLs that can be played."""
    gateway = request.app[GATEWAY]
    ready = gateway.catalogue.answer(request.match_info["asset_id"], partial(gateway.origin, request))
    if ready is None:
        raise unknown(request.match_info["asset_id"])
    if ready.matches(request.headers.get("If-None-Match", "")):
        return web.Response(status=304, headers=ready.headers_304.copy())
    return web.Response(body=ready.body, headers=ready.headers.copy())


async def patch(request: web.Request) -> web.Response:
    """Title and visibility."""
    gateway = request.app[GATEWAY]
    body = await read_json(request, AssetPatch)
    idempotency_key(request)  # refused before anything is done
    film = _film(request, gateway)
    asset = film.asset
    if isinstance(body.title, str):
        title = clean_title(body.title)
        if not title:
            raise Problem(400, "title", "a title needs at least one visible character", value=body.title, accepted="1 to 300 characters")
        asset = msgspec.structs.replace(asset, title=title)
    if isinstance(body.visibility, str):
        asset = msgspec.structs.replace(asset, visibility=body.visibility)
    if asset != film.asset or not film.decided:
        await asyncio.shield(_decide(gateway, msgspec.structs.replace(asset, deleted=False, updated_ms=now_ms()), request))
    return await get(request)


async def delete(request: web.Request) -> web.Response:
    """Jobs are cancelled, objects removed, then the asset is marked as deleted. What fails can be asked for again."""
    gateway = request.app[GATEWAY]
    asset_id = request.match_info["asset_id"]
    idempotency_key(request)  # refused before anything is removed
    if gateway.catalogue.film(asset_id) is None and gateway.catalogue.was_deleted(asset_id):
        return _deleted(AssetDeleted(asset_id=asset_id, objects_removed=0, kept=[]))
    film = _film(request, gateway)
    ended = await _end_jobs(gateway, asset_id, traceparent_of(request))
    # Half a deletion is worse than a late answer: it goes on when the client leaves.
    return _deleted(await asyncio.shield(_remove(gateway, film, request, just_ended=ended)))


async def _end_jobs(gateway: Gateway, asset_id: str, traceparent: str) -> bool:
    """Cancel what runs, and wait. Answers whether anything ran. Raises Problem 409 when a job goes on."""

    def running() -> list[str]:
        return [job.status.job_id for job in map(known, gateway.view.jobs_of(asset_id)) if job.status.state not in TERMINAL]

    if not (names := running()):
        return False
    with gateway.watchers.watch(asset_id) as box:
        for name in names:
            await ask(gateway, CancelRequested(job_id=name, reason="its asset is being deleted"), event_id("", "", ""), traceparent)
        deadline = asyncio.get_running_loop().time() + END_SECONDS
        while names := running():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise Problem(
                    409,
                    "jobs-running",
                    f"{len(names)} job(s) of this asset were asked to end and have not within {END_SECONDS:g} s; nothing was deleted",
                    value=names[0],
                    accepted="the same request again, when they have ended",
                    headers={"Retry-After": str(RETRY_SECONDS)},
                )
            await box.wait(min(left, 1.0))
    return True


async def _remove(gateway: Gateway, film: Film, request: web.Request, *, just_ended: bool) -> AssetDeleted:
    asset = film.asset
    prefix = f"assets/{asset.asset_id}/"
    wanted: dict[str, list[str]] = {}
    store = gateway.storage.bucket(asset.bucket if _allowed(gateway, asset.bucket) else "")

    async def below() -> list[str]:
        return [info.key async for info in store.list(prefix)]

    wanted[store.bucket] = await below()
    for output in film.outputs:  # those of the layout `beside`
        if not output.key.startswith(prefix) and output.key != asset.key and _allowed(gateway, output.bucket):
            wanted.setdefault(gateway.storage.bucket(output.bucket).bucket, []).append(output.key)
    removed = await _remove_keys(gateway, asset, wanted)
    while just_ended:
        await asyncio.sleep(HEARD_SECONDS)
        if not (late := await below()):
            break
        removed += await _remove_keys(gateway, asset, {store.bucket: late})
    await _decide(gateway, msgspec.structs.replace(asset, deleted=True, updated_ms=now_ms()), request)
    log.info("asset deleted", asset_id=asset.asset_id, objects=removed)
    outside = [asset.key] if asset.key and not asset.key.startswith(prefix) else []
    return AssetDeleted(asset_id=asset.asset_id, objects_removed=removed, kept=outside)


async def _remove_keys(gateway: Gateway, asset: AssetChanged, wanted: Mapping[str, Sequence[str]]) -> int:
    """Remove keys of buckets. Answers how many. Raises Problem 502 when some remain."""
    remaining: dict[str, str] = {}
    removed = 0
    for bucket, keys in wanted.items():
        left = await gateway.storage.bucket(bucket).delete_many(keys)
        remaining |= left
        removed += len(keys) - len(left)
    if remaining:
        log.warning("objects could not be removed", asset_id=asset.asset_id, remaining=len(remaining))
        raise Problem(
            502,
            "objects-remain",
            f"{removed} objects were removed, {len(remaining)} could not be; the asset is kept so that it can be deleted again",
            accepted="the same request again",
            headers={"Retry-After": str(RETRY_SECONDS)},
            remaining=dict(list(remaining.items())[:100]),
        )
    return removed


async def _decide(gateway: Gateway, asset: AssetChanged, request: web.Request) -> None:
    """Publish what a person decided, and show it at once."""
    event = event_id(f"{request.method} {asset.asset_id}", "", idempotency_key(request))
    await send(gateway, [record(asset, asset.asset_id, source=SOURCE, event_id=event, traceparent=traceparent_of(request))])
    await gateway.remember(asset=asset)


def _allowed(gateway: Gateway, bucket: str) -> bool:
    try:
        gateway.storage.bucket(bucket)
    except Refused:
        return False
    return True


def _film(request: web.Request, gateway: Gateway) -> Film:
    film = gateway.catalogue.film(request.match_info["asset_id"])
    if film is None:
        raise unknown(request.match_info["asset_id"])
    return film


def _deleted(answer: AssetDeleted) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), headers=_JSON)


def unknown(name: str) -> Problem:
    """404 for an asset."""
    return Problem(404, "no-such-asset", "there is no such asset", value=name)
