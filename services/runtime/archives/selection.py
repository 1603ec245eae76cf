"""Which objects go into an archive: looked at, pinned to their ETags, named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from schemas.events import ZipEntry
from services.runtime.archives import names
from services.runtime.settings import Settings, variable
from services.runtime.storage.base import NotFound, ObjectInfo, Storage
from services.runtime.together import together

_SHOWN: Final = 5
"""So many of those that cannot be used are named; of the rest only how many they are."""


class Unusable(Exception):
    """No archive can be made of what was asked for. `code` is for programs, `message` and `hint` for people."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one archive."""

    entries: int
    bytes: int
    """Of all its objects, unpacked."""
    entries_setting: str
    """Environment variable in which the limit is set, for the message."""
    bytes_setting: str


def limits_of(settings: Settings) -> Limits:
    """As they are set."""
    return Limits(
        entries=settings.archive_max_entries, bytes=settings.archive_max_bytes,
        entries_setting=variable("archive_max_entries"), bytes_setting=variable("archive_max_bytes"),
    )  # fmt: skip


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """An object that goes into the archive."""

    bucket: str
    key: str
    etag: str
    size: int
    modified_ms: int
    name: str
    """Inside the archive: usable, and of this one alone."""


class _Place(NamedTuple):
    """Where an object lies. The bucket is spelt out."""

    bucket: str
    key: str


async def select(
    storage: Storage,
    *,
    entries: Sequence[ZipEntry],
    prefix: str,
    bucket: str,
    exclude: tuple[str, str] | None,
    limits: Limits,
    concurrency: int = 32,
) -> list[Chosen]:
    """The objects of an archive: `entries` in their order, or all below `prefix` in `bucket` in the order of their keys.

    `bucket` is also that of entries that name none, and "" is the default bucket. `exclude` is bucket and key of the archive itself: left
    out below a prefix, refused among the entries. With entries, each object is looked at once, `concurrency` of them at a time; a
    prefix costs its listing only.

    Raises Unusable for what the request is at fault for; Refused for a bucket that is not on the allow-list or a malformed key;
    StorageError when the store could not answer.
    """
    target = exclude and _Place(exclude[0] or storage.default_bucket, exclude[1])
    home = bucket or storage.default_bucket
    if entries and prefix:
        raise Unusable("both-given", "objects were asked for one by one and by the prefix " + repr(prefix), "Give entries or a prefix.")
    if entries:
        _check_count(len(entries), limits)
        found = await _look(storage, entries, [_Place(e.bucket or home, e.key) for e in entries], target, concurrency)
        wished = [e.name or e.key for e in entries]
    elif prefix:
        found = await _list(storage, prefix, home, target, limits)
        wished = [info.key for info in found]
    else:
        raise Unusable("nothing-selected", "no objects were asked for", "Give entries or a prefix.")
    _check_bytes(sum(info.size for info in found), limits)
    # Of many thousands it takes a second, in which others are to have their turn.
    named = await asyncio.to_thread(_named, wished)
    return [
        Chosen(bucket=info.bucket, key=info.key, etag=info.etag, size=info.size, modified_ms=info.modified_ms, name=name)
        for info, name in zip(found, named, strict=True)
    ]


async def _look(
    storage: Storage, entries: Sequence[ZipEntry], places: Sequence[_Place], target: _Place | None, concurrency: int
) -> list[ObjectInfo]:
    """What HEAD tells of each entry."""
    if target and target in places:
        raise Unusable(
            "target-selected",
            f"{target.key!r} in bucket {target.bucket!r} is the archive to be written, and is to be an entry of it",
            "Choose another target, or leave it out of the entries.",
        )
    heads: dict[_Place, ObjectInfo | None] = {}
    different = tuple(dict.fromkeys(places))
    waiting = iter(different)

    async def look() -> None:
        for place in waiting:
            try:
                heads[place] = await storage.bucket(place.bucket).head(place.key)
            except NotFound:
                heads[place] = None

    await together(*(look() for _ in range(min(concurrency, len(places)))))
    _refuse(
        [_shown(place) for place in different if heads[place] is None],  # as they were named, not as the store answered
        "object-missing",
        lambda several: "objects do not exist" if several else "object does not exist",
        "Were they deleted or renamed? The names of buckets and keys are compared byte by byte.",
    )
    answer = [info for place in places if (info := heads[place])]
    _refuse(
        [
            f"{_shown(place)} (its ETag is {info.etag}, expected was {_etag(entry)})"
            for entry, place, info in zip(entries, places, answer, strict=True)
            if entry.etag and _etag(entry) != info.etag
        ],
        "object-changed",
        lambda several: "objects have changed" if several else "object has changed",
        "Send the request again for the objects as they are now, or without ETags.",
    )
    return answer


async def _list(storage: Storage, prefix: str, bucket: str, target: _Place | None, limits: Limits) -> list[ObjectInfo]:
    """What lies below a prefix, but the target."""
    found: list[ObjectInfo] = []
    async for info in storage.bucket(bucket).list(prefix):
        if (info.bucket, info.key) == target:
            continue
        found.append(info)
        if len(found) > limits.entries:
            # Not counted to the end: that may take minutes.
            _check_count(len(found), limits, at_least=True)
    if not found:
        raise Unusable(
            "nothing-selected",
            f"no object in bucket {bucket!r} begins with {prefix!r}" + (" but the archive to be written" if target else ""),
            "A prefix is compared byte by byte with the beginning of keys; a folder ends with a slash.",
        )
    return found


def _named(wished: Sequence[str]) -> list[str]:
    """Names that can be used, each once."""
    _check_names(wished)
    unique = names.unique(wished)
    # A number may have made one too long.
    _check_names(unique)
    return unique


def _check_names(wished: Sequence[str]) -> None:
    _refuse(
        [f"{_cut(name)!r} ({wrong})" for name in wished if (wrong := names.fault(name))],
        "name",
        lambda several: "names cannot be used in an archive" if several else "name cannot be used in an archive",
        f"Give those entries another name: {names.ACCEPTED}.",
    )


def _check_count(count: int, limits: Limits, *, at_least: bool = False) -> None:
    if count > limits.entries:
        raise Unusable(
            "too-many-entries",
            f"{'at least ' if at_least else ''}{count:,} objects were selected; an archive may have {limits.entries:,}",
            f"Make several archives, or raise {limits.entries_setting}.",
        )


def _check_bytes(size: int, limits: Limits) -> None:
    if size > limits.bytes:
        raise Unusable(
            "too-large",
            f"the selected objects have {size:,} bytes together; an archive may have {limits.bytes:,}",
            f"Make several archives, or raise {limits.bytes_setting}.",
        )


def _refuse(those: Sequence[str], code: str, what: Callable[[bool], str], hint: str) -> None:
    """Raises Unusable where there are any: how many they are, and the first of them."""
    if those:
        rest = f"; and {len(those) - _SHOWN:,} more" if len(those) > _SHOWN else ""
        raise Unusable(code, f"{len(those):,} {what(len(those) > 1)}: {'; '.join(those[:_SHOWN])}{rest}", hint)


def _etag(entry: ZipEntry) -> str:
    return entry.etag.strip('"')


def _shown(place: _Place) -> str:
    return f"{_cut(place.key)!r} in bucket {place.bucket!r}"


def _cut(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
