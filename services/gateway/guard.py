"""The one middleware: who may call, and errors as problem details."""

from __future__ import annotations

import asyncio
import sqlite3
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from services.gateway.auth.token import Door
from services.gateway.context import GATEWAY
from services.gateway.pressure import GATE
from services.gateway.problems import RETRY_SECONDS, Problem, unavailable
from services.gateway.views.store import Filling, is_damage
from services.runtime.kafka.producer import BrokerUnavailable
from services.runtime.storage.base import NotFound, PreconditionFailed, Refused, StorageError, StorageFull
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
OLD_WIRE = "/videos"
"""Its clients know `{"message": …}` and no problem details."""
_UNKNOWN = frozenset({"no-such-job", "no-such-asset"})
"""What a view says that is not filled yet."""
_LISTS = ("/v1/jobs", "/zip", "/")
"""Where bodies may list the objects of an archive."""


def middleware(door: Door) -> object:
    """The middleware for this door."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if (answer := door.check(request)) is not None:
                return answer
            with request.app[GATE].enter(request):
                return await handler(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            problem = translate(error, request)
        counters = request.app[GATEWAY].counters
        counters.problems += 1
        counters.failures += problem.status >= 500
        return old_wire(problem) if request.path == OLD_WIRE else problem.response()

    return guard


def translate(error: Exception, request: web.Request) -> Problem:
    """Any exception of a handler as a problem; what we did not foresee is logged and shown without its inside."""
    match error:
        case Problem() if error.code in _UNKNOWN and not request.app[GATEWAY].current:
            return _filling()
        case Problem():
            return error
        case Filling():
            return _filling()
        case sqlite3.DatabaseError() if is_damage(error):
            request.app[GATEWAY].follower.damaged()
            return unavailable("this gateway's view of the log was damaged and is filled again. Ask again soon.")
        case sqlite3.OperationalError():
            log.warning("the view cannot be read", path=request.path, reason=str(error))
            return unavailable(f"this gateway's view of the log cannot be read now: {error}")
        case BrokerUnavailable():
            return unavailable("Kafka did not acknowledge in time; nothing was accepted. Send the request again.")
        case NotFound():
            return Problem(404, "not-found", str(error))
        case PreconditionFailed():
            return Problem(412, "precondition-failed", str(error))
        case Refused():
            return Problem(400, "refused", str(error))
        case StorageFull():
            log.error("the store is full", path=request.path, reason=str(error))
            return Problem(507, "storage-full", f"{error}. Nothing was kept.", headers={"Retry-After": str(RETRY_SECONDS)})
        case StorageError():
            log.warning("storage failed", path=request.path, reason=str(error))
            return unavailable(f"the object store could not do it: {error}")
        case web.HTTPException():
            return _http(error, request)
        case ConnectionError() | web.RequestPayloadError():
            return Problem(400, "broken-off", "the request ended before its last byte; nothing was kept")
        case _:
            log.exception("a handler failed", method=request.method, path=request.path)
            return Problem(500, "defect", "this is a defect of the gateway; its log tells more")


def _filling() -> Problem:
    return unavailable("this gateway's view of the log is being filled; what is asked for may be there. Ask again soon.")


def _http(error: web.HTTPException, request: web.Request) -> Problem:
    if error.status < 400:
        raise error  # a redirect
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    match error.status:
        case 404:
            return Problem(404, "no-such-route", f"there is nothing at {request.path}", value=request.path, accepted="see /v1/openapi.json")
        case 405:
            return Problem(
                405,
                "method",
                f"{request.method} is not possible here",
                value=request.method,
                accepted=headers.get("Allow"),
                headers=headers,
            )
        case 413:
            limit = request.app[GATEWAY].settings.body_limit_bytes
            other = "; for more objects in an archive: a `prefix` or a `manifest` (POST /v1/jobs)" if request.path in _LISTS else ""
            return Problem(
                413,
                "too-large",
                f"a JSON body may have {limit} bytes (REELWORKS_BODY_LIMIT_BYTES){other}",
                accepted=f"at most {limit} bytes",
            )
        case status:
            return Problem(status, "http", error.text or HTTPStatus(status).phrase, headers=headers)


def old_wire(problem: Problem) -> web.Response:
    """A problem as clients of `POST /videos` know it."""
    headers = problem.headers
    if problem.status == 503:
        headers = headers | {"Retry-After": str(RETRY_SECONDS)}
    return web.json_response({"message": problem.details.detail}, status=problem.status, headers=headers)
