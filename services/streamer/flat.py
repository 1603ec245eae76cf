"""The layout of old servers: `Folder/NAME.hls/output.m3u8` and MPEG-TS segments beside it. Pure.

Such a server lists the folders at the top of a bucket and the files in them, shows each `NAME.hls/output.m3u8` once as NAME,
and hides what else is in `NAME.hls/`, wherever in the bucket. So NAME has no `.`, `#`, `?` or `%`, there is one such folder in
the bucket, and one object in it whose name holds `output.m3u8`.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

from services.runtime.jobs.failures import Permanent
from services.runtime.media.presentation import Presentation, Rendition
from services.runtime.storage.folders import RESERVED
from services.runtime.storage.keys import key_fault
from services.streamer.eligibility import LONGEST_SECONDS

OUTPUT = "output.m3u8"
WINDOW_SECONDS = 300
"""Of film in one task: seconds of work, and at most some hundred MB of scratch space."""
ACCEPTED = "A target is like `Holidays/Crete.hls/`: one folder, and a name that ends in `.hls` without a further . # ? or %."
# Of file systems, and so of folder stores.
_LONGEST_NAME = 255
_TARGET = re.compile(r"(?P<folder>[^/]+)/(?P<name>[^/.#?%]+)\.hls/")
_OURS = re.compile(r"[0-9a-f]{8}-(?:\d+-)?\d{5,}\.ts|\d+p\.m3u8")


def parse_target(target: str) -> tuple[str, str]:
    """Folder and NAME of a target. Raises Permanent saying what is accepted."""
    match = _TARGET.fullmatch(target)
    fault = key_fault(target + OUTPUT) if target else "it is empty"
    if not fault and any(len(part.encode()) > _LONGEST_NAME for part in target.split("/")):
        fault = f"a part of it is longer than {_LONGEST_NAME} bytes"
    if fault or match is None:
        raise Permanent("target", f"{target!r} cannot be a target" + (f": {fault}" if fault else ""), ACCEPTED)
    if match["folder"] in RESERVED:
        raise Permanent("target", f"{target!r} cannot be a target: {match['folder']}/ is where Reelworks keeps its own objects", ACCEPTED)
    return match["folder"], match["name"]


def stem_of(job_id: str) -> str:
    """What the names of a job's segments begin with: an older playlist beside them stays valid until it is replaced."""
    return hashlib.sha256(job_id.encode()).hexdigest()[:8]


def named_in(text: str) -> list[str]:
    """URIs in a playlist (RFC 8216 §4.1)."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def is_ours(name: str) -> bool:
    """Whether an object in a target may be removed when no playlist names it any more."""
    return _OURS.fullmatch(name) is not None


def segment_name(stem: str, rendition: Rendition, number: int, *, several: bool) -> str:
    """Numbers count from 1. Renditions beside each other are told apart by their heights."""
    return f"{stem}-{height_of(rendition)}-{number:05d}.ts" if several else f"{stem}-{number:05d}.ts"


def playlist_name(rendition: Rendition) -> str:
    """Of one of several renditions: `720p.m3u8`."""
    return f"{height_of(rendition)}p.m3u8"


def height_of(rendition: Rendition) -> int:
    """What people call its height: the short side, upright films too."""
    return min(rendition.width, rendition.height)


def choose(presentation: Presentation, heights: Sequence[int]) -> tuple[Rendition, ...]:
    """The renditions that are wanted: the best one alone, or those of the heights. Heights above all are the largest one.

    Raises Permanent when there is none of a height, naming those that there are.
    """
    videos = presentation.videos
    if not videos:
        if not presentation.audios:
            raise Permanent("no-streams", "there is neither film nor sound in it")
        return tuple(a for a in presentation.audios if a == sound(presentation))[:1]
    if not heights:
        return videos[:1]
    there = {height_of(r): r for r in reversed(videos)}
    missing = [h for h in heights if h not in there and h < max(there)]
    if missing:
        named = ", ".join(str(h) for h in sorted(there, reverse=True))
        raise Permanent("heights", f"there is no rendition of height {missing[0]}; there are {named}", "Ask for some of these.")
    wanted = {min(h, max(there)) for h in heights}
    return tuple(there[h] for h in sorted(wanted, reverse=True))


def sound(presentation: Presentation) -> Rendition | None:
    """The one that goes with the pictures: a transport stream has a single one."""
    audios = presentation.audios
    return next((a for a in audios if a.default), audios[0] if audios else None)


def refuse_long(rendition: Rendition) -> None:
    """Raises Permanent for segments that old players would not expect."""
    longest = max(rendition.durations(), default=0.0)
    if longest > LONGEST_SECONDS:
        raise Permanent(
            "long-segments",
            f"{rendition.name} has segments of up to {longest:.1f} s; the flat layout has at most {LONGEST_SECONDS} s",
            "Transcode the film again: segments of today are shorter.",
        )


def windows(seconds: float) -> int:
    """Into how many parts a film is divided."""
    return max(1, round(seconds / WINDOW_SECONDS))


def starts(rendition: Rendition) -> list[Fraction]:
    """When each segment begins, and when the last one ends, in seconds."""
    return [Fraction(t, rendition.timescale) for t in accumulate((s.ticks for s in rendition.segments), initial=0)]


def members(rendition: Rendition, window: int, *, last: bool) -> range:
    """Numbers of the segments in a part: those that begin in it. Each segment is in exactly one part."""
    begins = starts(rendition)[:-1]
    first = bisect_left(begins, window * WINDOW_SECONDS)
    return range(first, len(begins) if last else bisect_left(begins, (window + 1) * WINDOW_SECONDS))
