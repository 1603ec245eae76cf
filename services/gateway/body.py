"""JSON bodies and parameters of requests, with errors in words."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web

from services.gateway.context import GATEWAY
from services.gateway.identity import MAX_KEY
from services.gateway.pressure import ENTRY
from services.gateway.problems import Problem

T = TypeVar("T")
JSON = "application/json"
_Cursor = tuple[Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)], str]
"""SQLite's integers have 64 bits."""


def is_json(content_type: str) -> bool:
    """`application/json`, `application/*+json`, with or without parameters."""
    essence = content_type.partition(";")[0].strip().lower()
    return essence == JSON or (essence.startswith("application/") and essence.endswith("+json"))


async def read_json(request: web.Request, kind: type[T], *, optional: T | None = None) -> T:
    """The body as `kind`. Raises Problem: 415 for another content type, 400 for what is not JSON or of another shape, 408 for
    what does not come.

    `optional`: the answer to an empty body.
    """
    seconds = request.app[GATEWAY].settings.idle_timeout_seconds
    try:
        async with asyncio.timeout(seconds):
            body = await request.read()
    except TimeoutError:
        raise Problem(408, "silent", f"the body was not there after {seconds:g} s", headers={"Connection": "close"}) from None
    if (entry := request.get(ENTRY)) is not None:
        await entry.turn()
    if not body and optional is not None:
        return optional
    content_type = request.headers.get("Content-Type", "")
    if not is_json(content_type):
        raise Problem(415, "content-type", "the body must be JSON", value=content_type or "(none)", accepted=JSON)
    return decode_json(body, kind)


def decode_json(body: bytes, kind: type[T]) -> T:
    """Bytes as `kind`. Raises Problem 400 that says where it is wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as wrong:
        raise Problem(400, "shape", f"the body has not the right shape: {wrong}", value=_text(body), accepted=_shape(kind)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise Problem(400, "not-json", f"the body is not JSON: {wrong}", value=_text(body), accepted=_shape(kind)) from None


def _shape(kind: type[object]) -> str:
    if not issubclass(kind, msgspec.Struct):
        return "JSON"
    fields = [f.name if f.required else f.name + "?" for f in msgspec.structs.fields(kind)]
    return "a JSON object {" + ", ".join(fields) + "}"


def _text(body: bytes) -> str:
    return body[:400].decode("utf-8", "replace")


def idempotency_key(request: web.Request) -> str:
    """The header's value, "" when there is none. Raises Problem 400 when it is longer than 255 characters or is no text."""
    key = request.headers.get("Idempotency-Key", "").strip()
    if len(key) > MAX_KEY:
        raise Problem(400, "idempotency-key", "the Idempotency-Key is too long", value=key, accepted=f"at most {MAX_KEY} characters")
    if not is_text(key):
        raise Problem(400, "idempotency-key", "the Idempotency-Key is not UTF-8", value=key, accepted=f"at most {MAX_KEY} characters")
    return key


def is_text(text: str) -> bool:
    """Whether it can be written. Bytes of a header that are not UTF-8 come as half surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def whole_number(request: web.Request, name: str, *, default: int, least: int, most: int) -> int:
    """A number from the query. Raises Problem 400."""
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise Problem(400, "parameter", f"{name} must be a whole number", value=text, accepted=f"{least} to {most}")
    return int(text)


def one_of(request: web.Request, name: str, accepted: tuple[str, ...]) -> str:
    """A word from the query, "" when it is not there. Raises Problem 400."""
    text = request.query.get(name, "")
    if text and text not in accepted:
        raise Problem(400, "parameter", f"{name} is none of those that exist", value=text, accepted=list(accepted))
    return text


def cursor(request: web.Request) -> tuple[int, str] | None:
    """Where a page begins; None for the first. Raises Problem 400 for a cursor that is none of ours."""
    text = request.query.get("cursor")
    if not text:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)), type=_Cursor)
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        raise Problem(400, "cursor", "this cursor is none of ours", value=text, accepted="next_cursor of the page before") from None


def cursor_after(created_ms: int, name: str) -> str:
    """The cursor of the page that begins after this item."""
    return base64.urlsafe_b64encode(msgspec.json.encode((created_ms, name))).rstrip(b"=").decode()
