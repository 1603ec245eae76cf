"""Which job and which asset a request is. Pure.

Ids are derived from what the request says, so that a repetition is the same job on any gateway, without memory.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from schemas import envelope
from schemas.events import Request, StreamRequested

SOURCE = "reelworks/gateway"
"""CloudEvents source of every gateway. The same for all of them: it is part of derived job ids."""
MAX_KEY = 255
"""Characters of an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header leaves the limit to the server)."""


def event_id(route: str, owner: str, idempotency_key: str) -> str:
    """CloudEvents id of the request: the same for the same key, new without one."""
    return envelope.derived_id("idempotency", route, owner, idempotency_key) if idempotency_key else str(uuid.uuid4())


def job_id(of_event: str) -> str:
    """As the intake derives it from source and id."""
    return envelope.derived_id(SOURCE, of_event)


def new_asset_id(of_event: str) -> str:
    """Of an upload: one for each request, so that the same file name twice never overwrites."""
    return envelope.derived_id("asset", of_event)


def asset_id_of_object(bucket: str, key: str) -> str:
    """Of an object that was there already."""
    return envelope.derived_id(bucket, key)


def subject_of(request: Request) -> str:
    """What the job is about, as the intake will say it for a request whose ids and bucket are filled in."""
    if isinstance(request, StreamRequested) and request.layout == "flat-ts":
        return asset_id_of_object(request.target_bucket or request.bucket, request.target)
    if asset_id := getattr(request, "asset_id", None):
        return str(asset_id)
    named = getattr(request, "target", None) or request
    key = getattr(named, "key", "")
    return asset_id_of_object(getattr(named, "bucket", ""), key) if key else request.job_id or ""


def differs(request: msgspec.Struct, stored: dict[str, Any], ignoring: frozenset[str] = frozenset()) -> str:
    """The first field in which a repeated request is another than the one that is known; "" when it is the same."""
    known = msgspec.convert(stored, type(request))
    for field in msgspec.structs.fields(request):
        if field.name not in ignoring and getattr(request, field.name) != getattr(known, field.name):
            return field.name
    return ""
