"""Playback tokens: for one film, until they expire, by any key that is still valid."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.auth.playback import (
    ANYBODY,
    PlaybackKey,
    PlaybackTokens,
    TokenExpired,
    TokenForged,
    keys_of,
)
from services.runtime.settings import Settings, SettingsError, secret_values
from services.runtime.telemetry.redaction import Redactor

NOW = 1_795_297_320.5
LIFE = 6 * 3600
OLD, NEW = PlaybackKey("old", b"o" * 32), PlaybackKey("new", b"n" * 32)


def tokens(*keys: PlaybackKey) -> PlaybackTokens:
    return PlaybackTokens(keys or (NEW,), life_seconds=LIFE)


@given(asset_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,40}", fullmatch=True), viewer=st.text(max_size=40))
def test_a_token_opens_its_film_on_any_gateway_with_the_key(asset_id: str, viewer: str) -> None:
    token = tokens().issue(asset_id, viewer, NOW)
    tokens().verify(token.text, asset_id, NOW)
    assert set(token.text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


@pytest.mark.parametrize("known", [False, True])
def test_it_opens_no_other_film(known: bool) -> None:
    mine = tokens()
    token = mine.issue("a", ANYBODY, NOW)
    if known:
        mine.verify(token.text, "a", NOW)
    with pytest.raises(TokenForged, match="another film"):
        mine.verify(token.text, "b", NOW)


@pytest.mark.parametrize("known", [False, True])
def test_it_expires(known: bool) -> None:
    mine = tokens()
    token = mine.issue("a", ANYBODY, NOW)
    if known:
        mine.verify(token.text, "a", NOW)
    mine.verify(token.text, "a", token.expires - 0.1)
    with pytest.raises(TokenExpired, match="has expired; ask for a new one"):
        mine.verify(token.text, "a", token.expires)


def test_it_stays_the_same_for_three_quarters_of_its_life_and_always_holds_a_quarter() -> None:
    seen: dict[str, list[float]] = {}
    for minute in range(0, 24 * 60):
        now = NOW + minute * 60
        token = tokens().issue("a", ANYBODY, now)
        assert LIFE // 4 <= token.expires - int(now) <= LIFE
        seen.setdefault(token.text, []).append(now)
    assert len(seen) <= 24 / 4.5 + 2


@pytest.mark.parametrize("place", range(4))
def test_what_was_changed_anywhere_is_forged(place: int) -> None:
    parts = tokens().issue("a", ANYBODY, NOW).text.split(".")
    for changed in (parts[place][:-1] + ("x" if parts[place][-1] != "x" else "y"), "", parts[place] + "A", "ä", "../"):
        with pytest.raises(TokenForged):
            tokens().verify(".".join([*parts[:place], changed, *parts[place + 1 :]]), "a", NOW)


@pytest.mark.parametrize("text", ["", ".", "...", "x" * 100_000, "new.99999999999999999999..x", "\ud800", "new.1.\x00.x"])
def test_nonsense_is_forged(text: str) -> None:
    with pytest.raises(TokenForged):
        tokens().verify(text, "a", NOW)


def test_an_expiry_cannot_be_put_off() -> None:
    token = tokens().issue("a", ANYBODY, NOW)
    with pytest.raises(TokenForged):
        tokens().verify(token.text.replace(str(token.expires), str(token.expires + 1)), "a", NOW)


def test_keys_are_rotated_by_putting_a_new_one_first_and_dropping_the_old_one_later() -> None:
    before = tokens(OLD).issue("a", ANYBODY, NOW).text
    both = tokens(NEW, OLD)
    both.verify(before, "a", NOW)
    after = both.issue("a", ANYBODY, NOW).text
    assert after.startswith("new.")
    tokens(NEW).verify(after, "a", NOW)
    with pytest.raises(TokenForged, match="'old' of the playback token is not one of the gateway's"):
        tokens(NEW).verify(before, "a", NOW)


def test_a_key_under_the_name_of_another_does_not_open() -> None:
    token = tokens(PlaybackKey("new", b"x" * 32)).issue("a", ANYBODY, NOW)
    with pytest.raises(TokenForged):
        tokens(NEW).verify(token.text, "a", NOW)


def test_without_a_setting_the_key_follows_from_the_signing_key() -> None:
    one, other = keys_of(Settings(), b"k" * 32), keys_of(Settings(), b"l" * 32)
    token = tokens(*one).issue("a", ANYBODY, NOW)
    tokens(*keys_of(Settings(), b"k" * 32)).verify(token.text, "a", NOW)
    with pytest.raises(TokenForged):
        tokens(*other).verify(token.text, "a", NOW)
    assert one[0].secret != b"k" * 32


def test_configured_keys_are_read_in_order() -> None:
    keys = keys_of(Settings(playback_keys="b-2: another long secret ,a_1:a:secret:with:colons"), b"k")
    assert [(key.name, key.secret) for key in keys] == [("b-2", b"another long secret"), ("a_1", b"a:secret:with:colons")]


@pytest.mark.parametrize(
    "text",
    ["no-secret", "a:short", ":0123456789abcdef", "a b:0123456789abcdef", "a:0123456789abcdef,", "a:0123456789abcdef,a:fedcba9876543210"],
)
def test_unusable_keys_are_named_without_their_secrets(text: str) -> None:
    with pytest.raises(SettingsError, match=r"REELWORKS_PLAYBACK_KEYS: key \d .*accepted is id:secret,id2:secret2") as refused:
        keys_of(Settings(playback_keys=text), b"k")
    for secret in ("0123456789abcdef", "fedcba9876543210", "short"):
        assert secret not in str(refused.value).replace("too short", "")


def test_neither_secrets_nor_tokens_reach_a_log() -> None:
    settings = Settings(playback_keys="a:0123456789abcdef,b:fedcba9876543210")
    redactor = Redactor(secret_values(settings))
    token = tokens(*keys_of(settings, b"k")).issue("a", ANYBODY, NOW).text
    lines: list[Any] = ["key 0123456789abcdef", {"url": f"http://x/y.m3u8?token={token}&a=b"}, {"cookie": f"reelworks_play={token}"}]
    said = repr(redactor.value(lines)) + repr(keys_of(settings, b"k"))
    for secret in ("0123456789abcdef", "fedcba9876543210", token):
        assert secret not in said
