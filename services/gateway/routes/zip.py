"""Archives: POST /zip (and POST /), the wire of an older service, and POST /v1/archives, films of the library.

What is selected becomes a `ZipRequested`, as with POST /v1/jobs; the zipper makes the archive.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import msgspec
from aiohttp import web

from schemas.api import NewArchive, OldZip
from schemas.events import KINDS, JobStatus, ObjectRef, ZipEntry, ZipRequested
from services.gateway.announce import accepted, announce, known_before, traceparent_of
from services.gateway.archives import titles
from services.gateway.auth.token import bearer, is_same
from services.gateway.body import idempotency_key, read_json
from services.gateway.context import GATEWAY, Gateway
from services.gateway.identity import event_id, job_id
from services.gateway.problems import Problem
from services.gateway.uploads import archives
from services.gateway.uploads.requests import with_callback
from services.runtime.archives import manifest
from services.runtime.kafka.producer import BrokerUnavailable
from services.runtime.settings import Settings, SettingsError, variable
from services.runtime.storage.base import NotFound, Refused, Storage, StorageError
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)
KIND: Final = KINDS["ZipRequested"].kind
NOTHING: Final = "reelworks-check/"
"""A prefix of no objects: listing it asks whether the bucket is there and may be read."""
REACH_SECONDS: Final = 10.0
"""A store that is there answers at once; one that is away must not keep the gateway from starting."""
INLINE_BYTES: Final = 64 * 1024
"""Of entries in a request. Each status of the job repeats it, so longer lists become an object."""
RETRY_SECONDS: Final = 60
"""Advice to those whose archives are all under way: they take seconds to minutes."""


class Quota:
    """At most so many archives under way for one owner: those that the view knows, and those that are being announced."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._coming: Counter[str] = Counter()

    @contextmanager
    def enter(self, gateway: Gateway, owner: str) -> Generator[None]:
        """For as long as one is being announced. Raises Problem 429."""
        if gateway.view.unfinished(KIND, owner) + self._coming[owner] >= self._most:
            raise Problem(
                429,
                "too-many-archives",
                f"{self._most} archives are being made for {f'the owner {owner!r}' if owner else 'requests without an owner'}, "
                f"which is all that is allowed ({variable('archive_max_jobs')}). Send it again when one has ended.",
                value=owner,
                accepted=f"at most {self._most} at a time",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        self._coming[owner] += 1
        try:
            yield
        finally:
            self._coming[owner] -= 1
            if not self._coming[owner]:
                del self._coming[owner]


QUOTA: web.AppKey[Quota] = web.AppKey("archives", Quota)


def routes() -> list[web.RouteDef]:
    return [web.post("/zip", old), web.post("/", old), web.post("/v1/archives", films)]


# ── From a sound request to a job ──────────────────────────────────────────────────────────────────────────────────


async def begin(request: web.Request, wanted: ZipRequested, event: str) -> JobStatus:
    """The job of a request that is filled in and checked: the one that it began when it came before, else a new one.

    Raises Problem 409 for a target that is there and is not to be replaced, 422, 429; BrokerUnavailable.
    """
    gateway = request.app[GATEWAY]
    wanted, listed = _listed(wanted)
    if (job := known_before(gateway, wanted)) is not None:
        return job
    # It goes on when the client leaves: a list that nobody knows of would stay for ever.
    return await asyncio.shield(_announce(request, wanted, listed, event))


def _listed(wanted: ZipRequested) -> tuple[ZipRequested, bytes]:
    """A request whose entries are many, with a manifest in their place; and that manifest."""
    body = manifest.encode(wanted.entries)
    if len(body) <= INLINE_BYTES:
        return wanted, b""
    return msgspec.structs.replace(wanted, entries=(), manifest=manifest.ref(wanted.job_id or "", body)), body


async def _announce(request: web.Request, wanted: ZipRequested, listed: bytes, event: str) -> JobStatus:
    gateway = request.app[GATEWAY]
    with request.app[QUOTA].enter(gateway, wanted.owner):
        if wanted.if_exists == "refuse":
            await _check_free(gateway.storage, wanted.target)
        if wanted.manifest is not None and listed:
            await manifest.save(gateway.storage, wanted.manifest, listed)
        try:
            return await announce(gateway, wanted, event_id=event, traceparent=traceparent_of(request))
        except BrokerUnavailable:
            # With an Idempotency-Key the client's next attempt writes the same object; without one nobody would find it again.
            if wanted.manifest is not None and listed and not idempotency_key(request):
                await manifest.discard(gateway.storage, wanted.manifest, wanted.job_id or "")
            raise


async def _check_free(storage: Storage, target: ObjectRef) -> None:
    """Raises Problem 409 when the target is there."""
    store = storage.bucket(target.bucket)
    try:
        await store.head(target.key)
    except NotFound:
        return
    raise Problem(
        409,
        "target-exists",
        f"there is an object {target.key!r} in bucket {store.bucket!r} already",
        value=target.key,
        accepted="another target, or `if_exists`: `replace`",
    )


# ── Films of the library ───────────────────────────────────────────────────────────────────────────────────────────


async def films(request: web.Request) -> web.Response:
    """An archive of films, below `archives/` in the default bucket."""
    gateway = request.app[GATEWAY]
    body = await read_json(request, NewArchive)
    archives.check_count(len(body.assets), gateway.settings)
    found = titles.files_of(body.assets, gateway.catalogue.film)
    follow = with_callback(body.callback, gateway.settings)
    event = event_id("POST /v1/archives", body.owner, idempotency_key(request))
    job = job_id(event)
    wanted = ZipRequested(
        job_id=job,
        owner=body.owner,
        target=ObjectRef(key=f"archives/{job}.zip"),
        entries=tuple(archives.film_entries(found)),
        title=body.title or archives.archive_title([title for title, _ in found]),
        then=follow,
        otherwise=follow,
    )
    wanted = archives.filled(wanted, gateway.storage.default_bucket)
    return accepted(gateway, request, await begin(request, wanted, event))


# ── The old wire ───────────────────────────────────────────────────────────────────────────────────────────────────


async def check_buckets(settings: Settings, storage: Storage) -> None:
    """Raises SettingsError when the buckets of the old wire cannot be used, are missing or refused. A store that is away is no reason:
    it may be back before the first request."""
    if fault := archives.bucket_fault(settings):
        raise SettingsError(fault)
    for field in archives.OLD_BUCKETS if settings.zip_secret else ():
        store = storage.bucket(getattr(settings, field))
        try:
            async with asyncio.timeout(REACH_SECONDS):
                _ = [info async for info in store.list(NOTHING)]
        except (NotFound, Refused) as wrong:
            raise SettingsError(f"the bucket {store.bucket!r} of POST /zip cannot be used: {wrong} ({variable(field)})") from None
        except (StorageError, TimeoutError) as wrong:
            log.warning("a bucket of POST /zip cannot be reached", bucket=store.bucket, setting=variable(field), reason=str(wrong))


async def old(request: web.Request) -> web.Response:
    """202 without a body, as old clients wait for it: they look for the target. The job's address is in Location."""
    gateway = request.app[GATEWAY]
    settings = gateway.settings
    _check_secret(request, settings)
    body = await read_json(request, OldZip)
    event = event_id("POST /zip", "", idempotency_key(request))
    wanted = ZipRequested(
        job_id=job_id(event),
        target=ObjectRef(key=body.target, bucket=settings.zip_output_bucket),
        entries=tuple(ZipEntry(key=key, bucket=settings.zip_input_bucket) for key in body.files),
        if_exists="replace",
    )
    # Lists of a hundred thousand take half a second, in which others want their polls answered.
    await asyncio.to_thread(archives.check_archive, wanted, settings, gateway.storage.default_bucket)
    job = await begin(request, archives.filled(wanted, gateway.storage.default_bucket), event)
    return web.Response(status=202, headers={"Location": f"/v1/jobs/{job.job_id}", "Cache-Control": "no-store"})


def _check_secret(request: web.Request, settings: Settings) -> None:
    """Raises Problem 404 when no secret is set, 401 without it or with another one. What was shown is never repeated."""
    if not settings.zip_secret:
        raise Problem(
            404,
            "zip-off",
            f"the old wire of archives is off: {variable('zip_secret')} is not set",
            accepted="POST /v1/jobs with the type ZipRequested",
        )
    shown = bearer(request)
    if not (shown and is_same(shown, settings.zip_secret.encode())):
        raise Problem(
            401,
            "unauthorized",
            "the secret is another one" if shown else "the secret is missing",
            accepted=f"Authorization: Bearer <{variable('zip_secret')}>",
            headers={"WWW-Authenticate": 'Bearer realm="reelworks zip"'},
        )
