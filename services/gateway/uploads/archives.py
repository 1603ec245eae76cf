"""What an archive may be asked for, and how the films of the library are named in one. Pure."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from schemas.events import ObjectRef, Output, ZipEntry, ZipRequested
from services.gateway.problems import Problem
from services.gateway.uploads.names import clean_title, shown_name
from services.runtime.archives import names
from services.runtime.settings import Settings, variable
from services.runtime.storage import keys
from services.runtime.storage.factory import default_bucket

MAX_NAME_BYTES: Final = 200
"""Of a film's name in an archive: file systems take 255 for each part of a path, and a number may be added."""
OLD_BUCKETS: Final = ("zip_input_bucket", "zip_output_bucket")
"""Settings of POST /zip."""
FALLBACK: Final = "Untitled"
_SHOWN: Final = 120
# Microsoft, "Naming Files, Paths, and Namespaces": characters and names that Windows cannot unpack.
_UNSAFE: Final = re.compile(r'[<>:"/\\|?*]')
_DEVICE: Final = re.compile(r"(CON|PRN|AUX|NUL|CLOCK\$|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³])(\.|\Z)", re.IGNORECASE)


def check_archive(request: ZipRequested, settings: Settings, home: str) -> None:
    """Raises Problem 400 for what can never become an archive: nothing or too much selected, names that cannot be used, a target among
    its own entries. `home`: the default bucket."""
    given = [field for field in ("entries", "prefix", "manifest") if getattr(request, field)]
    if len(given) != 1:
        said = f"by {' and by '.join(f'`{field}`' for field in given)}" if given else "in no way"
        raise Problem(
            400,
            "selection",
            f"the objects of the archive are named {said}; one way is needed",
            value=given,
            accepted="`entries`: [{key}], or `prefix`: what their keys begin with, or `manifest`: an object that lists entries",
        )
    check_count(len(request.entries), settings)
    check_target(request.target.key)
    target = (request.target.bucket or home, request.target.key)
    for entry in request.entries:
        check_entry(entry.key, entry.name)
        if (entry.bucket or request.bucket or home, entry.key) == target:
            raise own_entry(entry.key)


def check_count(count: int, settings: Settings) -> None:
    """Raises Problem 400 for more objects than an archive may have."""
    if count > (most := settings.archive_max_entries):
        raise Problem(
            400,
            "too-many-entries",
            f"an archive may have {most:,} objects ({variable('archive_max_entries')}); {count:,} were named",
            value=count,
            accepted=f"1 to {most}",
        )


def check_target(key: str) -> None:
    """Raises Problem 400 for a target that no store could keep."""
    if fault := keys.key_fault(key):
        raise Problem(400, "target", f"the target {_cut(key)!r} cannot be used: {fault}", value=key, accepted=keys.ACCEPTED)


def check_entry(key: str, name: str = "") -> None:
    """Raises Problem 400 for an object's key that cannot be one, and for a name that a reader would unpack somewhere else."""
    if fault := keys.key_fault(key):
        raise Problem(400, "key", f"the key {_cut(key)!r} cannot be used: {fault}", value=key, accepted=keys.ACCEPTED)
    if fault := names.fault(name or key):
        raise Problem(
            400, "name", f"the name {_cut(name or key)!r} cannot be used in an archive: {fault}", value=name or key, accepted=names.ACCEPTED
        )


def own_entry(key: str) -> Problem:
    """400 for an archive that would be part of itself."""
    return Problem(
        400,
        "target",
        f"{_cut(key)!r} is the target, and is to be one of the archive's objects",
        value=key,
        accepted="a target that is none of them",
    )


def filled(request: ZipRequested, home: str) -> ZipRequested:
    """With everything that the request alone tells, so that equal requests are equal. `home`: the default bucket."""
    target = ObjectRef(key=request.target.key, bucket=request.target.bucket or home)
    return msgspec.structs.replace(request, target=target, title=clean_title(request.title) or shown_name(target.key))


def file_name(title: str, ending: str = "") -> str:
    """A title as the name of a file on any system, with this ending (`.mp4`), at most 200 bytes; never empty."""
    text = unicodedata.normalize("NFC", clean_title(title))
    text = _UNSAFE.sub("_", text)
    # A dot in front hides a file; one at the end, or a space, is dropped by Windows.
    stem = _within(text.lstrip(". "), MAX_NAME_BYTES - len(ending.encode()) - 1).rstrip(". ") or FALLBACK
    return ("_" if _DEVICE.match(stem) else "") + stem + ending


def best_file(outputs: Iterable[Output]) -> Output | None:
    """The best MP4 that was made of a film (of sound alone: its M4A); None while there is none."""
    files = [output for output in outputs if output.role == "rendition"]
    return max(files, key=lambda output: (output.height, output.bit_rate), default=None)


def film_entries(films: Iterable[tuple[str, Output]]) -> Iterator[ZipEntry]:
    """Films, each by title and file, as entries."""
    for title, output in films:
        yield ZipEntry(key=output.key, bucket=output.bucket, name=file_name(title, posixpath.splitext(output.key)[1]))


def archive_title(titles: Sequence[str]) -> str:
    """What an archive of these films is called."""
    return clean_title(titles[0]) if len(titles) == 1 else f"{len(titles):,} films"


def saved_as(title: str, key: str) -> str:
    """The file name under which a browser saves the archive at `key`."""
    ending = ".zip"
    stem = title or key.rpartition("/")[2]
    return file_name(stem[: -len(ending)] if stem.lower().endswith(ending) else stem, ending)


def bucket_fault(settings: Settings) -> str:
    """Why the buckets of the old wire cannot be used: set without its secret, or not on the allow-list; "" when they can. Pure."""
    allowed = (default_bucket(settings), *settings.buckets)
    for field in OLD_BUCKETS:
        if name := getattr(settings, field):
            if not settings.zip_secret:
                return f"{variable(field)}={name!r} says nothing without {variable('zip_secret')}: set that too, or neither"
            if name not in allowed:
                return f"{variable(field)}={name!r} is not on the allow-list; it has: {', '.join(allowed)} ({variable('buckets')})"
    return ""


def _within(text: str, size: int) -> str:
    return text.encode("utf-8", "ignore")[:size].decode("utf-8", "ignore")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
