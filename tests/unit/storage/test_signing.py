"""Signed URLs of the folder store."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.storage.keys import key_fault
from services.runtime.storage.signing import BadSignature, Expired, Grant, sign, stable_expiry, verify

SECRET = b"s" * 32
GET = Grant(method="GET", bucket="media", key="a/film.mp4", expires=1000, filename="My film.mp4")
PUT = Grant(method="PUT", bucket="media", key="a/film.mp4", expires=1000, size=5, content_type="video/mp4")


def shown(url: str) -> tuple[str, dict[str, str]]:
    """Key and query as a server sees them."""
    parts = urlsplit(url)
    assert parts.path.startswith("/v1/media/")
    return unquote(parts.path.removeprefix("/v1/media/")), dict(parse_qsl(parts.query, keep_blank_values=True))


@given(
    key=st.text(min_size=1, max_size=40).filter(lambda key: not key_fault(key)),
    bucket=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    filename=st.text(st.characters(exclude_categories=["Cs"])),
    expires=st.integers(1, 2**40),
)
def test_a_signed_url_gives_back_its_grant(key: str, bucket: str, filename: str, expires: int) -> None:
    grant = Grant(method="GET", bucket=bucket, key=key, expires=expires, filename=filename)
    seen, query = shown(sign(SECRET, grant))
    for method in ("GET", "HEAD"):
        assert verify(SECRET, method=method, key=seen, query=query, now=expires - 1) == grant


@pytest.mark.parametrize(
    "change",
    [
        {"bucket": "archive"},
        {"expires": "2000"},
        {"expires": " 1000"},
        {"expires": "1_000"},
        {"filename": "other.mp4"},
        {"filename": ""},
        {"content_type": "text/html"},
        {"signature": ""},
        {"signature": "é"},
        {"signature": "A" * 43},
        {"bucket": "\ud800"},
    ],
)
def test_any_change_is_noticed(change: dict[str, str]) -> None:
    key, query = shown(sign(SECRET, GET))
    with pytest.raises(BadSignature):
        verify(SECRET, method="GET", key=key, query={**query, **change}, now=1)


@pytest.mark.parametrize("missing", ["bucket", "expires", "signature"])
def test_a_missing_part_is_said(missing: str) -> None:
    key, query = shown(sign(SECRET, GET))
    del query[missing]
    with pytest.raises(BadSignature, match="not complete"):
        verify(SECRET, method="GET", key=key, query=query, now=1)


def test_it_holds_for_its_key_its_method_and_its_secret_only() -> None:
    key, query = shown(sign(SECRET, GET))
    for secret, method, name in ((b"t" * 32, "GET", key), (SECRET, "PUT", key), (SECRET, "DELETE", key), (SECRET, "GET", "a/other.mp4")):
        with pytest.raises(BadSignature):
            verify(secret, method=method, key=name, query=query, now=1, size=5)


def test_it_ends_at_its_expiry() -> None:
    key, query = shown(sign(SECRET, GET))
    assert verify(SECRET, method="GET", key=key, query=query, now=999.9) == GET
    with pytest.raises(Expired, match="has expired"):
        verify(SECRET, method="GET", key=key, query=query, now=1000)


def test_a_put_is_for_its_size_and_type() -> None:
    key, query = shown(sign(SECRET, PUT))
    assert verify(SECRET, method="PUT", key=key, query=query, now=1, size=5, content_type="video/mp4") == PUT
    for size, content_type, reason in ((4, "video/mp4", "5 bytes"), (None, "video/mp4", "5 bytes"), (5, "text/html", "video/mp4")):
        with pytest.raises(BadSignature, match=reason):
            verify(SECRET, method="PUT", key=key, query=query, now=1, size=size, content_type=content_type)
    with pytest.raises(BadSignature):
        verify(SECRET, method="PUT", key=key, query={**query, "size": "6"}, now=1, size=6, content_type="video/mp4")


def test_neighbouring_fields_cannot_trade_letters() -> None:
    one = Grant(method="GET", bucket="ab", key="c", expires=1)
    other = Grant(method="GET", bucket="a", key="bc", expires=1)
    assert parse_qsl(sign(SECRET, one))[-1] != parse_qsl(sign(SECRET, other))[-1]


@given(now=st.floats(0, 2**33), life=st.integers(1, 7 * 86400))
def test_an_expiry_lies_between_a_quarter_of_the_life_and_all_of_it(now: float, life: int) -> None:
    left = stable_expiry(now, life) - now
    assert life / 4 - 1 <= left <= life


def test_an_expiry_is_the_same_for_three_quarters_of_the_life() -> None:
    assert len({stable_expiry(900 * 1000 + second, 1200) for second in range(900)}) == 1
    assert stable_expiry(900 * 1001, 1200) - stable_expiry(900 * 1000, 1200) == 900
