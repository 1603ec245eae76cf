"""The cache of signed URLs."""

from __future__ import annotations

from services.runtime.storage.signed_urls import UrlCache


def test_a_url_is_kept_for_three_quarters_of_its_life() -> None:
    cache, made = UrlCache(), iter(["first", "second", "third"])

    def at(now: float) -> str:
        return cache.get(("a",), life=100, now=now, make=lambda: next(made))

    assert [at(1000), at(1074), at(1075), at(1149), at(1150)] == ["first", "first", "second", "second", "third"]


def test_the_clock_may_be_set_back() -> None:
    cache, made = UrlCache(), iter(["first", "second"])
    urls = [cache.get(("a",), life=100, now=now, make=lambda: next(made)) for now in (1000, 900)]
    assert urls == ["first", "second"]


def test_only_the_latest_are_kept() -> None:
    cache, made = UrlCache(most=2), iter(range(10))
    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get((name,), life=100, now=0, make=lambda: f"{name}{next(made)}")  # noqa: B023
    assert next(made) == 4
