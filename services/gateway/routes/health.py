"""/healthz, /readyz, /metrics and the API's description."""

from __future__ import annotations

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from schemas import openapi
from services.gateway.context import GATEWAY
from services.gateway.problems import RETRY_SECONDS

REGISTRY: web.AppKey[CollectorRegistry] = web.AppKey("registry", CollectorRegistry)
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}


def routes() -> list[web.RouteDef]:
    return [
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
        web.get("/metrics", metrics),
        web.get("/v1/openapi.json", description),
    ]


async def healthz(request: web.Request) -> web.Response:
    """The process answers."""
    return web.Response(body=b'{"ok":true}\n', headers=_JSON)


async def readyz(request: web.Request) -> web.Response:
    """Whether the view has all that the log had when reading began, and can be written. Kafka's absence later does not change
    that: polls go on."""
    gateway = request.app[GATEWAY]
    ready = gateway.current
    trouble = gateway.follower.trouble
    said = "ok" if ready else f"the view cannot be written: {trouble}" if trouble else "the view is being filled from the log"
    kafka = "ok" if gateway.follower.connected else "Kafka cannot be followed now; polls are answered from the view, uploads get 503"
    body = msgspec.json.encode({"ok": ready, "checks": {"view": said, "kafka": kafka}})
    return web.Response(status=200 if ready else 503, body=body, headers=_JSON if ready else _JSON | {"Retry-After": str(RETRY_SECONDS)})


async def metrics(request: web.Request) -> web.Response:
    """Prometheus."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(request.app[REGISTRY]), headers={"Content-Type": content_type, "Cache-Control": "no-store"})


async def description(request: web.Request) -> web.Response:
    """OpenAPI 3.1."""
    return web.Response(
        body=msgspec.json.encode(openapi.document()), headers={"Content-Type": "application/json", "Cache-Control": "no-cache"}
    )
