"""Which renditions a film gets. Pure.

Heights and bit rates follow the H.264 table of Apple's "HLS Authoring Specification for Apple Devices" (1.6, "Video
average bit rate", up to 30 fps): 640×360 365 and 768×432 730–1100, 960×540 2000, 1280×720 3000–4500, 1920×1080
6000–7800 kbit/s. There they are what is aimed at; here they are ceilings, because quality is held constant (`encode.CRF`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import msgspec

STANDARD: tuple[int, ...] = (1080, 720, 480, 360)
"""Short sides. More rungs cost more than they gain: the next lower one is then at least two thirds as large."""
HIGHEST = STANDARD[0]
"""Larger sources are scaled down to this unless the recipe asks for more."""
# A rung this near below another one shows nothing that the other does not.
_LEAST_STEP = 1.25
SMALLEST = 16
"""Below this short side there is nothing to see, and chroma planes of half the size do not scale."""
# H.264 level 5.1 ends here (ITU-T H.264, table A-1: 36,864 macroblocks, at most √(8 × that) wide), and so do decoders of phones.
_LONGEST = 4096

# Pixels and ceiling in bits per second; between them in proportion.
_RATES: tuple[tuple[int, int], ...] = (
    (416 * 234, 400_000),
    (640 * 360, 800_000),
    (854 * 480, 1_600_000),
    (960 * 540, 2_000_000),
    (1280 * 720, 4_500_000),
    (1920 * 1080, 7_800_000),
    (3840 * 2160, 24_000_000),
)


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One rendition."""

    side: int
    """Short side: what people call `720p`, upright films too."""
    width: int
    height: int
    max_rate: int
    """Bits per second."""

    @property
    def name(self) -> str:
        return f"{self.side}p"


def choose(width: int, height: int, *, heights: Iterable[int] = (), highest: int = HIGHEST, frame_rate: float = 25.0) -> tuple[Rung, ...]:
    """The rungs for a picture of this size (square pixels, turned), largest first; at least one.

    Never larger than the source, even in both directions, no two alike. `heights` (short sides) replaces the standard ladder;
    those above the source become the source's own. Without it: the source's own size up to `highest`, then the standard rungs
    that are clearly smaller.
    """
    short = min(width, height, min(width, height) * _LONGEST // max(width, height))
    wanted = [min(h, short) for h in heights] or _standard(min(short, highest))
    rungs: dict[tuple[int, int], Rung] = {}
    for side in sorted(set(wanted), reverse=True):
        w, h = _size(width, height, side)
        rungs.setdefault((w, h), Rung(side=min(w, h), width=w, height=h, max_rate=_rate(w * h, frame_rate)))
    return tuple({rung.side: rung for rung in reversed(rungs.values())}.values())[::-1]


def _standard(top: int) -> list[int]:
    chosen = [top]
    chosen += [side for side in STANDARD if side * _LEAST_STEP <= top]
    return chosen


def _size(width: int, height: int, side: int) -> tuple[int, int]:
    """Scaled so that the short side is `side` and the long one at most _LONGEST; even, and never above the source."""
    scale = min(side / min(width, height), _LONGEST / max(width, height), 1.0)
    return _even(width * scale, width), _even(height * scale, height)


def _even(wanted: float, most: int) -> int:
    return max(2, min(2 * round(wanted / 2), most - most % 2))


def _rate(pixels: int, frame_rate: float) -> int:
    # The table is for 30 fps. Pictures that follow faster differ less: half as many more bits for twice the pictures.
    faster = 1 + max(0.0, min(frame_rate, 60.0) - 30.0) / 60.0
    if pixels <= _RATES[0][0]:
        return round(_RATES[0][1] * faster)
    for (lower, low), (upper, high) in pairwise(_RATES):
        if pixels <= upper:
            return round((low + (high - low) * (pixels - lower) / (upper - lower)) * faster)
    return round(_RATES[-1][1] * pixels / _RATES[-1][0] * faster)
