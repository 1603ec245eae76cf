"""The gateway's HTTP API as an OpenAPI 3.1 document, made from the structs in `api.py`. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from schemas import api
from schemas.events import KINDS, State

Json = dict[str, Any]
Struct = type[msgspec.Struct]

VERSION: Final = "1.0.0"
"""Of the API: the first number changes with an incompatible change, which also changes the path's /v1."""
_PROBLEM_TYPE: Final = "application/problem+json"
_STATES: Final[tuple[State, ...]] = ("queued", "planning", "running", "finishing", "succeeded", "failed", "cancelled")

PROBLEMS: Final[dict[int, str]] = {
    400: "What was sent is wrong: `detail` says what, `value` with which value, `accepted` what is accepted.",
    401: "The API token is missing or wrong; with a stream, the playback token is missing or has expired; a signed link has expired.",
    403: "Not allowed: a bucket or callback host that is on no allow-list, a wrong or expired signature, a playback token that is forged "
    "or another film's, a page of another site.",
    404: "There is no such thing.",
    405: "Another method is possible here; see Allow.",
    408: "The client fell silent; nothing was kept.",
    409: "The state of the job, asset, upload or object does not allow it now.",
    411: "The length of the upload is not known.",
    413: "Too large; the limit is named.",
    415: "The body has another content type than JSON.",
    416: "No byte of the object lies in the range.",
    417: "Only 100-continue is known.",
    422: "The same Idempotency-Key came with another body.",
    429: "Too many archives of this owner are being made; send it again after Retry-After.",
    501: "This version does not have the service.",
    502: "The object store could not remove everything; see `remaining`.",
    503: "Kafka or the object store is away, or all places are taken: nothing was accepted, send it again after Retry-After.",
    507: "The store is full: nothing was kept, send it again when somebody has made room.",
}


