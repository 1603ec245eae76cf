"""Every request, task, event, status and completion that travels over Kafka.

Writers are strict: what they build is checked against these types. Readers ignore fields they do not know, so a field
may be added at any time; removing or renaming one, or making one required, is an incompatible change and is refused by
`python -m schemas.generate --check`.

Times are integers, milliseconds since 1970-01-01T00:00:00Z, in fields that end in `_ms`; durations are seconds in
fields that end in `_seconds`; sizes are bytes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Key = Annotated[str, Meta(min_length=1, max_length=1024, description="Object key, 1 to 1024 characters.")]
_IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$(?!\n)"
"""The last part, since Python's `$` also stands before a line feed at the end."""
Identifier = Annotated[
    str,
    Meta(
        pattern=_IDENTIFIER,
        description="1 to 128 of A-Z a-z 0-9 . _ : - , not beginning with punctuation.",
    ),
]
State = Literal["queued", "planning", "running", "finishing", "succeeded", "failed", "cancelled"]
FailureClass = Literal["permanent", "transient", "cancelled", "worker-lost", "timed-out"]
TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


def is_identifier(text: str) -> bool:
    """Whether a text is what `Identifier` stands for, and so can be a part of an object's key."""
    return re.search(_IDENTIFIER, text) is not None


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Root of everything that is sent. Immutable; fields equal to their default are left out on the wire."""


# ── What things are made of ────────────────────────────────────────────────────────────────────────────────────────


class ErrorInfo(Message, frozen=True, kw_only=True):
    """Why something failed, in words for a person."""

    code: str
    """Stable, kebab-case, for programs: `not-a-video`, `worker-lost`."""
    message: str
    """What was wrong, with which input, and what is accepted."""
    hint: str = ""
    """What to do about it."""
    failure_class: FailureClass = "permanent"


class Output(Message, frozen=True, kw_only=True):
    """One object that a job has written."""

    role: str
    """`rendition`, `poster`, `thumbnail`, `init`, `playlist`, `archive`, …"""
    bucket: str
    key: str
    size: int = 0
    content_type: str = "application/octet-stream"
    name: str = ""
    """For people: `720p`."""
    width: int = 0
    height: int = 0
    bit_rate: int = 0
    """Measured mean, bits per second."""
    codecs: str = ""
    """RFC 6381."""
    etag: str = ""


class Outcome(Message, frozen=True, kw_only=True):
    """How a job ended; put by the coordinator into the requests of its `then` and `otherwise`."""

    job_id: str
    kind: str
    subject: str
    state: State
    outputs: tuple[Output, ...] = ()
    data: dict[str, Any] = {}
    error: ErrorInfo | None = None
    finished_ms: int = 0


class FollowUp(Message, frozen=True, kw_only=True):
    """A request that the coordinator emits when a job ends, in the same transaction."""

    type: str
    """The request's name, such as `CallbackRequested`."""
    data: dict[str, Any]
    """The request itself; the coordinator adds `cause`."""


# ── media.requests ─────────────────────────────────────────────────────────────────────────────────────────────────


class Request(Message, frozen=True, kw_only=True):
    """What every request for work may carry."""

    job_id: Identifier | None = None
    """Left out, it is uuid5 of the CloudEvents source and id, so that the same request twice is one job."""
    owner: Annotated[str, Meta(max_length=128)] = ""
    """Whose work it is. Capacity is shared evenly between owners."""
    then: tuple[FollowUp, ...] = ()
    otherwise: tuple[FollowUp, ...] = ()
    deadline_seconds: Annotated[int, Meta(ge=1, le=30 * 86400)] | None = None
    """The job fails as `deadline` when it has not ended by then. Default: seven days; callbacks: one day."""
    cause: Outcome | None = None
    """How the job ended that this request follows upon; set by the coordinator."""


class Watermark(Message, frozen=True, kw_only=True):
    """An image laid over every frame."""

    key: Key
    bucket: str = ""
    opacity: Annotated[float, Meta(ge=0, le=1)] = 0.7
    position: Literal["top-left", "top-right", "bottom-left", "bottom-right", "center"] = "top-right"
    width: Annotated[float, Meta(gt=0, le=1)] = 0.25
    """Its width as a fraction of the picture's."""
    offset: Annotated[int, Meta(ge=0, le=1000)] = 20
    """Distance from the edges in pixels of a picture 1080 high; it scales with the picture."""


