"""Under which keys a transcode writes. Pure; the whole of it is in docs/architecture.md, "Object layout"."""

from __future__ import annotations

import hashlib

import msgspec

from schemas.events import Recipe
from services.runtime.media import encode
from services.runtime.media.presentation import audio_names, folder_of, video_name
from services.transcoder.film import Film


def recipe_hash(recipe: Recipe, source_etag: str, watermark_etag: str, iv: str = "") -> str:
    """Names the folder of the renditions: another recipe, watermark, source or version of the encoder never mixes with it.

    `iv`: of the encryption, which is another one in each plan, so that what two keys encrypted never mixes either.
    """
    # What is made of the segments afterwards does not change them.
    made = msgspec.structs.replace(recipe, hls=True)
    body = msgspec.json.encode([made, source_etag, watermark_etag, encode.VERSION, *([iv] if iv else [])], order="deterministic")
    return hashlib.sha256(body).hexdigest()[:12]


def folder(film: Film, job_id: str) -> str:
    """Where the segments lie. Beside the input only the results are wanted: the segments go with the job."""
    return f"jobs/{job_id}/segments" if film.beside else folder_of(film.asset_id, film.recipe_hash)


def video_renditions(film: Film) -> list[str]:
    """Folders of the rungs, in their order."""
    return [video_name(rung.side) for rung in film.rungs]


def audio_renditions(film: Film) -> list[str]:
    """Folders of the source's sound tracks, in their order."""
    return audio_names([a.language for a in film.source.audios])


def results_bucket(film: Film) -> str:
    """Where the outputs go: beside the input, else to the default bucket."""
    return film.bucket if film.beside else ""


def mp4(film: Film, side: int) -> str:
    """Of a rung; `side` 0: sound only. `foo.mov` and `foo.avi` do not collide, and an input is never an output."""
    if film.beside:
        return f"{film.key}.mp4"
    return f"{folder_of(film.asset_id, film.recipe_hash)}/" + (f"{side}.mp4" if side else "audio.m4a")


def poster(film: Film) -> str:
    return f"assets/{film.asset_id}/poster.jpg"


def thumbnail(film: Film) -> str:
    return f"{film.key}.jpg" if film.beside else f"assets/{film.asset_id}/thumbnail.jpg"