class Answer(msgspec.Struct, frozen=True):
    """What a route answers when all is well."""

    about: str
    body: Struct | str | None = None
    """A struct of `api.py`, a media type for anything else, None for no body."""
    headers: tuple[str, ...] = ()


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation."""

    method: str
    path: str
    name: str
    about: str
    answers: dict[int, Answer]
    problems: tuple[int, ...] = ()
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: Struct | str | None = None
    body_required: bool = True
    open: bool = False
    """Whether no API token is needed."""
    playback: bool = False
    """Whether a playback token is."""
    link: bool = False
    """Whether the signature of a link will do as well as the API token."""
    zip_secret: bool = False
    """Whether the secret of the old zip wire is."""


def _text(**more: Any) -> Json:
    return {"type": "string", **more}


def _texts(**more: Any) -> Json:
    """A parameter that may be repeated."""
    return {"type": "array", "items": _text(**more)}


PARAMETERS: Final[dict[str, tuple[str, Json]]] = {
    "job_id": ("A job's id.", _text()),
    "asset_id": ("An asset's id.", _text()),
    "upload_id": ("As POST /v1/uploads answered it.", _text()),
    "filename": ("Name of the file, percent-encoded, in any script.", _text()),
    "key": ("Object key, percent-encoded; slashes stand as they are.", _text()),
    "name": ("A file's name with its fingerprint.", _text()),
    "folder": ("Name of a folder at the top of the default bucket, percent-encoded.", _text()),
    "film": ("`NAME.hls`, percent-encoded.", _text(pattern=r"^[^/]+\.hls$")),
    "file": ("`output.m3u8`, another playlist, or a segment that ends in `.ts`.", _text()),
    "path": (
        "`{recipe}/master.m3u8`, `{recipe}/{rendition}/index.m3u8`, `iframes.m3u8`, `init.mp4` and `00000.m4s` beside that one, "
        "`{recipe}/aes.key`, `storyboard.vtt`, `storyboard.jpg`, `captions-….vtt`. Slashes stand as they are.",
        _text(),
    ),
    "wait": ("Seconds to wait for a change (long poll).", {"type": "integer", "minimum": 0, "maximum": 60, "default": 0}),
    "limit": ("Items of a page.", {"type": "integer", "minimum": 1, "maximum": api.MAX_PAGE, "default": 50}),
    "cursor": ("`next_cursor` of the page before.", _text()),
    "state": ("Only jobs in this state.", _text(enum=list(_STATES))),
    "type": ("Only jobs of this request type or kind.", _text(enum=[*KINDS, *(k.kind for k in KINDS.values())])),
    "title": (
        "Title for people; left out, it is made from the file name. The header X-Title, percent-encoded, is the same.",
        _text(maxLength=300),
    ),
    "owner": ("Whose work it is.", _text(maxLength=128)),
    "callback": ("URL that is told how the job ended; its host must be on the allow-list.", _text(format="uri", maxLength=2048)),
    "bucket": ("Part of the signed URL.", _text()),
    "expires": ("Part of the signed URL: seconds since 1970.", {"type": "integer"}),
    "signature": ("Part of the signed URL.", _text()),
    "size": ("Part of the signed URL: exactly so many bytes.", {"type": "integer"}),
    "archive.bucket": ("Of `prefix`, `key`, and entries that name none; left out, the default bucket.", _text()),
    "archive.prefix": ("All objects whose key begins with it; their keys are the names in the archive.", _text(maxLength=1024)),
    "archive.key": ("Keys of objects, in this order; in place of `prefix`.", _texts(minLength=1, maxLength=1024)),
    "archive.entry": ("Objects as JSON: `key`, and where needed `bucket`, `name` in the archive, `etag`. Among `key`.", _texts()),
    "archive.asset": ("Ids of films: the best MP4 of each, under its title. Behind the objects; in place of `prefix`.", _texts()),
    "archive.name": ("Under which browsers save the archive.", _text(maxLength=300)),
    "archive.expires": ("Part of a signed link: seconds since 1970.", {"type": "integer"}),
    "archive.key_id": ("Part of a signed link.", _text()),
    "archive.signature": ("Part of a signed link, which then needs no API token.", _text()),
    "Idempotency-Key": ("The same key with the same body is the same job, on any gateway; with another body 422.", _text(maxLength=255)),
    "If-None-Match": ("ETag that the client has.", _text()),
    "Last-Event-ID": ("Id of the last event that was seen.", _text()),
    "Range": ("One range of bytes.", _text()),
    "If-Range": ("Send the range only of this very object.", _text()),
}
"""Every parameter, once; which are in the path, its template says, which in headers or the query, the route. What stands before a dot
tells apart those of the same name."""

_POST: Final = (400, 408, 415, 413, 503, 507)
_IDEMPOTENT: Final = ("Idempotency-Key",)
_SIGNED: Final = ("bucket", "expires", "signature")
_RANGE: Final = ("Range", "If-Range", "If-None-Match")
_ARCHIVE: Final = tuple(n for n in PARAMETERS if n.startswith("archive."))
_CORS: Final = ("Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers")
_NOT_MODIFIED: Final = Answer("The client has it.", None, ("ETag",))


def _stream_object(path: str, name: str, about: str) -> Route:
    """What players fetch: with a playback token, whole or in part."""
    return Route(
        method="get", path=path, name=name, about=about, headers=_RANGE,
        answers={
            200: Answer("The whole object.", "application/octet-stream", ("ETag", "Cache-Control")),
            206: Answer("The range, of a segment.", "application/octet-stream", ("ETag", "Content-Range")),
            302: Answer("The segment lies there for some minutes.", None, ("Location",)),
            304: _NOT_MODIFIED,
        },
        problems=(401, 403, 404, 416, 503), open=True, playback=True,
    )  # fmt: skip


def _archive(method: str, path: str, name: str, about: str, **more: Any) -> Route:
    """An archive as it is read, whole or in part."""
    headers = ("ETag", "Accept-Ranges", "Content-Disposition")
    return Route(
        method=method, path=path, name=name, about=about,
        answers={
            200: Answer("The whole archive.", "application/zip", headers),
            206: Answer("The range.", "application/zip", (*headers, "Content-Range")),
            **({304: _NOT_MODIFIED} if method == "get" else {}),
        },
        problems=(400, 401, 403, 404, 409, 413, *((415,) if method == "post" else ()), 416, 503), **more,
    )  # fmt: skip


def _preflight(path: str, name: str) -> Route:
    """What browsers ask before a page of another site fetches from `path`."""
    return Route(
        method="options", path=path, name=name, about="For pages of other sites (CORS).",
        answers={204: Answer("They may.", None, _CORS)}, problems=(404,), open=True,
    )  # fmt: skip


def _old_zip(path: str, name: str) -> Route:
    """The same at both of its places."""
    return Route(
        method="post", path=path, name=name, zip_secret=True,
        about="The wire of an older zip service. `files` become `target`, which appears when it is complete, and replaces what is there.",
        headers=_IDEMPOTENT, body=api.OldZip,
        answers={202: Answer("Acknowledged by Kafka; without a body. Location is the job's address.", None, ("Location",))},
        problems=(*_POST, 401, 404, 422, 429), open=True,
    )  # fmt: skip


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="put", path="/v1/uploads/{filename}", name="putUpload", about="Store a video and make it playable: `curl -T film.mov …`.",
        query=("title", "owner", "callback"), headers=_IDEMPOTENT, body="application/octet-stream",
        answers={202: Answer("Stored, and acknowledged by Kafka.", api.Accepted, ("Location",))},
        problems=(400, 403, 408, 411, 413, 417, 422, 503, 507),
    ),
    Route(
        method="post", path="/v1/uploads", name="beginUpload", about="A signed place to send a video to directly.", headers=_IDEMPOTENT,
        body=api.NewUpload, answers={201: Answer("Send the bytes as `upload` says, then POST to `complete_url`.", api.UploadTicket)},
        problems=(*_POST, 403, 422),
    ),
    Route(
        method="post", path="/v1/uploads/{upload_id}/complete", name="completeUpload",
        about="The bytes were sent: check that they are all there, and make the video playable.",
        answers={202: Answer("Acknowledged by Kafka; the same again for a repetition.", api.Accepted, ("Location",))},
        problems=(404, 409, 413, 422, 503, 507),
    ),
    Route(
        method="post", path="/v1/jobs", name="beginJob", about="A job for objects that are in storage already.", headers=_IDEMPOTENT,
        body=api.NewJob, answers={202: Answer("Acknowledged by Kafka.", api.Accepted, ("Location",))},
        problems=(*_POST, 403, 404, 409, 422, 429, 501),
    ),
    Route(
        method="get", path="/v1/jobs", name="listJobs", about="Jobs, newest first.", query=("state", "type", "cursor", "limit"),
        answers={200: Answer("A page.", api.JobPage)}, problems=(400,),
    ),
    Route(
        method="post", path="/v1/jobs/query", name="queryJobs", about="The statuses of up to 1,000 jobs.", body=api.JobQuery,
        answers={200: Answer("Those that are known, and the ids of those that are not.", api.JobsFound)}, problems=(400, 413, 415),
    ),
    Route(
        method="get", path="/v1/jobs/{job_id}", name="getJob", about="The status of a job.", query=("wait",), headers=("If-None-Match",),
        answers={200: Answer("The status.", api.JobView, ("ETag",)), 304: _NOT_MODIFIED},
        problems=(400, 404),
    ),
    Route(
        method="get", path="/v1/jobs/{job_id}/events", name="followJob", about="The status as server-sent events, until the job has ended.",
        headers=("Last-Event-ID",),
        answers={200: Answer("Events `status`; data is a JobView.", "text/event-stream"), 204: Answer("The client has seen the end.")},
        problems=(404,),
    ),
    Route(
        method="post", path="/v1/jobs/{job_id}/cancel", name="cancelJob", about="End a job.", headers=_IDEMPOTENT, body=api.Cancellation,
        body_required=False, answers={202: Answer("Asked for.", api.Accepted, ("Location",))}, problems=(400, 404, 409, 413, 503),
    ),
    Route(
        method="post", path="/v1/jobs/{job_id}/retry", name="retryJob", about="Go on with a job that failed or was cancelled.",
        headers=_IDEMPOTENT, answers={202: Answer("Asked for.", api.Accepted, ("Location",))}, problems=(400, 404, 409, 503),
    ),
    Route(
        method="get", path="/v1/assets", name="listAssets", about="The library, newest first.", query=("cursor", "limit"),
        answers={200: Answer("A page.", api.AssetPage)}, problems=(400,),
    ),
    Route(
        method="get", path="/v1/assets/{asset_id}", name="getAsset", about="An asset, with URLs that can be played.",
        headers=("If-None-Match",),
        answers={200: Answer("The asset.", api.AssetView, ("ETag",)), 304: _NOT_MODIFIED}, problems=(404,),
    ),
    Route(
        method="patch", path="/v1/assets/{asset_id}", name="changeAsset", about="Change title or visibility.", headers=_IDEMPOTENT,
        body=api.AssetPatch, answers={200: Answer("The asset as it is now.", api.AssetView, ("ETag",))}, problems=(*_POST, 404),
    ),
    Route(
        method="delete", path="/v1/assets/{asset_id}", name="deleteAsset",
        about="Cancel what runs, remove all objects of the asset, then the asset. May be repeated.", headers=_IDEMPOTENT,
        answers={200: Answer("It is gone.", api.AssetDeleted)}, problems=(400, 404, 409, 502, 503),
    ),
    Route(
        method="post", path="/v1/assets/{asset_id}/playback", name="openPlayback",
        about="Where to play an asset, and the cookie `reelworks_play` that opens its stream. Again before it expires.",
        answers={200: Answer("The URLs; the cookie goes with them by itself.", api.Playback, ("Set-Cookie",))}, problems=(403, 404),
    ),
    Route(
        method="get", path="/v1/assets/{asset_id}/hls/master.m3u8", name="getStream", about="To the master playlist of the newest stream.",
        answers={302: Answer("It is there; a token in the query goes along.", None, ("Location",))}, problems=(401, 403, 404),
        open=True, playback=True,
    ),
    _preflight("/v1/assets/{asset_id}/hls/master.m3u8", "mayGetStream"),
    _stream_object(
        "/v1/assets/{asset_id}/hls/{path}", "getStreamObject", "A playlist, segment, key, storyboard or captions of an asset's stream."
    ),
    _preflight("/v1/assets/{asset_id}/hls/{path}", "mayGetStreamObject"),
    Route(
        method="post", path="/v1/archives", name="beginArchive",
        about="Films of the library as one archive, each by its best MP4. The job's output is the archive, with a URL that saves it.",
        headers=_IDEMPOTENT, body=api.NewArchive, answers={202: Answer("Acknowledged by Kafka.", api.Accepted, ("Location",))},
        problems=(*_POST, 403, 404, 409, 422, 429),
    ),
    _archive(
        "get", "/v1/archives", "getArchive", "An archive of objects and films, made while it is sent. It has a length, an ETag and ranges.",
        query=_ARCHIVE, headers=_RANGE, link=True,
    ),
    _archive(
        "post", "/v1/archives/download", "downloadArchive", "The same for a selection that does not fit into a URL.",
        body=api.ArchiveWish, headers=("Range", "If-Range"),
    ),
    Route(
        method="post", path="/v1/archives/links", name="linkArchive", about="A link that opens GET /v1/archives for this selection.",
        body=api.ArchiveWish, answers={200: Answer("The link.", api.ArchiveLink)}, problems=(*_POST, 403, 404, 409),
    ),
    Route(
        method="get", path="/v1/folders", name="listFolders", about="The folders at the top of the default bucket.",
        answers={200: Answer("By name; those that are hidden or our own are left out.", api.FolderList)}, problems=(503,),
    ),
    Route(
        method="get", path="/v1/folders/{folder}", name="getFolder", about="The films in a folder, as they lie there.",
        answers={200: Answer("By name.", api.FolderView)}, problems=(400, 404, 503),
    ),
    _stream_object("/v1/folders/{folder}/{film}/{file}", "getFolderStream", "A playlist or segment of a stream in a folder."),
    _preflight("/v1/folders/{folder}/{film}/{file}", "mayGetFolderStream"),
    Route(
        method="get", path="/v1/media/{key}", name="getMedia", about="An object of the folder store, by signed URL.", query=_SIGNED,
        headers=_RANGE, open=True,
        answers={
            200: Answer("The whole object.", "application/octet-stream", ("ETag",)),
            206: Answer("The range.", "application/octet-stream", ("ETag", "Content-Range")),
            304: _NOT_MODIFIED,
        },
        problems=(403, 404, 416, 503),
    ),
    Route(
        method="put", path="/v1/media/{key}", name="putMedia", about="Send the bytes of an upload, as POST /v1/uploads said.",
        query=(*_SIGNED, "size"), body="application/octet-stream", answers={200: Answer("Stored.", None, ("ETag",))},
        problems=(400, 403, 408, 411, 413, 417, 503, 507), open=True,
    ),
    Route(
        method="post", path="/videos", name="oldVideos", about="The wire of an older transcoder. Errors are `{\"message\": …}`.",
        body=api.Videos, headers=_IDEMPOTENT, open=True,
        answers={
            200: Answer("Always exactly this.", api.VideosAnswer),
            400: Answer("A field is missing or wrong.", api.OldError),
            401: Answer("No host of callbacks is allowed, and the API token is missing or wrong.", api.OldError),
            403: Answer("A page of another site.", api.OldError),
            413: Answer("Too large.", api.OldError),
            422: Answer("The same Idempotency-Key came with another body.", api.OldError),
            503: Answer("Kafka is away: nothing was accepted, send it again after Retry-After.", api.OldError, ("Retry-After",)),
        },
    ),
    _old_zip("/zip", "oldZip"),
    _old_zip("/", "oldZipAtRoot"),
    Route(
        method="get", path="/healthz", name="healthz", about="The process answers.", open=True,
        answers={200: Answer("It does.", "application/json")},
    ),
    Route(
        method="get", path="/readyz", name="readyz", about="The view has caught up with the log.", open=True,
        answers={200: Answer("It has.", "application/json"), 503: Answer("Not yet.", "application/json", ("Retry-After",))},
    ),
    Route(method="get", path="/metrics", name="metrics", about="Prometheus.", answers={200: Answer("Metrics.", "text/plain")}),
    Route(
        method="get", path="/v1/openapi.json", name="openapi", about="This document.",
        answers={200: Answer("OpenAPI 3.1.", "application/json")},
    ),
)  # fmt: skip


def document() -> Json:
    """The whole document, the same on every call."""
    structs = {api.ProblemDetails, api.OldError}
    for route in ROUTES:
        structs |= {s for s in (route.body, *(a.body for a in route.answers.values())) if isinstance(s, type)}
    ordered = sorted(structs, key=lambda s: s.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    paths: dict[str, Json] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    made: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "Reelworks",
            "version": VERSION,
            "summary": "Turns uploads into films that can be watched.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(components.items())),
            "responses": {f"Problem{status}": _problem(status) for status in PROBLEMS},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "REELWORKS_API_TOKEN, where one is set; without one every caller may.",
                },
                "zipSecret": {"type": "http", "scheme": "bearer", "description": "REELWORKS_ZIP_SECRET; without one these routes are off."},
                "link": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "signature",
                    "description": "Of a link that POST /v1/archives/links has made.",
                },
                "playbackCookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "reelworks_play",
                    "description": "A playback token of one asset, as POST /v1/assets/{asset_id}/playback sets it.",
                },
                "playbackToken": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "The same for players without cookies: it is in an asset's `hls_url` and in every URI of playlists.",
                },
            },
        },
    }
    # Defaults come as tuples and structs; the document is plain JSON.
    return msgspec.json.decode(msgspec.json.encode(made))


def _operation(route: Route) -> Json:
    in_path = re.findall(r"\{(\w+)\}", route.path)
    parameters = [
        *({"name": n, "in": "path", "required": True} | _described(n) for n in in_path),
        *({"name": n.rpartition(".")[2], "in": "query", "required": n in _SIGNED or n == "size"} | _described(n) for n in route.query),
        *({"name": n, "in": "header", "required": False} | _described(n) for n in route.headers),
    ]
    problems = sorted({*route.problems, *(() if route.open else (401,))})
    responses = {str(status): _answer(answer) for status, answer in route.answers.items()}
    responses |= {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in problems if str(status) not in responses}
    operation: Json = {"operationId": route.name, "summary": route.about, "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": route.body_required, "content": _content(route.body)}
    if route.link:
        operation["security"] = [{"token": []}, {"link": []}]
    elif route.zip_secret:
        operation["security"] = [{"zipSecret": []}]
    elif route.open:
        operation["security"] = [{"playbackCookie": []}, {"playbackToken": []}] if route.playback else []
    return operation


def _described(name: str) -> Json:
    about, schema = PARAMETERS[name]
    return {"description": about, "schema": schema}


def _answer(answer: Answer) -> Json:
    made: Json = {"description": answer.about}
    if answer.headers:
        made["headers"] = {name: {"schema": {"type": "string"}} for name in answer.headers}
    if answer.body is not None:
        made["content"] = _content(answer.body)
    return made


def _content(body: Struct | str) -> Json:
    if isinstance(body, str):
        schema: Json = {"type": "string", "format": "binary"} if body == "application/octet-stream" else {}
        return {body: {"schema": schema}}
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}


def _problem(status: int) -> Json:
    made: Json = {"description": PROBLEMS[status], "content": {_PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}}
    header = {401: "WWW-Authenticate", 405: "Allow", 416: "Content-Range", 429: "Retry-After", 503: "Retry-After"}.get(status)
    if header:
        made["headers"] = {header: {"schema": {"type": "string"}}}
    return made
