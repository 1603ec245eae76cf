"""Where a film is cut: segments of about four seconds, chunks of about thirty. Pure.

Both are counted in frames, so the cuts fall between frames at any frame rate, and every rung has the same ones.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec

SEGMENT_SECONDS = 4
"""RFC 8216bis, appendix on target durations, and Apple's specification aim at 6 s; 4 starts and switches sooner, and old players of
this library expect it."""
CHUNK_SECONDS = 30
"""About the work of one task: short enough to lose little with a machine, long enough that starting ffmpeg does not show."""
# Below this, players of MP4 round times noticeably.
_LEAST_TIMESCALE = 10_000


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """The film's frames and their clock."""

    rate_num: int
    rate_den: int
    segment_frames: int
    chunk_segments: int
    timescale: int
    """Ticks per second."""
    ticks: int
    """Of one frame: a whole number, so that no rounding adds up."""

    @property
    def rate(self) -> Fraction:
        return Fraction(self.rate_num, self.rate_den)

    @property
    def chunk_frames(self) -> int:
        return self.segment_frames * self.chunk_segments

    @property
    def segment_seconds(self) -> float:
        return float(self.segment_frames / self.rate)

    def segments_of(self, frames: int) -> int:
        """How many segments hold so many frames."""
        return -(-frames // self.segment_frames)


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """What one task encodes."""

    number: int
    first_frame: int
    frames: int
    """As planned."""
    last: bool
    """The last one takes whatever is left: a container's duration is a promise only."""
    first_segment: int


def grid(rate: Fraction) -> Grid:
    """Segments for a frame rate: whole frames, as near to four seconds as they come."""
    segment_frames = max(1, round(rate * SEGMENT_SECONDS))
    factor = 1
    while rate.numerator * factor < _LEAST_TIMESCALE:
        factor *= 10
    return Grid(
        rate_num=rate.numerator,
        rate_den=rate.denominator,
        segment_frames=segment_frames,
        chunk_segments=max(1, round(CHUNK_SECONDS * rate / segment_frames)),
        timescale=rate.numerator * factor,
        ticks=rate.denominator * factor,
    )


def chunks(frames: int, cut: Grid, *, single: bool = False) -> tuple[Chunk, ...]:
    """The chunks of `frames` frames (0: unknown), in order; each frame is in exactly one. `single`: one for all.

    A rest of less than half a chunk goes with the chunk before it.
    """
    number = 1 if single else max(1, round(Fraction(frames, cut.chunk_frames) + Fraction(1, 1000)))
    return tuple(
        Chunk(
            number=n,
            first_frame=n * cut.chunk_frames,
            frames=cut.chunk_frames if n + 1 < number else max(0, frames - n * cut.chunk_frames),
            last=n + 1 == number,
            first_segment=n * cut.chunk_segments,
        )
        for n in range(number)
    )
