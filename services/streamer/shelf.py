"""What can be played of films that are being encoded: segments in order and without a hole. Pure.

`SegmentsReady` may come early, late, twice and in any order: a segment waits until all before it are there, and a
repetition changes nothing. The state is kept in rows, one for each rendition and one for each segment, so that what one
event adds is small however long the film is:

    {asset}/{recipe}/{rendition}             a Header
    {asset}/{recipe}/{rendition}/{number}    [microseconds, bytes]
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec

from schemas.events import Segment, SegmentsReady, is_identifier
from services.runtime.media.presentation import Encryption, Rendition, SegmentEntry, folder_of, init_key, segment_key

TIMESCALE: Final = 1_000_000
"""Of the renditions made here: events tell seconds, playlists print six decimals."""
PATIENCE_SECONDS: Final = 3.0
"""How long a master playlist waits for the other renditions once a picture can be played. Those of one chunk come within a
second of each other; sound that was announced and is empty never comes."""
STALE_SECONDS: Final = 24 * 3600.0
"""A film of which nothing was heard for so long is not being encoded any more. The topic keeps events as long."""
LONGEST_SEGMENT_SECONDS: Final = 3600.0

FilmId = tuple[str, str]
"""Asset and recipe."""


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a rendition beside its segments. Fields are those of SegmentsReady."""

    partition: int
    """Of the topic in which its events come: its rows are in the same one of the table's."""
    job_id: str
    bucket: str
    codecs: str
    announced: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    language: str = "und"
    label: str = ""
    default: bool = False
    channels: int = 0
    ceiling: int = 0
    iv: str = ""


class Track:
    """One rendition."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.line: list[SegmentEntry] = []
        """From number 0 on, without a hole: what a playlist may list."""
        self.early: dict[int, SegmentEntry] = {}
        """Those behind a hole."""

    def add(self, number: int, entry: SegmentEntry) -> bool:
        """Answers whether it is new."""
        if number < len(self.line) or number in self.early:
            return False
        self.early[number] = entry
        while (following := self.early.pop(len(self.line), None)) is not None:
            self.line.append(following)
        return True


class Film:
    """All renditions of one asset and recipe. Times are seconds on a clock of the caller's."""

    def __init__(self, film_id: FilmId, header: Header, now: float) -> None:
        self.asset_id, self.recipe = film_id
        self.folder = folder_of(*film_id)
        self.tracks: dict[str, Track] = {}
        self.latest = header
        """Of whichever rendition was heard of last: bucket, job and renditions are those of the film."""
        self.news = now
        """When something new was last heard of it."""
        self.over = False
        """Its playlists have their final form, or will not get one: there is nothing more to write."""
        self._first: float | None = None

    @property
    def encryption(self) -> Encryption | None:
        return Encryption(iv=self.latest.iv) if self.latest.iv else None

    def playable(self) -> tuple[str, ...]:
        """Names of the renditions that have segments from the first on, in the order in which they were announced."""
        names = dict.fromkeys((*self.latest.announced, *sorted(self.tracks)))
        return tuple(n for n in names if n in self.tracks and self.tracks[n].line)

    def rendition(self, name: str) -> Rendition:
        """What can be played of a rendition."""
        track = self.tracks[name]
        told = track.header
        return Rendition(
            name=name, kind="video" if _is_video(name) else "audio", codecs=told.codecs, timescale=TIMESCALE, width=told.width,
            height=told.height, frame_rate=told.frame_rate, language=told.language, label=told.label, default=told.default,
            channels=told.channels, ceiling=told.ceiling, segments=tuple(track.line),
        )  # fmt: skip

    def master_due(self, names: Collection[str]) -> float:
        """From when on there may be a master playlist of the renditions `names`: at once when these are all that were
        announced, else `PATIENCE_SECONDS` after the first picture (the first sound, where no picture was announced).

        Infinite before that.
        """
        if names and set(self.latest.announced) <= set(names):
            return -math.inf
        return math.inf if self._first is None or not names else self._first + PATIENCE_SECONDS

    def stale(self, now: float) -> bool:
        return now - self.news > STALE_SECONDS

    def note_first(self, now: float) -> None:
        """To be called after segments were added."""
        if self._first is None and any(_is_video(n) or not self._has_video for n in self.playable()):
            self._first = now

    @property
    def _has_video(self) -> bool:
        return any(_is_video(n) for n in (*self.latest.announced, *self.tracks))


