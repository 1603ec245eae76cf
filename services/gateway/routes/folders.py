"""/v1/folders: the folders of the default bucket, the films in them, and their flat streams."""

from __future__ import annotations

import time
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from schemas.api import FolderList, FolderName, FolderTitle, FolderView
from services.gateway.auth.playback import ANYBODY, QUERY
from services.gateway.context import GATEWAY, PLAYLIST_LIMIT, Gateway
from services.gateway.delivery import answers
from services.gateway.folders.listing import Found, films, shown_folders
from services.gateway.folders.names import OUTPUT, STREAM, folder_fault, is_playable, place, stream_prefix
from services.gateway.problems import Problem
from services.gateway.routes.hls import missing, preflight, readable_by_all, send_segment, to_player, token_for
from services.gateway.views.catalogue import absolute
from services.gateway.views.times import rfc3339
from services.runtime.storage.base import NotFound
from services.runtime.storage.keys import content_type_of

_STREAM_ROUTE = r"/v1/folders/{folder}/{film:(?s:[^/]+\.hls)}/{file:(?s:[^/]+)}"
_ACCEPTED = f"a title's `play_url`, which has ?{QUERY}=…"


def routes() -> list[web.RouteDef]:
    return [
        web.get("/v1/folders", listing),
        web.get("/v1/folders/{folder}", folder),
        web.get(_STREAM_ROUTE, readable_by_all(stream)),
        web.options(_STREAM_ROUTE, preflight),
    ]


async def listing(request: web.Request) -> web.Response:
    """The folders at the top of the bucket."""
    names = await shown_folders(request.app[GATEWAY].storage.bucket())
    return _json(FolderList(folders=[FolderName(name=name) for name in names]))


async def folder(request: web.Request) -> web.Response:
    """The films in a folder."""
    gateway, name = request.app[GATEWAY], request.match_info["folder"]
    return _json(FolderView(folder=name, titles=await titles_of(gateway, name, gateway.origin(request))))


async def titles_of(gateway: Gateway, name: str, origin: str) -> list[FolderTitle]:
    """The films in a folder, their URLs from `origin` on. Raises Problem 400 for what is no folder's name, 404."""
    if fault := folder_fault(name):
        raise Problem(400, "folder", f"this cannot be the name of a folder: {fault}", value=name, accepted="a name without slashes")
    found = await films(gateway.storage.bucket(), name)
    if found is None:
        raise Problem(404, "no-such-folder", "there is no such folder, or it is empty", value=name, accepted="see /v1/folders")
    return [_title(gateway, name, film, origin) for film in found]


def _title(gateway: Gateway, name: str, film: Found, origin: str) -> FolderTitle:
    info = film.info
    return FolderTitle(
        name=film.name,
        kind=film.kind,
        key=info.key,
        size=info.size,
        modified_at=rfc3339(info.modified_ms),
        content_type=content_type_of(info.key),
        play_url=_stream_url(gateway, name, film, origin) if film.kind == "hls" else _file_url(gateway, film, origin),
        convertible=film.kind == "file",
    )


def _stream_url(gateway: Gateway, name: str, film: Found, origin: str) -> str:
    prefix = stream_prefix(name, film.name + STREAM)
    token = gateway.tokens.issue_below(prefix, ANYBODY, time.time())
    return f"{origin}{prefix}{OUTPUT}?{urlencode({QUERY: token.text})}"


def _file_url(gateway: Gateway, film: Found, origin: str) -> str | None:
    if not is_playable(film.name):
        return None
    key, life = film.info.key, gateway.settings.signed_url_seconds
    return absolute(gateway.storage.bucket().sign_get(key, expires_seconds=life, content_type=content_type_of(key)), origin)


async def stream(request: web.Request) -> web.StreamResponse:
    """A playlist or a segment, for those who show the stream's token."""
    gateway, match = request.app[GATEWAY], request.match_info
    token = token_for(request, gateway, stream_prefix(match["folder"], match["film"]), accepted=_ACCEPTED)
    wanted = place(match["folder"], match["film"], match["file"])
    if wanted is None:
        raise missing(match["file"])
    if wanted.kind == "segment":
        # Other programs write here too, and may write the same name again.
        return await send_segment(request, gateway, wanted, kept=answers.WHOLE)
    try:
        # Read each time: nobody announces its versions, and players ask for it once.
        body = await gateway.storage.bucket().read(wanted.key, limit=PLAYLIST_LIMIT)
    except NotFound:
        raise missing(match["file"]) from None
    return to_player(request, gateway, wanted, answers.ready(wanted, body, growing=True), token, growing=True)


def _json(body: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), headers={"Content-Type": "application/json", "Cache-Control": "no-store"})
