"""The library: what people decided about an asset, joined with what jobs made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from schemas.api import AssetView, RenditionView
from schemas.events import AssetChanged, JobFailed, JobStatus, Output, State, StreamReady, TranscodeCompleted
from services.gateway.auth.playback import QUERY, prefix_of
from services.gateway.delivery.paths import STORYBOARD, place
from services.gateway.uploads.names import title_of
from services.gateway.views.fold import STREAM, TRANSCODE
from services.gateway.views.projection import problem
from services.gateway.views.ready import Kept, Ready, ReadyCache
from services.gateway.views.statuses import known
from services.gateway.views.store import StoredAsset, StoredCompletion, View
from services.gateway.views.times import rfc3339
from services.gateway.views.urls import OutputUrls

_decode_asset = msgspec.json.Decoder(AssetChanged).decode
_decode_transcode = msgspec.json.Decoder(TranscodeCompleted).decode
_decode_stream = msgspec.json.Decoder(StreamReady).decode
_decode_failed = msgspec.json.Decoder(JobFailed).decode
_ORIGINS = 8


class Film(msgspec.Struct):
    """What is known of an asset."""

    asset: AssetChanged
    decided: bool
    """Whether a person has decided about it; else the asset is made up from its job."""
    job: JobStatus | None
    """Its newest transcode; where there was none, its newest stream."""
    transcode: TranscodeCompleted | None
    stream: StreamReady | None
    failed: JobFailed | None
    outputs: tuple[Output, ...]


class Catalogue:
    """Ready answers by asset."""

    def __init__(self, view: View, urls: OutputUrls, *, token: Callable[[str], str], life: float, clock: Callable[[], float]) -> None:
        self._view = view
        self._urls = urls
        self._token = token
        self.cache: ReadyCache[Film] = ReadyCache(self._load, life=life, clock=clock)

    def film(self, asset_id: str) -> Film | None:
        """An asset that is there; None for unknown and deleted ones."""
        kept = self.cache.get(asset_id)
        return None if kept is None else kept.item

    def was_deleted(self, asset_id: str) -> bool:
        """Whether there was one."""
        row = self._view.asset(asset_id)
        return row is not None and not row.visible

    def answer(self, asset_id: str, origin: Callable[[], str]) -> Ready | None:
        """The asset's JSON; None when it is not there."""
        kept = self.cache.get(asset_id)
        return None if kept is None else kept.everywhere or self._for_origin(kept, origin())

    def page(self, *, before: tuple[int, str] | None, limit: int) -> list[StoredAsset]:
        """Rows of a page, newest first."""
        return self._view.assets(before=before, limit=limit)

    def show(self, film: Film, origin: str) -> AssetView:
        """As the API and the pages show it."""
        token = self._token(film.asset.asset_id) if film.stream is not None else ""
        return asset_view(film, lambda output: absolute(self._urls.of(output), origin), origin, token=token)

    def is_whole(self, asset_id: str, recipe: str) -> bool:
        """Whether the stream in that folder is one that does not grow."""
        film = self.film(asset_id)
        stream = film.stream if film is not None else None
        return stream is not None and not stream.progressive and stream_path(stream).startswith(f"{recipe}/")

    def _for_origin(self, kept: Kept[Film], origin: str) -> Ready:
        ready = kept.origins.get(origin)
        if ready is None:
            ready = Ready(msgspec.json.encode(self.show(kept.item, origin)))
            if len(kept.origins) < _ORIGINS:
                kept.origins[origin] = ready
        return ready

    def _load(self, asset_id: str) -> Film | None:
        row = self._view.asset(asset_id)
        if row is None or not row.visible:
            return None
        newest = self._view.jobs_of(asset_id, TRANSCODE, limit=1) or self._view.jobs_of(asset_id, STREAM, limit=1)
        return film_of(row, known(newest[0]).status if newest else None, self._view.completions(asset_id))


def absolute(url: str, origin: str) -> str:
    """A URL that can be fetched as it is."""
    return origin + url if url.startswith("/") else url


def film_of(row: StoredAsset, job: JobStatus | None, completions: Sequence[StoredCompletion]) -> Film:
    """The join. Pure."""
    transcode: TranscodeCompleted | None = None
    streams: list[StreamReady] = []
    failures: dict[str, JobFailed] = {}
    for done in completions:
        match done.type:
            case "TranscodeCompleted":
                transcode = _decode_transcode(done.record)
            case "StreamReady":
                streams.append(_decode_stream(done.record))
            case "JobFailed":
                failure = _decode_failed(done.record)
                failures[failure.kind] = failure
            case _:
                pass
    # A status may be seen a moment before the completion of the same transaction: they lie in different partitions.
    fresh = job.outputs if job is not None and job.state == "succeeded" else ()
    outputs = fresh or (transcode.outputs if transcode is not None else streams[-1].outputs if streams else ())
    asset = _decode_asset(row.record) if row.record is not None else _made_up(row, job, transcode)
    # What was made before the asset was deleted went with it, also where a later job brought the asset back.
    streams = [s for s in streams if not asset.deleted or s.finished_ms > asset.updated_ms]
    stream = stream_of(row.asset_id, streams, job, failures)
    return Film(asset, row.record is not None, job, transcode, stream, failures.get(TRANSCODE) or failures.get(STREAM), outputs)


