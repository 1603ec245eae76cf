"""Where a film may be cut without encoding it: at its key frames. The index of an MP4 tells; other files are read through once."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain, pairwise, repeat

import msgspec

from services.runtime.media import sandbox
from services.runtime.media.confinement import Confinement
from services.runtime.media.process import spawn
from services.runtime.media.structure import Read

INDEX_LIMIT = 128 * 1024**2
"""Bytes of an MP4's index; a day of film has about 40 MB."""
DAMAGED = (ValueError, KeyError, IndexError, struct.error, OverflowError, MemoryError)
"""What reading a damaged index raises."""
# Clocks of different fineness: times that differ by less are the same.
_SAME_SECONDS = 0.002
# A picture that is decoded this long after the one before it belongs to another recording.
_JUMP_SECONDS = 10.0


class Cuts(msgspec.Struct, frozen=True, kw_only=True):
    """The key frames of a film, and whether the film may be cut there."""

    start_seconds: float
    """When its first picture is shown."""
    frames: int
    longest_seconds: float
    """From one key frame to the next, or to the end, at most."""
    obstacle: str = ""
    """Empty, or why not, in words."""


class _Track(msgspec.Struct, frozen=True, kw_only=True):
    """Times in ticks of `timescale`."""

    timescale: int
    decoded: Sequence[int]
    shown: Sequence[int]
    ends: int
    keys: Sequence[int]
    """Numbers of the key frames, from 0."""
    edits: tuple[tuple[int, int], ...]
    """Length in ticks of the film's clock, and where it begins in the media; -1: nothing is shown for so long."""
    clock: int


class _Malformed(ValueError):
    pass


async def of_index(read: Read, index: tuple[int, int] | None, track: int) -> Cuts | None:
    """Of the `track`-th track of an MP4, from its index, which lies where `structure.examine` has found it.

    None when it has none that tells: fragments, or another container.
    """
    if index is None or index[1] - index[0] > INDEX_LIMIT:
        return None
    moov = await read(*index)
    try:
        return cuts_of(moov, track)
    except DAMAGED:
        return None


def cuts_of(moov: bytes, track: int) -> Cuts | None:
    """As `of_index`, of the body of a `moov` box (ISO/IEC 14496-12, chapter 8).

    Raises one of DAMAGED for nonsense.
    """
    found = _track(memoryview(moov), track)
    if found is None or not found.decoded:
        return None
    first, last = min(found.shown), max(found.shown)
    span = [*(found.decoded[k] for k in found.keys), found.ends]
    longest = max((b - a for a, b in pairwise(span)), default=found.ends)
    delay = sum(length for length, begin in found.edits if begin < 0) / found.clock if found.clock else 0.0
    begin = next((begin for _, begin in found.edits if begin >= 0), 0)
    return Cuts(
        start_seconds=delay + (first - begin) / found.timescale,
        frames=len(found.decoded),
        longest_seconds=longest / found.timescale,
        obstacle=_obstacle(found, first, last),
    )


async def of_packets(
    ffprobe: str,
    location: str,
    index: int,
    *,
    longest: float,
    within: Confinement | None,
    timeout: float,
    check: Callable[[], None] | None = None,
) -> Cuts:
    """Of stream `index`, by reading the file. Stops at the first distance of key frames over `longest` seconds.

    Raises what `spawn` raises.
    """
    url = sandbox.as_url(location)
    argv = [
        ffprobe, "-v", sandbox.VERBOSITY, "-hide_banner", *sandbox.as_arguments(sandbox.reading(url)),
        "-select_streams", str(index), "-show_entries", "packet=pts_time,dts_time,duration_time,flags", "-of", "csv=p=0", "-i", url,
    ]  # fmt: skip
    scan = _Scan(longest)
    try:
        async with spawn(argv, within=within, timeout=timeout, check=check) as running:
            while line := await running.stdout.readline():
                scan.add(line.decode("ascii", "replace").strip().split(","))
                if scan.obstacle:
                    raise _Enough
    except _Enough:
        pass
    return scan.cuts()


class _Enough(Exception):
    """Reading on would change nothing."""


class _Scan:
    """Packets as ffprobe lists them: shown at, decoded at, for how long, flags."""

    def __init__(self, longest: float) -> None:
        self._limit = longest
        self._key: float | None = None
        self._end = self._start = self._longest = 0.0
        self._decoded: float | None = None
        self._wait: float | None = None
        self._uneven = False
        self._frames = 0
        self.obstacle = ""

    def add(self, fields: list[str]) -> None:
        if len(fields) < 4:
            return
        shown, decoded, length = (_number(f) for f in fields[:3])
        flags = fields[3]
        if shown is None:
            self.obstacle = "a picture has no time"
            return
        if "D" in flags:
            self.obstacle = "it hides a part of itself"
        if decoded is not None and self._decoded is not None and not 0 <= decoded - self._decoded <= _JUMP_SECONDS:
            self.obstacle = "its clock jumps"
        self._decoded = decoded if decoded is not None else self._decoded
        if "K" in flags:
            self._group(shown, shown - decoded if decoded is not None else None)
        elif self._key is None:
            self.obstacle = "it does not begin with a key frame"
        elif shown < self._key:
            self.obstacle = _OPEN
        self._frames += 1
        self._end = max(self._end, shown + (length or 0.0))

    def cuts(self) -> Cuts:
        if not self._frames and not self.obstacle:
            self.obstacle = "it has no pictures"
        if self._uneven and not self.obstacle:
            self.obstacle = _UNEVEN
        longest = max(self._longest, self._end - (self._key or 0.0))
        return Cuts(start_seconds=self._start, frames=self._frames, longest_seconds=longest, obstacle=self.obstacle)

    def _group(self, shown: float, wait: float | None) -> None:
        if self._uneven:
            self.obstacle = _UNEVEN
        # Said at the next key frame only: the group may be an open one, which is the better answer.
        self._uneven = wait is not None and self._wait is not None and abs(wait - self._wait) > _SAME_SECONDS
        self._wait = wait if self._wait is None else self._wait
        if self._key is None:
            self._start = shown
        else:
            self._longest = max(self._longest, shown - self._key)
            if self._longest > self._limit:
                self.obstacle = f"its key frames are {self._longest:.1f} s apart"
        self._key = shown


