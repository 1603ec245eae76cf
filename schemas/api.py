"""What the gateway's HTTP API takes and answers. `schemas/openapi.py` describes the routes with these.

Times are RFC 3339 in UTC with milliseconds, in fields that end in `_at`; durations are seconds, sizes are bytes.
Requests ignore fields they do not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from schemas.events import FailureClass, Key, Recipe, State, ZipEntry

MAX_QUERY_IDS = 1000
"""Jobs that one `POST /v1/jobs/query` may ask for."""
MAX_PAGE = 200
"""Items of one page of a listing."""
MAX_ARCHIVE_ASSETS = 1000
"""Films that one `POST /v1/archives` may name."""

Title = Annotated[str, Meta(max_length=300)]
Filename = Annotated[str, Meta(min_length=1, max_length=4096, description="A name in any script; folders in it are ignored.")]


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """Short for a `CallbackRequested` in both `then` and `otherwise`."""

    url: Annotated[str, Meta(min_length=8, max_length=2048)]


class NewUpload(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /v1/uploads: what is going to be sent to storage directly."""

    filename: Filename
    size: Annotated[int, Meta(ge=1)]
    content_type: Annotated[str, Meta(max_length=200)] = ""
    title: Title = ""
    recipe: Recipe = Recipe()
    owner: Annotated[str, Meta(max_length=128)] = ""
    callback: Callback | None = None


class SignedTarget(msgspec.Struct, frozen=True, kw_only=True):
    """How to send the bytes: exactly this method, URL and headers."""

    method: str
    url: str
    headers: dict[str, str]
    expires_at: str