class Recipe(Message, frozen=True, kw_only=True):
    """What a transcode is to make. Equal recipes give equal keys, so the same film twice is written once."""

    heights: tuple[Annotated[int, Meta(ge=16, le=4320)], ...] = ()
    """The rungs wanted, by height; never above the source. Empty: the standard ladder."""
    watermark: Watermark | None = None
    thumbnail_at: Annotated[str, Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,3})?[%s]$(?!\n)")] = "10%"
    """Where poster and thumbnail are taken: `10%` of the duration or `1s`. Clamped into the film."""
    layout: Literal["asset", "beside"] = "asset"
    """`asset`: under assets/{asset}/. `beside`: one .mp4 and one .jpg in the folder of the input."""
    hls: bool = True
    """Whether HLS follows: the job's `then` gets a StreamRequested when it has none. Never with the layout `beside`."""
    encryption: Literal["none", "aes-128"] = "none"
    """Of the segments: `aes-128` with a random key and IV per asset; the gateway hands the key to those who may watch."""


class UploadReceived(Request, frozen=True, kw_only=True):
    """A video is in storage: make it playable."""

    key: Key
    bucket: str = ""
    """Left out: the bucket of `REELWORKS_STORAGE_URL`."""
    asset_id: Identifier | None = None
    """Left out, it is uuid5 of bucket and key."""
    filename: Annotated[str, Meta(max_length=300)] = ""
    title: Annotated[str, Meta(max_length=300)] = ""
    content_type: str = ""
    size: Annotated[int, Meta(ge=0)] | None = None
    etag: str = ""
    recipe: Recipe = Recipe()


class ZipEntry(Message, frozen=True, kw_only=True):
    """One object of an archive."""

    key: Key
    bucket: str = ""
    """Left out: the request's `bucket`."""
    etag: str = ""
    """Given: the object must still be this one."""
    name: Annotated[str, Meta(max_length=65535)] = ""
    """In the archive. Left out: the key. No absolute path, no `..`."""


class ObjectRef(Message, frozen=True, kw_only=True):
    """An object by its name."""

    key: Key
    bucket: str = ""


class ZipRequested(Request, frozen=True, kw_only=True):
    """Make an archive of objects: of those that are listed, or of all whose key begins with a prefix."""

    target: ObjectRef
    """Appears whole and correct, or not at all. Never one of the entries."""
    entries: tuple[ZipEntry, ...] = ()
    prefix: Annotated[str, Meta(max_length=1024)] = ""
    """In place of `entries`: names in the archive are the keys."""
    bucket: str = ""
    """Of `prefix`, and of entries that name none. Left out: the bucket of `REELWORKS_STORAGE_URL`."""
    manifest: ObjectRef | None = None
    """In place of `entries`: an object that has them, as a JSON array. For more of them than fit in an event."""
    method: Literal["auto", "store", "deflate"] = "auto"
    """`auto`: what is compressed already, such as video, is stored, the rest deflated."""
    if_exists: Literal["refuse", "replace"] = "refuse"
    """What to do when there is an object of the target's name."""
    title: Annotated[str, Meta(max_length=300)] = ""


class StreamRequested(Request, frozen=True, kw_only=True):
    """Make HLS of a film: of an asset that was transcoded, or of any object in storage."""

    asset_id: Identifier | None = None
    """With no `key`: an asset that has been transcoded. With one, left out: uuid5 of bucket and key."""
    key: str = ""
    """The object. It is packaged as it is where that is possible, else transcoded first."""
    bucket: str = ""
    """Left out: the bucket of `REELWORKS_STORAGE_URL`."""
    title: Annotated[str, Meta(max_length=300)] = ""
    layout: Literal["asset", "flat-ts"] = "asset"
    """`asset`: CMAF under assets/{asset}/. `flat-ts`: output.m3u8 and MPEG-TS segments in the folder `target`."""
    target: Annotated[str, Meta(max_length=900)] = ""
    """With `flat-ts`: the folder, such as `Holidays/Crete.hls/`."""
    target_bucket: str = ""
    """Left out: the bucket of the object."""
    recipe: Recipe = Recipe()
    """For the transcode, when one is needed. With `flat-ts` its `heights` ask for a master of several; none: the best one alone."""


class IndexRequested(Request, frozen=True, kw_only=True):
    """Make a film searchable."""

    asset_id: Identifier
    key: str = ""
    bucket: str = ""


class CallbackRequested(Request, frozen=True, kw_only=True):
    """Tell another system by HTTP POST how a job ended."""

    url: Annotated[str, Meta(min_length=8, max_length=2048)]
    format: Literal["event", "videos"] = "event"
    """`event`: the outcome as JSON. `videos`: `{status, inputObject, outputObject, thumbnail}`."""
    input_object: str = ""
    """For `videos`: the input's key exactly as it was sent."""


