"""Where callbacks may go, as far as a URL tells."""

from __future__ import annotations

import pytest

from services.runtime.callbacks import CallbackRefused, check
from services.runtime.settings import Settings

LISTED = Settings(callback_allow=("app.example.org", "*.hooks.example.org", "fixed.example.org:8443", "10.1.2.3", "[2001:db8::1]:9000"))


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example.org/done",
        "https://APP.example.org./done?x=1",
        "https://app.example.org:8443/",
        "https://a.hooks.example.org/",
        "https://a.b.hooks.example.org/",
        "https://fixed.example.org:8443/",
    ],
)
def test_a_listed_host_is_allowed(url: str) -> None:
    check(url, LISTED)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://other.example.org/", "REELWORKS_CALLBACK_ALLOW"),
        ("https://hooks.example.org/", "not allowed"),
        ("https://evilhooks.example.org/", "not allowed"),
        ("https://app.example.org.evil.com/", "not allowed"),
        ("https://fixed.example.org/", "not allowed"),
        ("http://app.example.org/", "https"),
        ("ftp://app.example.org/", "https"),
        ("file:///etc/passwd", "https"),
        ("javascript:alert(1)", "https"),
        ("app.example.org/done", "https"),
        ("https://user:secret@app.example.org/", "user name or password"),
        ("https://app.example.org@evil.com/", "user name or password"),
        ("https://app.example.org/#x", "fragment"),
        ("https://app.example.org:0/", "port"),
        ("https://app.example.org:99999/", "port"),
        ("https://app.example.org/ x", "spaces"),
        ("https://app.example.org\\@evil.com/", "backslashes"),
        ("https://[::1/", "cannot be read"),
        ("https:///path", "no host"),
        ("https://10.1.2.3/", "private address"),
        ("https://app.example.org/" + "x" * 2100, "at most"),
    ],
)
def test_everything_else_is_refused_with_a_reason(url: str, words: str) -> None:
    with pytest.raises(CallbackRefused, match=words):
        check(url, LISTED)


def test_the_reason_never_shows_a_password() -> None:
    with pytest.raises(CallbackRefused) as refused:
        check("ftp://user:secret@app.example.org/", LISTED)
    assert "secret" not in str(refused.value)


def test_an_empty_list_allows_nothing() -> None:
    with pytest.raises(CallbackRefused, match="it is empty"):
        check("https://app.example.org/", Settings())


def test_private_addresses_and_http_are_a_setting() -> None:
    check("http://10.1.2.3:8080/done", Settings(callback_allow=("10.1.2.3",), callback_allow_private=True))
    check("http://localhost:8080/done", Settings(callback_allow=("localhost",), callback_allow_private=True))
    check("http://[2001:db8::1]:9000/", Settings(callback_allow=("[2001:db8::1]:9000",), callback_allow_private=True))
    with pytest.raises(CallbackRefused, match="https"):
        check("http://localhost/done", Settings(callback_allow=("localhost",)))
    with pytest.raises(CallbackRefused, match="private"):
        check("https://localhost/done", Settings(callback_allow=("localhost",)))
