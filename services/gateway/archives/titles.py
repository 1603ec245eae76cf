"""Films of the library as entries of an archive: the best file of each, under its title. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from schemas.events import Output, ZipEntry
from services.gateway.problems import Problem
from services.gateway.uploads.archives import best_file, film_entries
from services.gateway.uploads.names import title_of
from services.gateway.views.catalogue import Film

_SHOWN: Final = 5


def entries_of(asset_ids: Iterable[str], film_of: Callable[[str], Film | None]) -> list[ZipEntry]:
    """An entry for each film, once. Raises what `files_of` raises."""
    return list(film_entries(files_of(asset_ids, film_of)))


def files_of(asset_ids: Iterable[str], film_of: Callable[[str], Film | None]) -> list[tuple[str, Output]]:
    """Title and best file of each film, once.

    Raises Problem 404 for those that are not there, 409 for those without an MP4 (yet), saying which.
    """
    films = {asset_id: film_of(asset_id) for asset_id in asset_ids}
    if unknown := [asset_id for asset_id, film in films.items() if film is None]:
        raise Problem(404, "no-such-asset", f"there is no such asset: {_shown(unknown)}", value=unknown[0], accepted="ids of assets")
    known = {asset_id: film for asset_id, film in films.items() if film is not None}
    files = [(film.asset.title or title_of(film.asset.filename), best_file(film.outputs)) for film in known.values()]
    if without := {asset_id: title for asset_id, (title, file) in zip(known, files, strict=True) if file is None}:
        shown = _shown([repr(title) for title in without.values()])
        raise Problem(
            409, "no-file", f"there is no MP4 of {shown} yet", value=next(iter(without)), accepted="assets that have `renditions`"
        )
    return [(title, file) for title, file in files if file is not None]


def _shown(those: Sequence[str]) -> str:
    return ", ".join(those[:_SHOWN]) + (f" and {len(those) - _SHOWN:,} more" if len(those) > _SHOWN else "")
