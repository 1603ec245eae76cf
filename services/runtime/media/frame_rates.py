"""Which constant frame rate a film is given. Pure."""

from __future__ import annotations

from fractions import Fraction

STANDARD: tuple[Fraction, ...] = (
    Fraction(5), Fraction(10), Fraction(12), Fraction(15), Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001),
    Fraction(30), Fraction(48), Fraction(50), Fraction(60000, 1001), Fraction(60),
)  # fmt: skip
HIGHEST = Fraction(60)
"""Apple HLS Authoring Specification 1.10: 60 fps and below. Faster sources are halved until they fit."""
LOWEST = Fraction(1)
"""Slower sources repeat their pictures: segments are to be a few seconds long, and cut between pictures."""
DEFAULT = Fraction(25)
"""For a source that tells nothing at all."""
# Above this a lone number is the clock of the container, not a rate of pictures.
_CLOCK = 240
# 23.976 and 24 differ by 0.1 %: what is to be told apart must be nearer than half of that.
_SAME = Fraction(5, 10_000)


def parse(text: str | None) -> Fraction | None:
    """ffprobe's `24000/1001`; None for `0/0`, absent or absurd values."""
    try:
        value = Fraction(text) if text else None
    except (ValueError, ZeroDivisionError):
        return None
    return value if value is not None and 0 < value <= 100_000 else None


def choose(average: Fraction | None, real: Fraction | None) -> tuple[Fraction, bool]:
    """The rate to encode at, and whether the source has it already (constant rate: every frame keeps its own place).

    `average` is frames by duration, `real` the lowest rate that can tell all time stamps apart (ffprobe's `avg_frame_rate`
    and `r_frame_rate`). Where they differ the rate varies; then the finer one is taken as long as it is a rate that players
    show, so that no movement is lost: repeated pictures cost hardly any bits.
    """
    rate, constant = _choose(average, real)
    return (rate, constant) if rate >= LOWEST else (LOWEST, False)


def _choose(average: Fraction | None, real: Fraction | None) -> tuple[Fraction, bool]:
    if average is None and real is None:
        return DEFAULT, False
    if average is None or real is None:
        rate = average or real
        assert rate is not None
        return (_snap(_fit(rate)), rate <= HIGHEST) if rate <= _CLOCK else (DEFAULT, False)
    if abs(real / average - 1) < Fraction(1, 100):
        # Within a hundredth: the average of a constant rate, blurred by how the duration was rounded.
        return _snap(_fit(real)), real <= HIGHEST
    if abs(real / (2 * average) - 1) < Fraction(1, 100):
        # Twice: `real` counts fields, not frames.
        return _snap(_fit(average)), average <= HIGHEST
    if real <= HIGHEST:
        return _snap(real), False
    return next((r for r in STANDARD if r >= average * (1 - _SAME)), HIGHEST), False


def _fit(rate: Fraction) -> Fraction:
    while rate > HIGHEST * (1 + _SAME):
        rate /= 2
    return rate


def _snap(rate: Fraction) -> Fraction:
    """A standard rate that is meant (2997/125 is 24000/1001), else a fraction with a small denominator."""
    for standard in STANDARD:
        if abs(rate / standard - 1) < _SAME:
            return standard
    return rate.limit_denominator(1001)
