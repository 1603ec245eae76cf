"""/v1/assets/{id}/hls/…: a film's stream for those who show a playback token, and where such a token is got."""

from __future__ import annotations

import time
from http import HTTPStatus

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from schemas.api import Playback
from services.gateway.auth.playback import ANYBODY, COOKIE, QUERY, TokenExpired, TokenMissing, TokenRefused, prefix_of
from services.gateway.context import GATEWAY, Gateway
from services.gateway.delivery import answers
from services.gateway.delivery.paths import Place, place
from services.gateway.delivery.sending import SAFE, send
from services.gateway.guard import translate
from services.gateway.problems import Problem
from services.gateway.routes.assets import unknown
from services.gateway.views.catalogue import Film, hls_url, storyboard_url, stream_path
from services.gateway.views.ready import Ready
from services.gateway.views.times import rfc3339

SEGMENT_URL_SECONDS = 600
"""Life of the signed URL of a segment: longer than any player takes to fetch one, short enough to be worth little to others."""
_KEY_BYTES = 1024
_IN_MEMORY = frozenset({"master", "media", "text"})
_ROUTE = r"/v1/assets/{asset_id}/hls/{path:(?s:.+)}"


def routes() -> list[web.RouteDef]:
    return [
        web.post("/v1/assets/{asset_id}/playback", playback),
        web.get("/v1/assets/{asset_id}/hls/master.m3u8", readable_by_all(current)),
        web.options("/v1/assets/{asset_id}/hls/master.m3u8", preflight),
        web.get(_ROUTE, readable_by_all(stream)),
        web.options(_ROUTE, preflight),
    ]


def readable_by_all(handler: Handler) -> Handler:
    """Refusals too: a player of another site is to know the reason."""

    async def readable(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            problem = translate(error, request)
            problem.headers = problem.headers | answers.CORS
            raise problem from None

    return readable


async def preflight(request: web.Request) -> web.Response:
    """Browsers ask before a request with a Range header from a page of another site, without a token."""
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=answers.PREFLIGHT)


# ── Tokens ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def playback(request: web.Request) -> web.Response:
    """What is to be played, and the cookie that opens it."""
    gateway = request.app[GATEWAY]
    film = _film(request, gateway)
    asset_id = film.asset.asset_id
    token = gateway.tokens.issue(asset_id, ANYBODY, time.time())
    origin = gateway.origin(request)
    if film.stream is None:
        raise _not_streamable(asset_id)
    body = Playback(
        hls_url=hls_url(film.stream, origin),
        storyboard_url=storyboard_url(film, origin),
        live=film.stream.progressive,
        encrypted=film.stream.encrypted,
        expires_at=rfc3339(token.expires * 1000),
    )
    answer = web.Response(body=msgspec.json.encode(body), headers={"Content-Type": "application/json", "Cache-Control": "no-store"})
    answer.set_cookie(
        COOKIE,
        token.text,
        path=prefix_of(asset_id),
        max_age=max(0, token.expires - int(time.time())),
        httponly=True,
        samesite="Lax",
        secure=origin.startswith("https:"),
    )
    return answer


def _token(request: web.Request, gateway: Gateway) -> str:
    accepted = f"the cookie that POST /v1/assets/{{id}}/playback sets, or an asset's `hls_url` with ?{QUERY}=…"
    return token_for(request, gateway, prefix_of(request.match_info["asset_id"]), accepted=accepted)


def token_for(request: web.Request, gateway: Gateway, prefix: str, *, accepted: str) -> str:
    """The query's token when that is what opens the stream; "" when the cookie does. Raises Problem 401 or 403 with the reason."""
    cookies, query = request.headers.get("Cookie", ""), request.query.get(QUERY)
    try:
        return gateway.tokens.opening_below(prefix, cookies=cookies, query=query, now=time.time())
    except TokenMissing as refused:
        problem = Problem(401, "playback-token", str(refused), accepted=accepted, headers=_CHALLENGE)
    except TokenExpired as refused:
        problem = Problem(401, "playback-token-expired", str(refused), accepted=accepted, headers=_CHALLENGE)
    except TokenRefused as refused:
        problem = Problem(403, "playback-token-refused", str(refused), accepted=accepted)
    gateway.counters.playback_refused += 1
    raise problem


_CHALLENGE = {"WWW-Authenticate": 'Playback realm="reelworks"'}
"""RFC 9110 §15.5.2 wants one with every 401; the scheme is ours."""