def stream_of(
    asset_id: str, streams: Sequence[StreamReady], job: JobStatus | None, failures: Mapping[str, JobFailed]
) -> StreamReady | None:
    """What is to be played: the newest whole stream, else one that grows, unless it will never be whole. Pure.

    `streams`: oldest first. `job`: the newest transcode; `failures`: the last one of each kind of job.
    """
    transcode, stream = failures.get(TRANSCODE), failures.get(STREAM)

    def given_up(growing: StreamReady) -> bool:
        if stream is not None and stream.finished_ms > growing.finished_ms:
            return True
        if job is not None and job.job_id == growing.job_id:  # it may have been begun again since it failed
            return job.state in ("failed", "cancelled")
        return transcode is not None and transcode.job_id == growing.job_id

    ours = [s for s in streams if s.layout == "asset" and place(asset_id, s.master.removeprefix(f"assets/{asset_id}/")) is not None]
    whole = [s for s in ours if not s.progressive]
    growing = [s for s in ours if s.progressive and not given_up(s)]
    return (whole or growing or [None])[-1]


def stream_path(stream: StreamReady) -> str:
    """Of its master playlist, below the prefix of the film's stream."""
    return stream.master.removeprefix(f"assets/{stream.asset_id}/")


def hls_url(stream: StreamReady, origin: str, token: str = "") -> str:
    """Where a player finds it: with a token in the query, or by the cookie."""
    return _below(stream.asset_id, stream_path(stream), origin, token)


def storyboard_url(film: Film, origin: str, token: str = "") -> str | None:
    """The same of the pictures for the time line; None where there are none."""
    asset_id = film.asset.asset_id
    made = {o.key for o in (*film.outputs, *(film.stream.outputs if film.stream is not None else ()))}
    return _below(asset_id, STORYBOARD, origin, token) if f"assets/{asset_id}/{STORYBOARD}" in made else None


def _below(asset_id: str, path: str, origin: str, token: str) -> str:
    query = f"?{urlencode({QUERY: token})}" if token else ""
    return f"{origin}{quote(prefix_of(asset_id), safe='/:')}{quote(path)}{query}"


def _made_up(row: StoredAsset, job: JobStatus | None, transcode: TranscodeCompleted | None) -> AssetChanged:
    request: dict[str, Any] = job.request if job is not None else {}
    key = str(request.get("key") or (transcode.key if transcode is not None else ""))
    filename = str(request.get("filename") or key.rsplit("/", 1)[-1])
    title = (job.title if job is not None else "") or (transcode.title if transcode is not None else "")
    return AssetChanged(
        asset_id=row.asset_id,
        title=title or title_of(filename),
        created_ms=row.created_ms,
        updated_ms=row.created_ms,
        owner=job.owner if job is not None else "",
        filename=filename[:300],
        bucket=str(request.get("bucket") or (transcode.bucket if transcode is not None else "")),
        key=key,
        size=request.get("size") or 0,
        content_type=str(request.get("content_type") or ""),
    )


def asset_view(film: Film, sign: Callable[[Output], str], origin: str, *, token: str) -> AssetView:
    """A film as the API shows it; `token` opens its stream. Pure."""
    asset, done, job = film.asset, film.transcode, film.job
    by_role: dict[str, Output] = {o.role: o for o in film.outputs if o.role in ("poster", "thumbnail")}
    renditions = sorted((o for o in film.outputs if o.role == "rendition"), key=lambda o: (-o.height, -o.bit_rate))
    whole = film.stream if film.stream is not None and not film.stream.progressive else None
    job_id = job.job_id if job is not None else done.job_id if done is not None else whole.job_id if whole is not None else ""
    error = job.error if job is not None else film.failed.error if film.failed is not None and done is None else None
    return AssetView(
        asset_id=asset.asset_id,
        title=asset.title or title_of(asset.filename),
        filename=asset.filename,
        owner=asset.owner,
        visibility=asset.visibility,
        state=state_of(film),
        job_id=job_id,
        status_url=f"{origin}/v1/jobs/{job_id}" if job_id else "",
        watch_url=f"{origin}/watch/{quote(asset.asset_id)}",
        progress=1.0 if state_of(film) == "succeeded" else round(job.progress, 4) if job is not None else 0.0,
        error=problem(error),
        duration_seconds=done.duration_seconds if done is not None else whole.duration_seconds if whole is not None else None,
        width=done.width if done is not None else None,
        height=done.height if done is not None else None,
        frame_rate=done.frame_rate if done is not None else None,
        has_audio=done.has_audio if done is not None else None,
        has_video=done.has_video if done is not None else None,
        size=asset.size,
        content_type=asset.content_type,
        renditions=[
            RenditionView(
                name=o.name or f"{o.height}p",
                url=sign(o),
                width=o.width,
                height=o.height,
                bit_rate=o.bit_rate,
                size=o.size,
                content_type=o.content_type,
                codecs=o.codecs,
            )
            for o in renditions
        ],
        poster_url=sign(by_role["poster"]) if "poster" in by_role else None,
        thumbnail_url=sign(by_role["thumbnail"]) if "thumbnail" in by_role else None,
        hls_url=hls_url(film.stream, origin, token) if film.stream is not None else None,
        storyboard_url=storyboard_url(film, origin, token) if film.stream is not None else None,
        live=film.stream is not None and film.stream.progressive,
        created_at=rfc3339(asset.created_ms),
        updated_at=rfc3339(asset.updated_ms),
    )


def state_of(film: Film) -> State:
    """Of the newest transcode or stream; of what is known of the last one when its status has expired."""
    if film.job is not None:
        return film.job.state
    if film.transcode is not None or (film.stream is not None and not film.stream.progressive):
        return "succeeded"
    return film.failed.state if film.failed is not None else "queued"
