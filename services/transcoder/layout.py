"""Under which keys a transcode writes. Pure; the whole of it is in docs/architecture.md, "Object layout"."""

from __future__ import annotations

import hashlib

import msgspec

from schemas.events import Recipe
from services.runtime.media import encode
from services.transcoder.film import Film

INIT = "init.mp4"


def recipe_hash(recipe: Recipe, source_etag: str, watermark_etag: str) -> str:
    """Names the folder of the renditions: another recipe, watermark, source or version of the encoder never mixes with it."""
    body = msgspec.json.encode([recipe, source_etag, watermark_etag, encode.VERSION], order="deterministic")
    return hashlib.sha256(body).hexdigest()[:12]


def folder(film: Film, job_id: str) -> str:
    """Where the segments lie. Beside the input only the results are wanted: the segments go with the job."""
    return f"jobs/{job_id}/segments" if film.beside else f"assets/{film.asset_id}/{film.recipe_hash}"


def video_rendition(side: int) -> str:
    return f"video-{side}"


def audio_rendition(film: Film) -> str:
    assert film.source.audio is not None
    return f"audio-{film.source.audio.language}"


def segment(folder_key: str, rendition: str, number: int) -> str:
    return f"{folder_key}/{rendition}/{number:05d}.m4s"


def init(folder_key: str, rendition: str) -> str:
    return f"{folder_key}/{rendition}/{INIT}"


def results_bucket(film: Film) -> str:
    """Where the outputs go: beside the input, else to the default bucket."""
    return film.bucket if film.beside else ""


def mp4(film: Film, side: int) -> str:
    """Of a rung; `side` 0: sound only. `foo.mov` and `foo.avi` do not collide, and an input is never an output."""
    if film.beside:
        return f"{film.key}.mp4"
    return f"assets/{film.asset_id}/{film.recipe_hash}/" + (f"{side}.mp4" if side else "audio.m4a")


def poster(film: Film) -> str:
    return f"assets/{film.asset_id}/poster.jpg"


def thumbnail(film: Film) -> str:
    return f"{film.key}.jpg" if film.beside else f"assets/{film.asset_id}/thumbnail.jpg"
