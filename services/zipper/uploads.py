"""The multipart uploads of a job: begun once, found again by every task, and never left behind.

Which upload is the job's is kept in a *claim*, `jobs/+uploads/{hash of bucket and key}/{job}-{slice}.json` in the default bucket: the first
claim stands, whoever comes second gives its upload up. A process that dies between beginning an upload and claiming it leaves one
that nobody claims; it is found by the target's key, and claims tell it from those of other jobs with the same target.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

import msgspec

from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent
from services.runtime.storage.base import MultipartUpload, NotFound, ObjectStore, Part, PreconditionFailed
from services.zipper.archive import Archive, Stored, Target

ARCHIVE = -1
"""In place of a slice's number: the archive itself."""
CONTENT_TYPE = "application/zip"
_CLAIM_LIMIT = 64 * 1024
_SKEW_MS = 60_000
"""By which our clock may be ahead of the store's."""


def slice_key(job_id: str, number: int) -> str:
    return f"jobs/{job_id}/slices/{number:05d}"


def leftover_key(job_id: str, number: int) -> str:
    """What a pack left that is too little for a part."""
    return f"jobs/{job_id}/left/{number:06d}"


def appeared_key(job_id: str) -> str:
    """What the archive was when it appeared: `finishing.Appeared`."""
    return f"jobs/{job_id}/appeared.json"


class Uploads:
    """Those of one job."""

    def __init__(self, archive: Archive, ctx: TaskContext) -> None:
        self._archive, self._ctx = archive, ctx
        self._found: dict[int, MultipartUpload] = {}
        self._lock = asyncio.Lock()

    def store(self, piece: int) -> ObjectStore:
        """The bucket of a slice, or of the archive."""
        return self._ctx.storage.bucket(self._archive.target.bucket if piece == ARCHIVE else "")

    def place(self, piece: int) -> int:
        """Where the parts of a slice go: into the archive when it is made in one upload."""
        return piece if self._archive.slices else ARCHIVE

    async def of(self, piece: int) -> MultipartUpload:
        """The upload of a slice or of the archive; begun when there is none."""
        async with self._lock:
            if piece not in self._found:
                self._found[piece] = await self._claimed(piece) or await self._begin(piece)
            return self._found[piece]

    async def known(self, piece: int) -> MultipartUpload | None:
        """The upload, when there is one."""
        async with self._lock:
            if piece not in self._found and (claimed := await self._claimed(piece)):
                self._found[piece] = claimed
            return self._found.get(piece)

    async def send(self, piece: int, number: int, data: bytes) -> Stored:
        """Store a part."""
        return stored(piece, await self.store(piece).upload_part(await self.of(piece), number, data))

    def _claim_key(self, piece: int) -> str:
        return claim_key(self._archive.target, self._ctx.job_id, piece)

    async def _claimed(self, piece: int) -> MultipartUpload | None:
        try:
            body = await self._ctx.storage.bucket("").read(self._claim_key(piece), limit=_CLAIM_LIMIT)
        except NotFound:
            return None
        return msgspec.json.decode(body, type=MultipartUpload)

    async def _begin(self, piece: int) -> MultipartUpload:
        store = self.store(piece)
        key = self._archive.target.key if piece == ARCHIVE else slice_key(self._ctx.job_id, piece)
        upload = await store.begin_upload(key, content_type=CONTENT_TYPE, checksums=self._archive.checksums)
        try:
            await self._ctx.storage.bucket("").put(
                self._claim_key(piece), msgspec.json.encode(upload), content_type="application/json", if_none_match=True
            )
        except PreconditionFailed:
            await store.abort_upload(upload)
            first = await self._claimed(piece)
            if first is None:
                raise _ended() from None
            return first
        if await self._ctx.over():
            await store.abort_upload(upload)
            await self._ctx.storage.bucket("").delete(self._claim_key(piece))
            raise _ended()
        return upload


def _ended() -> Permanent:
    return Permanent("upload-ended", "the job was ended while its upload was begun")


def stored(piece: int, part: Part) -> Stored:
    return Stored(number=part.number, etag=part.etag, size=part.size, slice=piece, crc32=part.crc32)


def claim_key(target: Target, job_id: str, piece: int) -> str:
    return f"{_claims(target)}{job_id}{piece:+06d}.json"


def _claims(target: Target) -> str:
    return f"jobs/+uploads/{hashlib.sha256(f'{target.bucket}/{target.key}'.encode()).hexdigest()[:32]}/"


async def discard(archive: Archive, job_id: str, ctx: TaskContext) -> None:
    """End all uploads of a job that is over, those too that were begun and never claimed."""
    target, home = archive.target, ctx.storage.bucket("")
    store = ctx.storage.bucket(target.bucket)
    since = archive.planned_ms - _SKEW_MS
    begun = [u for u in await store.list_uploads(target.key) if u.key == target.key and u.initiated_ms >= since]
    begun_slices = await home.list_uploads(slice_key(job_id, 0).rpartition("/")[0])
    claims = await _claims_below(_claims(target), ctx)
    claimed = {upload.upload_id for upload in claims.values()}
    for upload in begun:
        if upload.upload_id not in claimed:
            await store.abort_upload(upload)
    for upload in begun_slices:
        await home.abort_upload(upload)
    await _end({key: upload for key, upload in claims.items() if key.startswith(_claims(target) + job_id)}, target, ctx)


async def discard_claimed(target: Target, job_id: str, ctx: TaskContext) -> None:
    """End the uploads that a job has claimed."""
    await _end(await _claims_below(_claims(target) + job_id, ctx), target, ctx)


async def _end(claims: dict[str, MultipartUpload], target: Target, ctx: TaskContext) -> None:
    home = ctx.storage.bucket("")
    for upload in claims.values():
        await (ctx.storage.bucket(target.bucket) if upload.key == target.key else home).abort_upload(upload)
    if claims:
        await home.delete_many(list(claims))


async def _claims_below(prefix: str, ctx: TaskContext) -> dict[str, MultipartUpload]:
    home = ctx.storage.bucket("")
    found: dict[str, MultipartUpload] = {}
    async for info in home.list(prefix):
        with contextlib.suppress(NotFound):
            found[info.key] = msgspec.json.decode(await home.read(info.key, limit=_CLAIM_LIMIT), type=MultipartUpload)
    return found
