"""/v1/archives: archives of objects and films that are made while they are sent, and signed links to them."""

from __future__ import annotations

import asyncio
import time

import msgspec
from aiohttp import web

from schemas.api import ArchiveLink, ArchiveWish
from services.gateway.archives import titles
from services.gateway.archives.archive import Archive
from services.gateway.archives.links import MAX_URL, PATH, SIGNATURE, LinkExpired, LinkForged, Links, LinkTooLong
from services.gateway.archives.sending import DownloadGate, send
from services.gateway.archives.wishes import filename_of, from_query, to_query
from services.gateway.body import read_json
from services.gateway.context import GATEWAY, Gateway
from services.gateway.problems import Problem
from services.gateway.uploads.requests import bucket_of
from services.gateway.views.times import rfc3339
from services.runtime.archives.selection import Unusable, limits_of, select

GATE: web.AppKey[DownloadGate] = web.AppKey("archive downloads", DownloadGate)
LINKS: web.AppKey[Links] = web.AppKey("archive links", Links)
_STATUSES = {"object-missing": 404, "object-changed": 409, "too-many-entries": 413, "too-large": 413}
"""Of what `select` finds; 400 for all else."""


def routes() -> list[web.RouteDef]:
    return [web.get(PATH, get), web.post(f"{PATH}/download", post), web.post(f"{PATH}/links", link)]


async def get(request: web.Request) -> web.StreamResponse:
    """GET and HEAD, whole or in part; with a signature, the link alone decides."""
    if SIGNATURE in request.query:
        _check_link(request)
    wish = from_query(request.query.items())
    if request.method == "HEAD":
        return await _download(request, wish)
    with request.app[GATE].enter():
        return await _download(request, wish)


async def post(request: web.Request) -> web.StreamResponse:
    """The same for selections that fit into no URL. It changes nothing, so ranges are what they are of a GET."""
    wish = await read_json(request, ArchiveWish)
    with request.app[GATE].enter():
        return await _download(request, wish)


async def link(request: web.Request) -> web.Response:
    """A link to what can be downloaded now."""
    gateway = request.app[GATEWAY]
    wish = await read_json(request, ArchiveWish)
    try:
        made = request.app[LINKS].make(to_query(wish), time.time())
    except LinkTooLong as wrong:
        raise Problem(
            413, "link-too-long", f"the selection does not fit into a link: {wrong}", value=wrong.length,
            accepted=f"at most {MAX_URL:,} characters: fewer objects, a `prefix`, or POST {PATH}/download, which takes longer lists",
        ) from None  # fmt: skip
    archive = await _archive(gateway, wish)
    body = ArchiveLink(
        url=gateway.origin(request) + made.path, expires_at=rfc3339(made.expires * 1000), entries=len(archive.chosen), size=archive.size
    )
    return web.Response(body=msgspec.json.encode(body), headers={"Content-Type": "application/json", "Cache-Control": "no-store"})


def _check_link(request: web.Request) -> None:
    """Raises Problem 401 or 403 with the reason."""
    try:
        request.app[LINKS].check(list(request.query.items()), time.time())
    except LinkExpired as refused:
        headers = {"WWW-Authenticate": 'Bearer realm="reelworks"'}
        raise Problem(401, "link-expired", str(refused), accepted=f"a fresh link of POST {PATH}/links", headers=headers) from None
    except LinkForged as refused:
        raise Problem(403, "link-refused", str(refused), accepted=f"a link of POST {PATH}/links, unchanged") from None


async def _download(request: web.Request, wish: ArchiveWish) -> web.StreamResponse:
    gateway = request.app[GATEWAY]
    return await send(request, gateway, await _archive(gateway, wish), filename=filename_of(wish))


async def _archive(gateway: Gateway, wish: ArchiveWish) -> Archive:
    """The archive of a wish, as the objects are now. Raises Problem for what cannot be one, saying why; 403 for a bucket."""
    entries = [*wish.entries, *titles.entries_of(wish.assets, gateway.catalogue.film)]
    for bucket in {wish.bucket, *(entry.bucket for entry in entries)}:
        bucket_of(gateway.storage, bucket)
    try:
        chosen = await select(
            gateway.storage, entries=entries, prefix=wish.prefix, bucket=wish.bucket, exclude=None, limits=limits_of(gateway.settings)
        )
    except Unusable as wrong:
        raise Problem(_STATUSES.get(wrong.code, 400), wrong.code, wrong.message, accepted=wrong.hint) from None
    # Of thousands of objects: some tenths of a second, in which others are to have their turn.
    return await asyncio.to_thread(Archive, chosen)