class CancelRequested(Message, frozen=True, kw_only=True):
    """End a job. No effect on one that has ended."""

    job_id: Identifier
    reason: str = ""


class RetryRequested(Message, frozen=True, kw_only=True):
    """Begin a failed or cancelled job again where it stopped. No effect on others."""

    job_id: Identifier


# ── media.job-events ───────────────────────────────────────────────────────────────────────────────────────────────


class JobRequested(Message, frozen=True, kw_only=True):
    """A request that the intake has read and found sound."""

    job_id: str
    kind: str
    service: str
    subject: str
    """What the job is about: the asset's or the target's id."""
    request_type: str
    request: dict[str, Any]
    owner: str = ""
    source: str = ""
    """CloudEvents source of the producer."""
    title: str = ""
    traceparent: str = ""
    deadline_seconds: int = 7 * 86400


ATTEMPTS_A_RUN = 10_000
"""Attempts of a job's second run, after a retry by hand, are numbered from here on: what a worker of the first run says late
is recognised."""
PLAN_MISSING = "plan-missing"
"""Code of the failure of a task whose job's plan is not in storage any more. A retry by hand then plans anew."""
CLEANUP_STAGE = -1
"""Stage number of the task that tidies up after the end of a job."""


class TaskStarted(Message, frozen=True, kw_only=True):
    job_id: str
    stage: int
    number: int
    attempt: int
    worker: str


class StagePlan(Message, frozen=True, kw_only=True):
    """What the coordinator must know of a stage."""

    name: str
    service: str
    tasks: int


class TaskFinished(Message, frozen=True, kw_only=True):
    job_id: str
    stage: int
    number: int
    attempt: int
    worker: str
    plan_hash: str = ""
    """With a plan task: of the plan that it has written."""
    needs: FollowUp | None = None
    """With a plan task: another job that must come first. The coordinator asks for it; when it has ended, this job is planned
    again with its outcome as `cause`."""
    stages: tuple[StagePlan, ...] = ()
    outputs: tuple[Output, ...] = ()
    """With a finish task: what the job has made."""
    data: dict[str, Any] = {}
    """With a finish task: the other fields of the completion."""


class TaskFailed(Message, frozen=True, kw_only=True):
    job_id: str
    stage: int
    number: int
    attempt: int
    worker: str
    error: ErrorInfo


class TaskReturned(Message, frozen=True, kw_only=True):
    """The worker is going and has not finished the task. Does not count as a failure."""

    job_id: str
    stage: int
    number: int
    attempt: int
    worker: str


# ── media.tasks.<service>, media.control, media.workers ────────────────────────────────────────────────────────────


class TaskReleased(Message, frozen=True, kw_only=True):
    """Work for a slot. What exactly is to be done stands in the plan, in storage."""

    job_id: str
    kind: str
    role: Literal["plan", "run", "finish", "cleanup"]
    stage: int
    number: int
    attempt: int
    subject: str = ""
    plan_hash: str = ""
    request_type: str = ""
    request: dict[str, Any] = {}
    """With plan and cleanup tasks only; the others find it in the plan."""
    outcome: str = ""
    """With a cleanup task: the state in which the job ended."""
    alone: bool = False
    """No other task may run beside it in the same process: workers were lost over it, and the next one would be one too many."""


class JobCancelled(Message, frozen=True, kw_only=True):
    """To every worker: stop what you do for this job. Its cleanup is not meant."""

    job_id: str
    attempts_below: int = 1_000_000_000
    """Only attempts below this one: a retry by hand numbers on from there, and its tasks are wanted."""


class RunningTask(Message, frozen=True, kw_only=True):
    job_id: str
    stage: int
    number: int
    attempt: int
    progress: float = 0.0
    note: str = ""


class WorkerSeen(Message, frozen=True, kw_only=True):
    """A worker's heartbeat; also a coordinator's own echo (`service` = `coordinator`)."""

    worker: str
    service: str
    slots: int = 0
    partitions: tuple[int, ...] = ()
    """Of `media.tasks.<service>` (a coordinator: of `media.job-events`) that it owns."""
    running: tuple[RunningTask, ...] = ()
    version: str = ""
    bye: bool = False


# ── media.jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────


class StageStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    name: str
    service: str
    total: int
    done: int = 0