# ── Streams ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def current(request: web.Request) -> web.Response:
    """To the master playlist of the newest stream; a token in the query goes along."""
    gateway = request.app[GATEWAY]
    _token(request, gateway)
    film = _film(request, gateway)
    if film.stream is None:
        raise _not_streamable(film.asset.asset_id)
    location = stream_path(film.stream)
    if request.query_string:
        location += f"?{request.rel_url.raw_query_string}"
    return web.Response(status=HTTPStatus.FOUND, headers={"Location": location, "Cache-Control": "no-store"} | answers.CORS)


def from_memory(request: web.BaseRequest, gateway: Gateway) -> web.Response | None:
    """A playlist whose present version is in memory, for a valid token; None for all else, which goes the usual way."""
    asset_id, _, path = request.rel_url.raw_path.removeprefix("/v1/assets/").partition("/hls/")
    wanted = place(asset_id, path)
    if wanted is None or wanted.kind not in _IN_MEMORY:
        return None
    cookies, query = request.headers.get("Cookie", ""), request.query.get(QUERY)
    try:
        token = gateway.tokens.opening(asset_id, cookies=cookies, query=query, now=time.time())
    except TokenRefused:
        return None
    copy = gateway.playlists.peek(asset_id, wanted.key)
    return None if copy is None or copy.ready is None else to_player(request, gateway, wanted, copy.ready, token, growing=copy.growing)


async def stream(request: web.Request) -> web.StreamResponse:
    """A playlist, a segment, a key, captions."""
    gateway = request.app[GATEWAY]
    token = _token(request, gateway)
    asset_id, path = request.match_info["asset_id"], request.match_info["path"]
    wanted = place(asset_id, path)
    if wanted is None:
        raise missing(path)
    match wanted.kind:
        case "master" | "media" | "text":
            return await _playlist(request, gateway, asset_id, wanted, token)
        case "key":
            return await _key(gateway, wanted)
        case "segment" | "picture":
            return await send_segment(request, gateway, wanted, kept=answers.IMMUTABLE if wanted.kind == "segment" else answers.WHOLE)


async def _playlist(request: web.Request, gateway: Gateway, asset_id: str, wanted: Place, token: str) -> web.Response:
    copy = await gateway.playlists.get(asset_id, wanted)
    if copy.ready is None:
        raise missing(request.match_info["path"])
    return to_player(request, gateway, wanted, copy.ready, token, growing=copy.growing)


def to_player(request: web.BaseRequest, gateway: Gateway, wanted: Place, ready: Ready, token: str, *, growing: bool) -> web.Response:
    """A playlist as the client needs it: with the token that it showed, or 304."""
    gateway.counters.playlists += 1
    if token:
        ready = gateway.variants.get(wanted, ready, token, growing=growing)
    if ready.matches(request.headers.get("If-None-Match", "")):
        return web.Response(status=304, headers=ready.headers_304.copy())
    return web.Response(body=ready.body, headers=ready.headers.copy())


async def _key(gateway: Gateway, wanted: Place) -> web.Response:
    """Never redirected, signed or kept: the key is for those who may watch now."""
    body = await gateway.storage.bucket().read(wanted.key, limit=_KEY_BYTES)
    return web.Response(body=body, headers={"Content-Type": wanted.content_type, "Cache-Control": "no-store"} | SAFE | answers.CORS)


async def send_segment(request: web.Request, gateway: Gateway, wanted: Place, *, kept: str) -> web.StreamResponse:
    """An object of a stream, or where it lies. `kept`: its Cache-Control."""
    store = gateway.storage.bucket()
    if gateway.redirects_segments:
        gateway.counters.segments_redirected += 1
        url = store.sign_get(wanted.key, expires_seconds=SEGMENT_URL_SECONDS, content_type=wanted.content_type)
        # The URL stays the same for three quarters of its life, so it holds for a quarter at least.
        headers = {"Location": url, "Cache-Control": f"private, max-age={SEGMENT_URL_SECONDS // 4}"} | answers.CORS
        return web.Response(status=HTTPStatus.FOUND, headers=headers)
    gateway.counters.segments_sent += 1
    headers = {"Cache-Control": kept} | answers.CORS
    return await send(request, store, wanted.key, content_type=wanted.content_type, headers=headers, counters=gateway.counters)


def _film(request: web.Request, gateway: Gateway) -> Film:
    film = gateway.catalogue.film(request.match_info["asset_id"])
    if film is None:
        raise unknown(request.match_info["asset_id"])
    return film


def missing(path: str) -> Problem:
    """404 for what is no part of a stream."""
    return Problem(404, "not-streamed", "there is nothing of this name in the film's stream", value=path)


def _not_streamable(asset_id: str) -> Problem:
    return Problem(404, "no-stream", "this film cannot be streamed yet, or not at all: see its `state`", value=asset_id)
