from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.media import frame_rates

any_rate = st.one_of(st.none(), st.fractions(min_value=Fraction(1, 10**9), max_value=100_000))


@pytest.mark.parametrize(
    ("average", "real", "expected"),
    [
        ("24/1", "24/1", (Fraction(24), True)),
        ("2997/125", "2997/125", (Fraction(24000, 1001), True)),
        ("24/1", "48/1", (Fraction(24), True)),
        ("10/1", "10/1", (Fraction(10), True)),
        ("1/1", "1/1", (Fraction(1), True)),
        # A picture in many seconds, or in two days: it is repeated once a second.
        ("1/512", "1/512", (Fraction(1), False)),
        ("12800/2147483647", "12800/2147483647", (Fraction(1), False)),
        ("1794000/60061", "30/1", (Fraction(30), True)),
        ("120/1", "120/1", (Fraction(60), False)),
        ("17/1", "60/1", (Fraction(60), False)),
        ("29/1", "90000/1", (Fraction(30000, 1001), False)),
        ("0/0", "24/1", (Fraction(24), True)),
        ("0/0", "1000/1", (Fraction(25), False)),
        ("0/0", "0/0", (Fraction(25), False)),
    ],
)
def test_known_sources(average: str, real: str, expected: tuple[Fraction, bool]) -> None:
    assert frame_rates.choose(frame_rates.parse(average), frame_rates.parse(real)) == expected


@given(average=any_rate, real=any_rate)
def test_the_rate_is_one_that_players_show(average: Fraction | None, real: Fraction | None) -> None:
    rate, _ = frame_rates.choose(average, real)
    assert 1 <= rate <= 60
    assert rate.denominator <= 1001


@pytest.mark.parametrize("text", ["0/0", "", None, "1/0", "x", "-25/1", "1000000/1"])
def test_what_is_no_rate_counts_as_unknown(text: str | None) -> None:
    assert frame_rates.parse(text) is None
