"""Problem details (RFC 9457): every error says what was wrong, with which value, and what is accepted."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from schemas.api import ProblemDetails

CONTENT_TYPE = "application/problem+json"
RETRY_SECONDS = 5
"""Advice in Retry-After: Kafka and object stores that restart are usually back within some seconds."""
_SHOWN = 200
"""Characters of a value that are shown."""


class Problem(Exception):
    """An answer that is an error. Handlers raise it; the middleware in `guard.py` answers it."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        value: Any = None,
        accepted: Any = None,
        headers: dict[str, str] | None = None,
        remaining: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.headers = headers or {}
        self.details = ProblemDetails(
            type=f"urn:reelworks:problem:{code}",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            value=shortened(value),
            accepted=accepted,
            remaining=remaining or {},
        )

    def response(self) -> web.Response:
        """As it is sent."""
        return web.Response(
            status=self.status,
            body=msgspec.json.encode(self.details),
            headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} | self.headers,
        )


def shortened(value: Any) -> Any:
    """A value fit for an error message: long texts are cut, half surrogates replaced."""
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()
        return value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
    return value


def unavailable(what: str) -> Problem:
    """503: a server behind us does not answer; the same request may be sent again."""
    return Problem(503, "unavailable", what, headers={"Retry-After": str(RETRY_SECONDS)})