class UploadTicket(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to POST /v1/uploads. Send the bytes, then POST to `complete_url`."""

    upload_id: str
    asset_id: str
    upload: SignedTarget
    complete_url: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The broker has the request; follow it under `status_url`."""

    asset_id: str
    job_id: str
    state: State
    status_url: str
    events_url: str
    asset_url: str = ""
    watch_url: str = ""


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /v1/jobs: an event of `media.requests` by its name, and its fields."""

    type: Annotated[str, Meta(min_length=1, max_length=100)]
    data: dict[str, Any]
    callback: Callback | None = None


class JobQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /v1/jobs/query."""

    ids: Annotated[list[str], Meta(max_length=MAX_QUERY_IDS)]


class Cancellation(msgspec.Struct, frozen=True, kw_only=True):
    """Optional body of POST /v1/jobs/{id}/cancel."""

    reason: Annotated[str, Meta(max_length=500)] = ""


class TaskCounts(msgspec.Struct, frozen=True, kw_only=True):
    total: int
    done: int
    running: int


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt at a task that did not succeed."""

    task: str
    attempt: int
    failure_class: FailureClass
    message: str
    at: str
    worker: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job failed."""

    code: str
    message: str
    hint: str


class OutputView(msgspec.Struct, frozen=True, kw_only=True):
    """An object that the job has written, with a signed URL that can be fetched as it is."""

    role: str
    name: str
    url: str
    bucket: str
    key: str
    size: int
    content_type: str
    width: int
    height: int
    bit_rate: int
    codecs: str


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a job, in words and numbers for a person."""

    job_id: str
    kind: str
    type: str
    state: State
    progress: float
    """0 to 1."""
    eta_seconds: int | None
    waiting_for: str | None
    note: str
    title: str
    subject: str
    owner: str
    tasks: TaskCounts
    attempt_count: int
    attempts: list[Attempt]
    """The last ten that did not succeed."""
    outputs: list[OutputView]
    error: Problem | None
    data: dict[str, Any]
    runs: int
    created_at: str
    updated_at: str
    started_at: str | None
    finished_at: str | None
    deadline_at: str | None


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    jobs: list[JobView]
    next_cursor: str | None


class JobsFound(msgspec.Struct, frozen=True, kw_only=True):
    jobs: list[JobView]
    missing: list[str]


class RenditionView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    url: str
    width: int
    height: int
    bit_rate: int
    size: int
    content_type: str
    codecs: str


class AssetView(msgspec.Struct, frozen=True, kw_only=True):
    """A film of the library: what people decided about it, and what was made of it."""

    asset_id: str
    title: str
    filename: str
    owner: str
    visibility: Literal["private", "public"]
    state: State
    """Of its newest transcode job."""
    job_id: str
    status_url: str
    watch_url: str
    progress: float
    error: Problem | None
    duration_seconds: float | None
    width: int | None
    height: int | None
    frame_rate: float | None
    has_audio: bool | None
    has_video: bool | None
    size: int
    content_type: str
    renditions: list[RenditionView]
    """Best first."""
    poster_url: str | None
    thumbnail_url: str | None
    hls_url: str | None
    """Master playlist of its stream, for any player: the playback token is in it, and in every URI that it leads to."""
    storyboard_url: str | None
    """WebVTT with a picture of the film for each moment of it."""
    live: bool
    """Whether the film is still being encoded: it can be watched from its beginning, and its playlists grow."""
    created_at: str
    updated_at: str


class Playback(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to POST /v1/assets/{id}/playback, which also sets the cookie that opens these URLs."""

    hls_url: str
    storyboard_url: str | None
    live: bool
    encrypted: bool
    expires_at: str
    """Of the cookie. In the last quarter of its life the same request brings a new one."""


class AssetPage(msgspec.Struct, frozen=True, kw_only=True):
    assets: list[AssetView]
    next_cursor: str | None


class AssetPatch(msgspec.Struct, frozen=True, kw_only=True):
    """Body of PATCH /v1/assets/{id}; what is left out stays."""

    title: Annotated[str, Meta(min_length=1, max_length=300)] | msgspec.UnsetType = msgspec.UNSET
    visibility: Literal["private", "public"] | msgspec.UnsetType = msgspec.UNSET


class NewArchive(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /v1/archives: films of the library, each by the best MP4 that was made of it."""

    assets: Annotated[list[str], Meta(min_length=1, max_length=MAX_ARCHIVE_ASSETS)]
    """Their ids. The same one twice counts once."""
    title: Title = ""
    """Of the archive, and the name under which browsers save it. Left out, it is made from the films."""
    owner: Annotated[str, Meta(max_length=128)] = ""
    callback: Callback | None = None


class ArchiveWish(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /v1/archives/download and POST /v1/archives/links: objects one by one and films, or all objects below a prefix."""

    entries: list[ZipEntry] = []
    bucket: str = ""
    """Of `prefix`, and of entries that name none. Left out: the bucket of `REELWORKS_STORAGE_URL`."""
    prefix: Annotated[str, Meta(max_length=1024)] = ""
    """In place of `entries` and `assets`: names in the archive are the keys."""
    assets: list[str] = []
    """Ids of films: the best MP4 of each, under its title, behind the entries."""
    name: Annotated[str, Meta(max_length=300)] = ""
    """Under which browsers save the archive. Left out, it is made from the prefix."""


class ArchiveLink(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to POST /v1/archives/links: where anybody may download what was selected, until it expires."""

    url: str
    expires_at: str
    entries: int
    """Objects that are in the archive at this moment."""
    size: int
    """Bytes of the archive at this moment."""


class FolderName(msgspec.Struct, frozen=True, kw_only=True):
    """A folder at the top of the default bucket."""

    name: str


class FolderList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to GET /v1/folders, by name."""

    folders: list[FolderName]


class FolderTitle(msgspec.Struct, frozen=True, kw_only=True):
    """A film as it lies in a folder: a file, or an HLS stream in `NAME.hls/`."""

    name: str
    """The file's name, or NAME."""
    kind: Literal["hls", "file"]
    key: str
    """Of the file, or of the stream's `output.m3u8`."""
    size: int
    """Of the object at `key`: of a stream it is its playlist's."""
    modified_at: str
    content_type: str
    play_url: str | None
    """What a browser may be able to play; null for files that none can. It expires: ask again."""
    convertible: bool
    """Whether POST /v1/jobs with `UploadReceived` and `key` makes a film of it that every browser can play."""


class FolderView(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to GET /v1/folders/{folder}, by name."""

    folder: str
    titles: list[FolderTitle]


class AssetDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to DELETE /v1/assets/{id}."""

    asset_id: str
    objects_removed: int
    kept: list[str]
    """Objects of the asset that lie elsewhere and were not made by us: its source, when it was there before."""


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457: what was wrong, with which value, what is accepted."""

    type: str
    title: str
    status: int
    detail: str
    value: Any = None
    accepted: Any = None
    remaining: dict[str, str] = {}
    """DELETE of an asset: the objects that could not be removed, each with the reason."""


class Videos(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /videos, the wire of an older transcoder."""

    inputObject: Key
    webhook: Annotated[str, Meta(min_length=8, max_length=2048)]


class VideosAnswer(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["transcoding"] = "transcoding"


class OldZip(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /zip, the wire of an older service: `files` become the archive `target`, which is replaced when it is there."""

    files: Annotated[list[Key], Meta(min_length=1)]
    target: Key


class OldError(msgspec.Struct, frozen=True, kw_only=True):
    """An error of POST /videos, as its clients know it."""

    message: str
