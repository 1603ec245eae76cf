"""Which archive is wished for: as a body or as a query, and how its file is called. Pure.

    bucket=B&prefix=Holidays/&name=Holidays.zip            all objects whose key begins with the prefix
    bucket=B&key=a.mp4&key=b/c.mp4                         objects of one bucket, in this order
    entry={"key":"a.mp4","bucket":"C","name":"A.mp4"}      an object with anything that schemas.events.ZipEntry has
    asset=ID&asset=ID                                      films of the library, after the objects

All of it percent-encoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from schemas.api import ArchiveWish
from schemas.events import ZipEntry
from services.gateway.problems import Problem
from services.gateway.uploads.archives import saved_as

_ONCE: Final = ("bucket", "prefix", "name")

Query = list[tuple[str, str]]


def from_query(query: Iterable[tuple[str, str]]) -> ArchiveWish:
    """The wish of a query; other parameters are left alone. Raises Problem 400."""
    entries: list[ZipEntry] = []
    assets: list[str] = []
    once: dict[str, str] = {}
    for name, value in query:
        match name:
            case "key":
                entries.append(_entry({"key": value}, value))
            case "entry":
                entries.append(_decoded(value))
            case "asset":
                assets.append(value)
            case _ if name in _ONCE:
                if name in once:
                    raise Problem(400, "parameter", f"{name} is given more than once", value=value, accepted="one; `key` may be repeated")
                once[name] = value
            case _:
                pass
    return _converted({"entries": entries, "assets": assets, **once})


def to_query(wish: ArchiveWish) -> Query:
    """The query that `from_query` reads as this wish."""
    query = [(name, value) for name in _ONCE if (value := str(getattr(wish, name)))]
    for entry in wish.entries:
        plain = entry == ZipEntry(key=entry.key)
        query.append(("key", entry.key) if plain else ("entry", msgspec.json.encode(entry).decode()))
    return query + [("asset", asset) for asset in wish.assets]


def encoded(query: Query) -> str:
    """As it stands in a URL."""
    return urlencode(query, quote_via=quote, safe="/")


def filename_of(wish: ArchiveWish) -> str:
    """Under which name a browser saves it: the one wished for, else that of the folder."""
    return saved_as(wish.name, wish.prefix.rstrip("/") or "archive")


def _decoded(text: str) -> ZipEntry:
    try:
        return _entry(msgspec.json.decode(text, type=dict[str, str]), text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as wrong:
        raise _no_entry(text, str(wrong)) from None


def _entry(fields: dict[str, str], shown: str) -> ZipEntry:
    try:
        return msgspec.convert(fields, ZipEntry)
    except msgspec.ValidationError as wrong:
        raise _no_entry(shown, str(wrong)) from None


def _no_entry(shown: str, wrong: str) -> Problem:
    accepted = 'key=KEY, or entry={"key":…,"bucket":…,"name":…,"etag":…} of which only the key is needed; percent-encoded'
    return Problem(400, "entry", f"this names no object: {wrong}", value=shown, accepted=accepted)


def _converted(fields: dict[str, object]) -> ArchiveWish:
    try:
        return msgspec.convert(fields, ArchiveWish)
    except msgspec.ValidationError as wrong:
        raise Problem(400, "shape", f"this is no selection of an archive: {wrong}") from None