_OPEN = "its groups of pictures are open: some pictures need the group before theirs"
# Lengths of fragments are counted in decoding time. Where key frames wait for differently long to be shown, those are not the
# lengths that are seen.
_UNEVEN = "its pictures come at varying distances and are reordered"


def _obstacle(track: _Track, first: int, last: int) -> str:
    if not track.keys or track.keys[0] != 0:
        return "it does not begin with a key frame"
    for key, after in pairwise([*track.keys, len(track.decoded)]):
        if min(track.shown[key:after]) < track.shown[key]:
            return _OPEN
    slack = _SAME_SECONDS * track.timescale
    waits = [track.shown[key] - track.decoded[key] for key in track.keys]
    if max(waits) - min(waits) > slack:
        return _UNEVEN
    shown = [(length, begin) for length, begin in track.edits if begin >= 0]
    if len(shown) > 1:
        return "it is edited: its parts are shown in another order"
    if shown:
        length, begin = shown[0]
        # The last picture begins at `last`: an edit that ends before that hides it.
        ends = begin + length * track.timescale / track.clock if length and track.clock else last + 1
        if begin > first + slack or ends <= last - slack:
            return "it is edited: a part of it is not shown"
    return ""


def _track(moov: memoryview, number: int) -> _Track | None:
    boxes = list(_boxes(moov))
    if any(kind == b"mvex" for kind, _ in boxes):
        # Fragments follow, and the index says nothing of them.
        return None
    traks = [body for kind, body in boxes if kind == b"trak"]
    if number >= len(traks):
        return None
    clock = _timescale(_one(moov, b"mvhd"))
    trak = traks[number]
    mdia = _one(trak, b"mdia")
    if bytes(_one(mdia, b"hdlr")[8:12]) != b"vide":
        return None
    stbl = _one(_one(mdia, b"minf"), b"stbl")
    tables = dict(_boxes(stbl))
    if struct.unpack_from(">I", tables[b"stsd"], 4)[0] != 1:
        return None
    runs = list(_pairs(tables[b"stts"], "II"))
    # Some bytes can claim billions of pictures; as many have a size as there are, and each of those takes four bytes.
    if sum(count for count, _ in runs) != _sized(tables[b"stsz"]):
        raise _Malformed("its pictures are counted in two ways")
    decoded = array("q", accumulate(chain.from_iterable(repeat(step, count) for count, step in runs), initial=0))
    ends = decoded.pop()
    shown: Sequence[int] = decoded
    if b"ctts" in tables:
        # Version 0 has no sign; writers that need one use it all the same.
        offsets = chain.from_iterable(repeat(offset, count) for count, offset in _pairs(tables[b"ctts"], "Ii"))
        shown = array("q", (time + offset for time, offset in zip(decoded, offsets, strict=True)))
    keys: Sequence[int] = range(len(decoded))
    if b"stss" in tables:
        keys = array("q", (n - 1 for (n,) in _entries(tables[b"stss"], "I")))
    edts = dict(_boxes(trak)).get(b"edts")
    return _Track(
        timescale=_timescale(_one(mdia, b"mdhd")),
        decoded=decoded,
        shown=shown,
        ends=ends,
        keys=keys,
        edits=_edits(_one(edts, b"elst")) if edts is not None else (),
        clock=clock,
    )


def _edits(elst: memoryview) -> tuple[tuple[int, int], ...]:
    """8.6.6."""
    layout = "QqI" if elst[0] == 1 else "IiI"
    return tuple((length, begin) for length, begin, _ in _entries(elst, layout))


def _timescale(header: memoryview) -> int:
    """Of `mvhd` and `mdhd`, which begin alike (8.2.2, 8.4.2)."""
    value: int = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0]
    if not value:
        raise _Malformed("a clock without ticks")
    return value


def _sized(stsz: memoryview) -> int:
    """How many samples have a size of their own (8.7.3.2). All of the same size, as no film's are, is nonsense here."""
    same, count = struct.unpack_from(">II", stsz, 4)
    if same or 12 + 4 * count > len(stsz):
        raise _Malformed("its pictures have no sizes")
    return int(count)


def _pairs(body: memoryview, layout: str) -> Iterator[tuple[int, int]]:
    yield from ((a, b) for a, b in _entries(body, layout))


def _entries(body: memoryview, layout: str) -> Iterator[tuple[int, ...]]:
    """Of a full box that is a table: version and flags, number of entries, entries."""
    count = struct.unpack_from(">I", body, 4)[0]
    entry = struct.Struct(">" + layout)
    if 8 + count * entry.size > len(body):
        raise _Malformed("a table is shorter than it says")
    return entry.iter_unpack(body[8 : 8 + count * entry.size])


def _one(data: memoryview, wanted: bytes) -> memoryview:
    for kind, body in _boxes(data):
        if kind == wanted:
            return body
    raise _Malformed(f"there is no box {wanted!r}")


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        head = 8
        if size == 1 and at + 16 <= len(data):
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if not head <= size <= len(data) - at:
            raise _Malformed(f"a box of {size} bytes in {len(data) - at}")
        yield bytes(data[at + 4 : at + 8]), data[at + head : at + size]
        at += size


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
