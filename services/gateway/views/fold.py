"""What a batch of records says, latest first of each key. Pure: the store writes it down."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from schemas import envelope, topics
from schemas.events import KINDS, AssetChanged, Completion, JobFailed, JobStatus, Request
from services.gateway.identity import SOURCE, subject_of
from services.gateway.views.projection import accepted_status, waiting_service
from services.gateway.views.times import LATEST_MS
from services.runtime.kafka.reader import Received
from services.runtime.telemetry.logging import get_logger

TOPICS = (topics.JOBS, topics.ASSETS, topics.COMPLETIONS, topics.REQUESTS)
"""What the view is made of. Of the requests only the gateways' own count: they are sound, and have been promised to clients."""
TRANSCODE = "transcode"
STREAM = "stream"
_UPLOAD = b"reelworks.UploadReceived"
PROGRESSIVE = ":stream:progressive"
"""End of the key of a StreamReady of a film that is still being encoded; that of the whole film ends with `:stream`."""

log = get_logger(__name__)
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
    promised_assets: dict[str, tuple[int, int]] = {}
    """The same of accepted jobs. When one begins it is its status that says since when the asset is there."""
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
            | self.promised_assets.keys()
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


def fold(records: Sequence[Received], subject_of_film: Callable[[str], str] = lambda job_id: "") -> Folded:
    """Everything that the view wants to know of these records. What cannot be read is counted and left out.

    `subject_of_film` answers the subject of a transcode of which there is a row already, "" for others: its request has
    nothing more to say.
    """
    folded = Folded()
    statuses: dict[bytes, list[Received]] = {}
    for record in records:
        if record.topic == topics.JOBS:
            statuses.setdefault(record.key or b"", []).append(record)
            continue
        try:
            _one(folded, record, subject_of_film)
        except Exception as wrong:
            _left_out(folded, record, wrong)
    for key, told in statuses.items():
        _status(folded, key, told)
    return folded


def _status(folded: Folded, key: bytes, told: list[Received]) -> None:
    """A job's statuses, in their order: only the last one that can be read is decoded."""
    if not key or key.startswith(b"@"):
        return  # the coordinator's own
    for record in reversed(told):
        try:
            if record.value is None:
                folded.jobs_gone.add(key.decode())
            else:
                job = envelope.decode(record.value, JobStatus)
                _check_times(job.created_ms, job.updated_ms, job.started_ms, job.finished_ms, job.deadline_ms)
                add_job(folded, job, record.value, record.timestamp_ms)
        except Exception as wrong:
            _left_out(folded, record, wrong)
        else:
            return


def _left_out(folded: Folded, record: Received, wrong: Exception) -> None:
    folded.unreadable += 1
    if not isinstance(wrong, envelope.Unreadable | UnicodeDecodeError | msgspec.MsgspecError):
        # A defect of ours, or what a foreign hand wrote. Read again it would end the same way, and the view must not stand still.
        log.error("a record was left out of the view", topic=record.topic, partition=record.partition, offset=record.offset, exc_info=wrong)


def _one(folded: Folded, record: Received, subject_of_film: Callable[[str], str]) -> None:
    if record.topic == topics.REQUESTS:
        _request(folded, record, subject_of_film)
        return
    key = (record.key or b"").decode()
    if not key:
        return
    if record.topic == topics.ASSETS:
        if record.value is None:
            folded.assets.pop(key, None)
            folded.assets_gone.add(key)
        else:
            asset = envelope.decode(record.value, AssetChanged)
            _check_times(asset.created_ms, asset.updated_ms)
            folded.assets.pop(key, None)
            folded.assets_gone.discard(key)
            add_asset(folded, asset, record.value)
    elif record.topic == topics.COMPLETIONS:
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
        _speaks_of(folded.seen_assets, job.subject, job.created_ms)


def add_accepted(folded: Folded, job: JobStatus, recorded_ms: int) -> None:
    """A job that was promised and has no status yet."""
    folded.accepted[job.job_id] = _job_row(job, msgspec.json.encode(job), recorded_ms)
    if makes_asset(job):
        _speaks_of(folded.promised_assets, job.subject, job.created_ms)


def add_asset(folded: Folded, asset: AssetChanged, value: bytes) -> None:
    """What people decided."""
    folded.assets[asset.asset_id] = (asset.asset_id, asset.created_ms, asset.updated_ms if asset.deleted else 0, value)


def _speaks_of(assets: dict[str, tuple[int, int]], asset_id: str, at_ms: int) -> None:
    first, newest = assets.get(asset_id, (at_ms, at_ms))
    assets[asset_id] = (min(first, at_ms), max(newest, at_ms))


def _job_row(job: JobStatus, value: bytes, recorded_ms: int) -> JobRow:
    return (
        job.job_id, job.kind, job.request_type, job.state, job.subject, job.owner, job.created_ms, job.updated_ms, recorded_ms,
        waiting_service(job), value,
    )  # fmt: skip


def _completion(folded: Folded, key: str, record: Received) -> None:
    read = envelope.read(record.headers, record.value)
    done = envelope.decode_any(read)
    if not isinstance(done, Completion | JobFailed):
        raise envelope.Unreadable(f"{read.type} is no outcome")
    _check_times(done.finished_ms)
    folded.completions_gone.discard(key)
    known = folded.completions.get(key)
    if known is None or done.finished_ms >= known[3]:  # of another partition, perhaps: read later is not newer
        folded.completions[key] = (done.subject, done.kind, read.type, done.finished_ms, read.data)
    if read.type == "TranscodeCompleted" and done.subject not in folded.seen_assets:
        folded.seen_assets[done.subject] = (done.finished_ms, 0)


def _check_times(*times_ms: int) -> None:
    if not all(0 <= ms <= LATEST_MS for ms in times_ms):
        raise envelope.Unreadable(f"of the times {times_ms} one is none")


def _request(folded: Folded, record: Received, subject_of_film: Callable[[str], str]) -> None:
    headers = dict(record.headers)
    if headers.get("ce_source") != SOURCE.encode() or record.value is None:
        return
    # Gateways use the job's id as the key.
    if (subject := subject_of_film((record.key or b"").decode())) and headers.get("ce_type") == _UPLOAD:
        _speaks_of(folded.promised_assets, subject, record.timestamp_ms)
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
