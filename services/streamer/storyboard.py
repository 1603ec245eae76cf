"""A storyboard: small pictures of a film in one JPEG, and WebVTT that says which is shown when, for previews. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.runtime.media.presentation import Rendition

TILE_WIDTH = 160
MOST_TILES = 100
"""In one JPEG: half a megabyte at most, and every two minutes of a film of three hours."""
_COLUMNS = 10
PICTURE = "storyboard.jpg"
TEXT = "storyboard.vtt"


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """Where which picture goes. Tiles are filled row by row."""

    segments: tuple[int, ...]
    """Whose first pictures are shown."""
    columns: int
    rows: int
    width: int
    height: int
    """Of a tile, in pixels."""

    def place(self, number: int) -> tuple[int, int]:
        """Left and top of a tile, in pixels."""
        return number % self.columns * self.width, number // self.columns * self.height


def board(rendition: Rendition) -> Board:
    """The first picture of each segment, or of every second, third … one, so that they fit."""
    count = len(rendition.segments)
    step = -(-count // MOST_TILES)
    segments = tuple(range(0, count, step))
    columns = min(_COLUMNS, len(segments))
    return Board(
        segments=segments,
        columns=columns,
        rows=-(-len(segments) // columns),
        width=TILE_WIDTH,
        height=max(2, 2 * round(TILE_WIDTH * rendition.height / rendition.width / 2)),
    )


def vtt(made: Board, durations: Sequence[float], picture: str = PICTURE) -> str:
    """The text track (W3C WebVTT) with a spatial fragment (W3C Media Fragments 1.0 §4.2.2) for each tile.

    `durations`: of all segments, in seconds.
    """
    lines = ["WEBVTT", ""]
    for number, first in enumerate(made.segments):
        after = made.segments[number + 1] if number + 1 < len(made.segments) else len(durations)
        left, top = made.place(number)
        lines += [
            f"{_timestamp(sum(durations[:first]))} --> {_timestamp(sum(durations[:after]))}",
            f"{picture}#xywh={left},{top},{made.width},{made.height}",
            "",
        ]
    return "\n".join(lines)


def _timestamp(seconds: float) -> str:
    """Hours of two or more digits."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds // 3_600_000:02d}:{milliseconds // 60_000 % 60:02d}:{milliseconds // 1000 % 60:02d}.{milliseconds % 1000:03d}"