class Shelf:
    """The films of some partitions."""

    def __init__(self) -> None:
        self.films: dict[FilmId, Film] = {}

    def take(self, event: SegmentsReady, partition: int, now: float) -> dict[bytes, bytes]:
        """Add what an event tells. Answers the rows that are to be kept: none when it told nothing new.

        The event must have no `fault`.
        """
        film_id, header = (event.asset_id, event.recipe), _header(event, partition)
        film = self.films.get(film_id) or Film(film_id, header, now)
        if film.over:
            return {}
        self.films[film_id] = film
        film.latest = header
        rows: dict[bytes, bytes] = {}
        name = "/".join((*film_id, event.rendition))
        track = film.tracks.get(event.rendition)
        if track is None or track.header != header:
            track = film.tracks.setdefault(event.rendition, Track(header))
            track.header = header
            rows[name.encode()] = msgspec.json.encode(header)
        for segment in event.segments:
            entry = SegmentEntry(ticks=round(segment.duration_seconds * TIMESCALE), size=segment.size)
            if track.add(segment.number, entry):
                rows[f"{name}/{segment.number}".encode()] = msgspec.json.encode((entry.ticks, entry.size))
        if rows:
            film.news = now
            film.note_first(now)
        return rows

    @staticmethod
    def load(rows: Iterable[tuple[bytes, bytes]], partitions: frozenset[int], now: float) -> Shelf:
        """What the rows hold of these partitions. One that is unreadable, or whose header is gone, is passed over."""
        shelf = Shelf()
        headers: list[_HeaderRow] = []
        segments: list[_SegmentRow] = []
        for row in (_read(key, value) for key, value in rows):
            if isinstance(row, _HeaderRow):
                headers.append(row)
            elif row is not None:
                segments.append(row)
        for row in headers:
            if row.header.partition in partitions:
                film = shelf.films.setdefault(row.film_id, Film(row.film_id, row.header, now))
                film.tracks[row.rendition] = Track(row.header)
        for row in segments:
            film = shelf.films.get(row.film_id)
            if film is not None and row.rendition in film.tracks:
                film.tracks[row.rendition].add(row.number, row.entry)
        for film in shelf.films.values():
            film.note_first(now)
        return shelf

    def holds(self, key: bytes) -> bool:
        """Whether a row is of one of these films."""
        return tuple(key.decode("utf-8", "replace").split("/")[:2]) in self.films

    def sweep(self, partition: int, most: int) -> list[bytes]:
        """Keys of at most `most` rows that are not needed any more, of films of the partition that are over.

        With the last of its rows a film is forgotten.
        """
        keys: list[bytes] = []
        for film_id, film in list(self.films.items()):
            if film.over and film.latest.partition == partition:
                keys += islice(_shed("/".join(film_id), film), most - len(keys))
                if film.tracks:
                    break
                del self.films[film_id]
        return keys


def fault(event: SegmentsReady) -> str:
    """Why a playlist cannot be made of it; "" when one can."""
    names = (event.asset_id, event.recipe, event.rendition)
    if not all(is_identifier(name) for name in names):
        return f"asset, recipe and rendition are of A-Z a-z 0-9 . _ : - , not {names}"
    if not event.codecs or not event.codecs.isprintable() or '"' in event.codecs:
        return f"codecs are {event.codecs!r}: a master playlist must name them (RFC 6381)"
    folder = folder_of(event.asset_id, event.recipe)
    expected = init_key(folder, event.rendition)
    if event.init_key != expected:
        return f"the init segment is {event.init_key!r}, expected is {expected!r}"
    return next((said for s in event.segments if (said := _segment_fault(s, folder, event.rendition))), "")


def _segment_fault(segment: Segment, folder: str, rendition: str) -> str:
    if segment.number < 0 or segment.key != segment_key(folder, rendition, segment.number):
        return f"segment {segment.number} is {segment.key!r}, expected is {segment_key(folder, rendition, max(0, segment.number))!r}"
    if not 0 < segment.duration_seconds <= LONGEST_SEGMENT_SECONDS:
        return f"segment {segment.number} lasts {segment.duration_seconds} s; accepted is more than 0, at most {LONGEST_SEGMENT_SECONDS:g}"
    return ""


def _header(event: SegmentsReady, partition: int) -> Header:
    return Header(
        partition=partition, job_id=event.job_id, bucket=event.bucket, codecs=event.codecs, announced=event.renditions,
        width=event.width, height=event.height, frame_rate=event.frame_rate, language=event.language, label=event.label,
        default=event.default, channels=event.channels, ceiling=event.ceiling, iv=event.iv,
    )  # fmt: skip


class _HeaderRow(msgspec.Struct, frozen=True):
    film_id: FilmId
    rendition: str
    header: Header


class _SegmentRow(msgspec.Struct, frozen=True):
    film_id: FilmId
    rendition: str
    number: int
    entry: SegmentEntry


def _read(key: bytes, value: bytes) -> _HeaderRow | _SegmentRow | None:
    try:
        asset_id, recipe, rendition, *number = key.decode().split("/")
        if not number:
            return _HeaderRow((asset_id, recipe), rendition, msgspec.json.decode(value, type=Header))
        ticks, size = msgspec.json.decode(value, type=tuple[int, int])
        return _SegmentRow((asset_id, recipe), rendition, int(number[0]), SegmentEntry(ticks=ticks, size=size))
    except (ValueError, msgspec.DecodeError):
        return None


def _is_video(name: str) -> bool:
    return name.startswith("video")


def _shed(name: str, film: Film) -> Iterator[bytes]:
    """Keys of its rows, each of which it has no more when the next is asked for."""
    for rendition, track in list(film.tracks.items()):
        while track.early:
            yield f"{name}/{rendition}/{track.early.popitem()[0]}".encode()
        while track.line:
            track.line.pop()
            yield f"{name}/{rendition}/{len(track.line)}".encode()
        del film.tracks[rendition]
        yield f"{name}/{rendition}".encode()