class Outstanding(msgspec.Struct, array_like=True):
    """A task that is released and has not ended. An array on the wire, to keep statuses small."""

    number: int
    attempt: int
    partition: int
    worker: str = ""
    """Empty until it started."""
    progress: float = 0.0


class Again(msgspec.Struct, array_like=True):
    """A task that waits to be released once more."""

    number: int
    attempt: int
    """The attempt that it will be."""
    due_ms: int = 0


class FailureCount(msgspec.Struct, array_like=True):
    number: int
    failure_class: FailureClass
    count: int


class AttemptNote(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An attempt that did not succeed, for people. The last ten are kept."""

    task: str
    attempt: int
    failure_class: FailureClass
    message: str
    at_ms: int
    worker: str = ""


class JobStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The whole state of a job, latest wins. The coordinator's memory is made of these records and nothing else."""

    job_id: str
    kind: str
    service: str
    subject: str
    state: State
    request_type: str
    request: dict[str, Any]
    owner: str = ""
    source: str = ""
    title: str = ""
    traceparent: str = ""
    created_ms: int
    updated_ms: int
    started_ms: int = 0
    finished_ms: int = 0
    deadline_ms: int = 0
    deadline_seconds: int = 0
    """How long each run may take. 0: written by an earlier version."""
    stages: list[StageStatus] = []
    """plan, the planned ones, finish, cleanup."""
    stage: int = 0
    """Index of the stage that is under way."""
    plan_hash: str = ""
    cursor: int = 0
    """Lowest task number of the stage that was never released."""
    finished: str = ""
    """Bitmap of the stage's finished tasks: base64 of little-endian bytes."""
    outstanding: list[Outstanding] = []
    again: list[Again] = []
    failures: list[FailureCount] = []
    attempts: list[AttemptNote] = []
    progress: float = 0.0
    note: str = ""
    error: ErrorInfo | None = None
    outputs: tuple[Output, ...] = ()
    data: dict[str, Any] = {}
    runs: int = 1
    """1, and one more with each retry by hand."""
    cleanup: Literal["", "waiting", "done"] = ""
    """Of an ended job: whether its plan and results are still to be removed. Its task counts as stage -1."""
    tidied: int = 0
    """How often this run was tidied up: more than once where a plan was stored after the end."""
    needs: str = ""
    """The job that must end before this one can be planned."""
    retry_wanted: bool = False
    """A retry was asked for while the cleanup was under way; it begins when that is over."""


class Position(Message, frozen=True, kw_only=True):
    """Value of the key `@offset`: the next offset of the same partition of `media.job-events` to be read."""

    next: int


# ── media.assets, media.completions, media.segments ────────────────────────────────────────────────────────────────


class AssetChanged(Message, frozen=True, kw_only=True):
    """What people decide about an asset: the whole of it, latest wins. Only the gateway writes it."""

    asset_id: str
    title: str
    created_ms: int
    updated_ms: int
    owner: str = ""
    filename: str = ""
    bucket: str = ""
    key: str = ""
    size: int = 0
    content_type: str = ""
    visibility: Literal["private", "public"] = "private"
    deleted: bool = False


class Completion(Message, frozen=True, kw_only=True):
    job_id: str
    subject: str
    kind: str
    outputs: tuple[Output, ...] = ()
    finished_ms: int = 0


class TranscodeCompleted(Completion, frozen=True, kw_only=True):
    asset_id: str
    bucket: str = ""
    """Of the source."""
    key: str = ""
    title: str = ""
    duration_seconds: float = 0.0
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    frames: int = 0
    has_audio: bool = False
    has_video: bool = True
    recipe: str = ""
    """Short hash of the recipe, the folder of its renditions."""


class StreamReady(Completion, frozen=True, kw_only=True):
    asset_id: str
    bucket: str = ""
    """Of the playlists."""
    master: str = ""
    """Key of the playlist to open: the master, or output.m3u8."""
    progressive: bool = False
    """The film is still being encoded: it can be watched from its beginning, and its playlists grow."""
    recipe: str = ""
    """The folder of its renditions below the asset's."""
    layout: Literal["asset", "flat-ts"] = "asset"
    duration_seconds: float = 0.0
    encrypted: bool = False
    """Whether a player must fetch a key."""


class IndexCompleted(Completion, frozen=True, kw_only=True):
    asset_id: str


class ZipCompleted(Completion, frozen=True, kw_only=True):
    target: ObjectRef | None = None
    size: int = 0
    """Of the archive."""
    entries: int = 0
    crc_sources: dict[str, int] = {}
    """How many entries' CRC-32 came from where: `own` (kept from an earlier archive), `head` (the store's metadata), `copy` (its
    answer to the copy), `read` (a pass over the object), `moved` (on the way through a worker)."""
    bytes_in: int = 0
    """Read by workers."""
    bytes_out: int = 0
    """Written by workers."""
    copied_bytes: int = 0
    """Copied inside the store."""
    seconds: float = 0.0
    """From planning to the end."""
    cpu_seconds: float = 0.0
    """Of all workers."""


class CallbackDelivered(Completion, frozen=True, kw_only=True):
    url: str = ""
    http_status: int = 0
    tries: int = 1


class JobFailed(Message, frozen=True, kw_only=True):
    """Key `{subject}:{kind}:failed`, so that a failed repetition does not hide what an earlier job has made."""

    job_id: str
    subject: str
    kind: str
    state: Literal["failed", "cancelled"]
    error: ErrorInfo | None = None
    finished_ms: int = 0


class Segment(Message, frozen=True, kw_only=True):
    number: int
    key: str
    duration_seconds: float
    size: int


class SegmentsReady(Message, frozen=True, kw_only=True):
    """Segments of one rendition that are in storage and can be played."""

    asset_id: str
    job_id: str
    bucket: str
    recipe: str
    rendition: str
    """`video-720`, `audio-und`."""
    init_key: str
    segments: tuple[Segment, ...]
    renditions: tuple[str, ...] = ()
    """All that this job will make."""
    total: int = 0
    """How many segments the rendition will have; 0 when that is not known yet."""
    codecs: str = ""
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    language: str = "und"
    """Of sound: ISO 639, `und` when the source does not tell."""
    label: str = ""
    """Of sound: what the source calls the track."""
    default: bool = False
    """Of sound: whether it plays when nobody chose."""
    channels: int = 0
    """Of sound."""
    ceiling: int = 0
    """Bits per second that the encoder stays under, over two seconds."""
    iv: str = ""
    """With AES-128: 32 hexadecimal digits; the key lies beside the master playlist. Empty: not encrypted."""


# ── media.playlists ────────────────────────────────────────────────────────────────────────────────────────────────


class PlaylistChanged(Message, frozen=True, kw_only=True):
    """A playlist that grows was written again: whoever keeps a copy of the older one may drop it."""

    asset_id: str
    bucket: str
    key: str
    etag: str
    segments: int = 0
    """How many it lists; 0 for a master."""
    ended: bool = False
    """It will not change any more."""


# ── Registry ───────────────────────────────────────────────────────────────────────────────────────────────────────

TYPE_PREFIX = "reelworks."
"""CloudEvents `type` is this and the struct's name: `reelworks.UploadReceived`."""

REQUESTS: tuple[type[Message], ...] = (
    UploadReceived, ZipRequested, StreamRequested, IndexRequested, CallbackRequested, CancelRequested, RetryRequested,
)  # fmt: skip
JOB_EVENTS: tuple[type[Message], ...] = (
    JobRequested, CancelRequested, RetryRequested, TaskStarted, TaskFinished, TaskFailed, TaskReturned,
)  # fmt: skip
COMPLETIONS: tuple[type[Message], ...] = (
    TranscodeCompleted, StreamReady, IndexCompleted, ZipCompleted, CallbackDelivered, JobFailed,
)  # fmt: skip
OTHERS: tuple[type[msgspec.Struct], ...] = (
    TaskReleased, JobCancelled, WorkerSeen, JobStatus, Position, AssetChanged, SegmentsReady, PlaylistChanged,
)  # fmt: skip

BY_NAME: dict[str, type[msgspec.Struct]] = {t.__name__: t for t in (*REQUESTS, *JOB_EVENTS, *COMPLETIONS, *OTHERS)}


class Kind(msgspec.Struct, frozen=True):
    """What a request becomes: the job's kind, the service whose plan it begins with, the event that ends it well."""

    kind: str
    service: str
    completion: str
    served: bool
    """Whether this version has the service."""


KINDS: dict[str, Kind] = {
    "UploadReceived": Kind("transcode", "transcoder", "TranscodeCompleted", True),
    "StreamRequested": Kind("stream", "streamer", "StreamReady", True),
    "ZipRequested": Kind("zip", "zipper", "ZipCompleted", True),
    "IndexRequested": Kind("index", "indexer", "IndexCompleted", False),
    "CallbackRequested": Kind("callback", "notifier", "CallbackDelivered", True),
}
SERVICES: tuple[str, ...] = ("transcoder", "streamer", "zipper", "indexer", "notifier")
