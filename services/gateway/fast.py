"""The short way of polls, of statuses and of playlists: no routing, no middleware, no encoding. Everything else goes the usual way.

Polls are nearly all of the gateway's requests. Routing, the match and the middleware cost a third of one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from services.gateway.auth.token import Door
from services.gateway.context import Gateway
from services.gateway.problems import Problem
from services.gateway.routes.hls import from_memory

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_PATH = "/v1/jobs/"
_STREAMS = "/v1/assets/"


def _head_fault(request: web.BaseRequest) -> Problem | None:
    """What of a request's head nobody behind this could answer in words."""
    if not (host := request.headers.get("Host", "")).isascii():  # URLs in answers are made of it
        return Problem(400, "host", "the header Host names no host", value=host, accepted="a name or an address")
    expected = request.headers.get("Expect")
    if expected is not None and expected.lower() != "100-continue":
        return Problem(417, "expectation", "this expectation is not known", value=expected, accepted="100-continue")
    return None


def shortened(gateway: Gateway, door: Door, usual: Handler) -> Handler:
    """A handler for the server, before the application: answers polls of jobs and playlists that are in memory."""
    statuses, counters = gateway.statuses, gateway.counters
    peek, answer = statuses.cache.peek, statuses.of_kept
    public_url = gateway.settings.public_url.rstrip("/")
    cut = len(_PATH)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if (problem := _head_fault(request)) is not None:
            return problem.response()
        path = request.raw_path
        # A path with a query or a further segment is no job id, and goes the usual way.
        if path.startswith(_PATH) and request.method == "GET" and (kept := peek(path[cut:])) is not None and door.is_open(request):
            headers = request.headers
            ready = answer(path[cut:], kept, public_url or f"{request.scheme}://{request.host}")
            counters.polls += 1
            had = headers.get("If-None-Match")
            if had is not None and ready.matches(had):
                counters.not_modified += 1
                return web.Response(status=304, headers=ready.headers_304.copy())
            return web.Response(body=ready.body, headers=ready.headers.copy())
        if path.startswith(_STREAMS) and request.method == "GET" and (playlist := from_memory(request, gateway)) is not None:
            return playlist
        return await usual(request)

    return handle
