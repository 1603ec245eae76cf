"""What a batch of records says, latest first of each key. Pure: the store writes it down."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from schemas import envelope, topics
from schemas.events import KINDS, AssetChanged, Completion, JobFailed, JobStatus, Request
from services.gateway.identity import SOURCE, subject_of
from services.gateway.views.projection import accepted_status, waiting_service
from services.runtime.kafka.reader import Received

TOPICS = (topics.JOBS, topics.ASSETS, topics.COMPLETIONS, topics.REQUESTS)
"""What the view is made of. Of the requests only the gateways' own count: they are sound, and have been promised to clients."""
TRANSCODE = "transcode"
STREAM = "stream"
PROGRESSIVE = ":stream:progressive"
"""End of the key of a StreamReady of a film that is still being encoded; that of the whole film ends with `:stream`."""

JobRow = tuple[str, str, str, str, str, str, int, int, int, str, bytes]
"""job_id, kind, type, state, subject, owner, created_ms, updated_ms, recorded_ms, waiting, record."""


class Folded(msgspec.Struct):
    """Rows to write and keys to remove."""

    jobs: dict[str, JobRow] = {}
    jobs_gone: set[str] = set()
    accepted: dict[str, JobRow] = {}
    """Jobs whose request is acknowledged; they give way to any status."""
    assets: dict[str, tuple[str, int, int, bytes]] = {}
    """asset_id, created_ms, deleted_ms (0: it is there), record."""
    assets_gone: set[str] = set()
    seen_assets: dict[str, tuple[int, int]] = {}
    """asset_id → when a job first spoke of it, and the latest creation of such a job: the library shows what others sent, too."""
    completions: dict[str, tuple[str, str, str, int, bytes]] = {}
    """key → subject, kind, type, finished_ms, record."""
    completions_gone: set[str] = set()
    unreadable: int = 0

    def changed_jobs(self) -> set[str]:
        return self.jobs.keys() | self.jobs_gone | self.accepted.keys()

    def changed_assets(self) -> set[str]:
        """Assets whose page may look different now."""
        return (
            self.assets.keys()
            | self.assets_gone
            | self.seen_assets.keys()
            | {row[0] for row in self.completions.values()}
            | {subject_of_key(key) for key in self.completions_gone}
        )

    def changed_streams(self) -> set[str]:
        """Assets of which something else is to be streamed now, or nothing any more. What grows says so itself, on `media.playlists`."""
        made = {row[0] for key, row in self.completions.items() if not key.endswith(PROGRESSIVE)}
        gone = {subject_of_key(key) for key in self.completions_gone}
        return made | gone | self.assets_gone | {name for name, row in self.assets.items() if row[2]}


_COMPLETION_KEY = re.compile(rf"(.+):(?:{'|'.join(kind.kind for kind in KINDS.values())})(?::[a-z]+)?")


def subject_of_key(key: str) -> str:
    """Of a completion's key: `{subject}:{kind}`, with `:failed` or `:progressive` behind it perhaps. Subjects may hold colons too."""
    found = _COMPLETION_KEY.fullmatch(key)
    return found[1] if found else key


def fold(records: Sequence[Received]) -> Folded:
    """Everything that the view wants to know of these records. What cannot be read is counted and left out."""
    folded = Folded()
    for record in records:
        try:
            _one(folded, record)
        except (envelope.Unreadable, UnicodeDecodeError, msgspec.MsgspecError):
            folded.unreadable += 1
    return folded


def _one(folded: Folded, record: Received) -> None:
    key = (record.key or b"").decode()
    if record.topic == topics.REQUESTS:
        _request(folded, record)
    elif not key or key.startswith("@"):
        return  # the coordinator's own
    elif record.topic == topics.JOBS:
        folded.jobs.pop(key, None)
        folded.jobs_gone.discard(key)
        if record.value is None:
            folded.jobs_gone.add(key)
        else:
            add_job(folded, envelope.decode(record.value, JobStatus), record.value, record.timestamp_ms)
    elif record.topic == topics.ASSETS:
        folded.assets.pop(key, None)
        folded.assets_gone.discard(key)
        if record.value is None:
            folded.assets_gone.add(key)
        else:
            add_asset(folded, envelope.decode(record.value, AssetChanged), record.value)
    elif record.topic == topics.COMPLETIONS:
        folded.completions_gone.discard(key)
        if record.value is None:
            folded.completions.pop(key, None)
            folded.completions_gone.add(key)
        else:
            _completion(folded, key, record)


def makes_asset(job: JobStatus) -> bool:
    """Whether its subject is an asset that is there because of it: a flat layout is made elsewhere."""
    return job.kind == TRANSCODE or (job.kind == STREAM and job.request.get("layout", "asset") == "asset")


def add_job(folded: Folded, job: JobStatus, value: bytes, recorded_ms: int) -> None:
    """A status."""
    folded.jobs[job.job_id] = _job_row(job, value, recorded_ms)
    # What follows upon another job must not bring back an asset that was deleted in between.
    if makes_asset(job) and (job.kind == TRANSCODE or "cause" not in job.request):
        _speaks_of(folded, job.subject, job.created_ms)


def add_accepted(folded: Folded, job: JobStatus, recorded_ms: int) -> None:
    """A job that was promised and has no status yet."""
    folded.accepted[job.job_id] = _job_row(job, msgspec.json.encode(job), recorded_ms)
    if makes_asset(job):
        _speaks_of(folded, job.subject, job.created_ms)


def add_asset(folded: Folded, asset: AssetChanged, value: bytes) -> None:
    """What people decided."""
    folded.assets[asset.asset_id] = (asset.asset_id, asset.created_ms, asset.updated_ms if asset.deleted else 0, value)


def _speaks_of(folded: Folded, asset_id: str, at_ms: int) -> None:
    first, newest = folded.seen_assets.get(asset_id, (at_ms, at_ms))
    folded.seen_assets[asset_id] = (min(first, at_ms), max(newest, at_ms))


def _job_row(job: JobStatus, value: bytes, recorded_ms: int) -> JobRow:
    return (
        job.job_id, job.kind, job.request_type, job.state, job.subject, job.owner, job.created_ms, job.updated_ms, recorded_ms,
        waiting_service(job), value,
    )  # fmt: skip


def _completion(folded: Folded, key: str, record: Received) -> None:
    read = envelope.read(record.headers, record.value)
    done = envelope.decode(read.data, JobFailed if read.type == "JobFailed" else Completion)
    known = folded.completions.get(key)
    if known is None or done.finished_ms >= known[3]:  # of another partition, perhaps: read later is not newer
        folded.completions[key] = (done.subject, done.kind, read.type, done.finished_ms, read.data)
    if read.type == "TranscodeCompleted" and done.subject not in folded.seen_assets:
        folded.seen_assets[done.subject] = (done.finished_ms, 0)


def _request(folded: Folded, record: Received) -> None:
    headers = dict(record.headers)
    if headers.get("ce_source") != SOURCE.encode() or record.value is None:
        return
    read = envelope.read(record.headers, record.value)
    kind = KINDS.get(read.type)
    if kind is None:
        return
    request = envelope.decode_any(read)
    if isinstance(request, Request) and request.job_id:
        job = accepted_status(
            request,
            request_type=read.type,
            kind=kind.kind,
            service=kind.service,
            subject=subject_of(request),
            source=SOURCE,
            at_ms=record.timestamp_ms,
        )
        add_accepted(folded, job, record.timestamp_ms)
