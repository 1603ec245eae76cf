"""Checks of requests before they are accepted: what can be refused at once is not left to fail as a job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from schemas.api import Callback
from schemas.events import BY_NAME, KINDS, TYPE_PREFIX, CallbackRequested, FollowUp, Recipe, Request, ZipRequested
from services.gateway.problems import Problem
from services.gateway.uploads.archives import check_archive
from services.runtime import callbacks
from services.runtime.settings import Settings
from services.runtime.storage.base import NotFound, ObjectInfo, ObjectStore, Refused, Storage


def request_kind(name: str) -> type[Request]:
    """The struct of a request's type. Raises Problem 400 for one that is none, 501 for a service that is not there yet."""
    name = name.removeprefix(TYPE_PREFIX)
    kind = KINDS.get(name)
    if kind is None:
        ways = {"CancelRequested": "POST /v1/jobs/{id}/cancel", "RetryRequested": "POST /v1/jobs/{id}/retry"}
        raise Problem(400, "unknown-type", "this is no type of job", value=name, accepted=ways.get(name, list(KINDS)))
    if not kind.served:
        raise Problem(
            501,
            "not-served",
            f"this version has no {kind.service}; {name} is not served",
            value=name,
            accepted=[known for known, k in KINDS.items() if k.served],
        )
    return BY_NAME[name]  # pyright: ignore[reportReturnType] (KINDS names requests only)


def read_request(kind: type[Request], data: dict[str, Any]) -> Request:
    """The request in `data`. Raises Problem 400 with the place of the first fault."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as wrong:
        fields = [f.name if f.required else f.name + "?" for f in msgspec.structs.fields(kind)]
        raise Problem(400, "shape", f"data is no {kind.__name__}: {wrong}", accepted=f"a JSON object {{{', '.join(fields)}}}") from None


def with_callback(callback: Callback | None, settings: Settings) -> tuple[FollowUp, ...]:
    """What `callback: {url}` stands for, to be put in both `then` and `otherwise`. Raises Problem 403."""
    if callback is None:
        return ()
    check_callback(callback.url, settings)
    return (FollowUp(type="CallbackRequested", data={"url": callback.url}),)


def check_callback(url: str, settings: Settings) -> None:
    """Raises Problem 403 with the reason why no callback may go there."""
    try:
        callbacks.check(url, settings)
    except callbacks.CallbackRefused as refused:
        raise Problem(403, "callback-refused", str(refused), value=url, accepted=list(settings.callback_allow)) from None


def check_follow_ups(follow_ups: Iterable[FollowUp], settings: Settings, storage: Storage) -> None:
    """Raises Problem for a continuation that could not be served, at any depth."""
    for follow_up in follow_ups:
        request = read_request(request_kind(follow_up.type), follow_up.data)
        check_request(request, settings, storage)


def check_request(request: Request, settings: Settings, storage: Storage) -> None:
    """Raises Problem for URLs and buckets that are not allowed and archives that cannot be, in the request and in what follows upon it."""
    if isinstance(request, CallbackRequested):
        check_callback(request.url, settings)
    for bucket in buckets_of(request):
        bucket_of(storage, bucket)
    if isinstance(request, ZipRequested):
        check_archive(request, settings, storage.default_bucket)
    check_follow_ups((*request.then, *request.otherwise), settings, storage)


def buckets_of(request: Request) -> set[str]:
    """Buckets that a request names."""
    named = {str(getattr(request, "bucket", "")), str(getattr(request, "target_bucket", ""))}
    recipe = getattr(request, "recipe", None)
    if isinstance(recipe, Recipe) and recipe.watermark is not None:
        named.add(recipe.watermark.bucket)
    if isinstance(request, ZipRequested):
        named |= {request.target.bucket, request.manifest.bucket if request.manifest else "", *(e.bucket for e in request.entries)}
    return named


def bucket_of(storage: Storage, name: str) -> ObjectStore:
    """The bucket. Raises Problem 403 when it is not on the allow-list."""
    try:
        return storage.bucket(name)
    except Refused as refused:
        raise Problem(403, "bucket-refused", str(refused), value=name, accepted="a bucket on the allow-list") from None


async def existing(store: ObjectStore, key: str) -> ObjectInfo:
    """The object. Raises Problem 404 when it is not there, 400 when it is empty or the key is malformed."""
    try:
        info = await store.head(key)
    except NotFound:
        raise Problem(
            404,
            "object-missing",
            f"there is no object {key!r} in bucket {store.bucket!r}",
            value=key,
            accepted="the key of an object that is there",
        ) from None
    except Refused as refused:
        raise Problem(400, "key", str(refused), value=key) from None
    if info.size == 0:
        raise Problem(400, "empty", f"the object {key!r} has no bytes", value=key, accepted="a video file of at least one byte")
    return info
