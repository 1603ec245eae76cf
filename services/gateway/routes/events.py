"""GET /v1/jobs/{id}/events: the status as server-sent events, ending when the job has ended."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from services.gateway.context import GATEWAY
from services.gateway.routes.jobs import unknown

KEEP_ALIVE_SECONDS = 15.0
"""Proxies cut connections that are silent for a minute."""
RECONNECT_MS = 2000


def routes() -> list[web.RouteDef]:
    return [web.get("/v1/jobs/{job_id}/events", events)]


async def events(request: web.Request) -> web.StreamResponse:
    """Event `status`, id = the status's ETag, data = its JSON. A client that has seen the end gets 204, after which
    browsers do not connect again (HTML, server-sent events, section 9.2.3)."""
    gateway = request.app[GATEWAY]
    name = request.match_info["job_id"]
    origin = partial(gateway.origin, request)
    ready = gateway.statuses.answer(name, origin)
    if ready is None:
        raise unknown(name)
    sent = f'"{request.headers.get("Last-Event-ID", "")}"'
    if ready.terminal and sent == ready.etag:
        return web.Response(status=204)
    stream = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    with gateway.watchers.watch(name) as box:  # before the first look: nothing is missed in between
        await stream.prepare(request)
        await stream.write(f"retry: {RECONNECT_MS}\n\n".encode())
        while True:
            ready = gateway.statuses.answer(name, origin)
            if ready is None or gateway.watchers.closing:
                break
            if ready.etag != sent:
                sent = ready.etag
                await stream.write(b"event: status\nid: " + sent.strip('"').encode() + b"\ndata: " + ready.body + b"\n\n")
            if ready.terminal:
                break
            if not await box.wait(KEEP_ALIVE_SECONDS):
                await stream.write(b": still here\n\n")
    await stream.write_eof()
    return stream
