"""Playback tokens: who shows one may watch one film until it expires. Pure: the time is given.

    {key id}.{expires}.{viewer}.{signature}

`expires` is in seconds since 1970; viewer and signature are URL-safe base64 without padding. The signature is HMAC-SHA256 over
the path prefix of the film's stream, `expires`, key id and viewer. The same text is the cookie's value and the query's `token`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence

import msgspec

from services.runtime.settings import Settings, SettingsError
from services.runtime.storage.signing import stable_expiry

COOKIE = "reelworks_play"
QUERY = "token"
ANYBODY = "anybody"
"""The viewer of every token while there is no sign-in."""
SHORTEST_SECRET = 16
"""Characters of a configured secret."""
DERIVED_KEY_ID = "0"
_DERIVED_LABEL = b"reelworks playback tokens"
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_TOKEN = re.compile(r"([A-Za-z0-9_-]{1,32})\.(\d{1,12})\.([A-Za-z0-9_-]{0,200})\.([A-Za-z0-9_-]{43})")
_REMEMBERED = 20_000
"""Verified tokens that are kept: some 300 bytes each."""


class TokenRefused(Exception):
    """The message says why, and may be shown to the client."""


class TokenMissing(TokenRefused):
    """None was shown."""


class TokenExpired(TokenRefused):
    """It was ours, and its time is over."""


class TokenForged(TokenRefused):
    """Not signed by a key of ours for this film."""


class Token(msgspec.Struct, frozen=True):
    """A token and until when it holds, in seconds since 1970."""

    text: str
    expires: int


class PlaybackKey(msgspec.Struct, frozen=True):
    """A key that signs; its text does not show the secret."""

    name: str
    secret: bytes

    def __repr__(self) -> str:
        return f"PlaybackKey({self.name})"


def prefix_of(asset_id: str) -> str:
    """The path below which a film's stream lies, and which its token opens."""
    return f"/v1/assets/{asset_id}/hls/"


def keys_of(settings: Settings, signing_key: bytes) -> tuple[PlaybackKey, ...]:
    """`REELWORKS_PLAYBACK_KEYS`, or one key derived from the signing key. Raises SettingsError, which shows no secret."""
    if not settings.playback_keys:
        return (PlaybackKey(DERIVED_KEY_ID, hmac.digest(signing_key, _DERIVED_LABEL, hashlib.sha256)),)
    accepted = f"accepted is id:secret,id2:secret2 with ids of 1 to 32 letters, digits, - and _, and {SHORTEST_SECRET} characters or more"
    keys: dict[str, PlaybackKey] = {}
    for number, pair in enumerate(settings.playback_keys.split(","), 1):
        name, _, secret = (part.strip() for part in pair.partition(":"))
        if not _KEY_ID.fullmatch(name) or len(secret) < SHORTEST_SECRET or name in keys:
            raise SettingsError(f"REELWORKS_PLAYBACK_KEYS: key {number} has no id of its own, or too short a secret; {accepted}")
        keys[name] = PlaybackKey(name, secret.encode())
    return tuple(keys.values())


class PlaybackTokens:
    """Issues tokens with the first key and verifies those of all, so that keys can be rotated."""

    def __init__(self, keys: Sequence[PlaybackKey], *, life_seconds: int) -> None:
        self._signing = keys[0]
        self._keys = {key.name: key.secret for key in keys}
        self._life = life_seconds
        self._verified: dict[tuple[str, str], int] = {}

    def issue(self, asset_id: str, viewer: str, now: float) -> Token:
        """A token for a film."""
        return self.issue_below(prefix_of(asset_id), viewer, now)

    def issue_below(self, prefix: str, viewer: str, now: float) -> Token:
        """A token for what lies below a path. The same token for three quarters of its life, so that URLs which hold it can be cached."""
        expires = stable_expiry(now, self._life)
        shown = base64.urlsafe_b64encode(viewer.encode()).rstrip(b"=").decode()
        signed = _signature(self._signing.secret, prefix, expires, self._signing.name, viewer)
        return Token(f"{self._signing.name}.{expires}.{shown}.{signed}", expires)

    def verify(self, text: str, asset_id: str, now: float) -> None:
        """Whether the token opens this film. Raises TokenExpired or TokenForged."""
        self.verify_below(text, prefix_of(asset_id), now)

    def verify_below(self, text: str, prefix: str, now: float) -> None:
        """Whether the token opens what lies below a path. Raises TokenExpired or TokenForged."""
        expires = self._verified.get((text, prefix))
        if expires is None:
            expires = self._check(text, prefix)
            if len(self._verified) >= _REMEMBERED:
                self._verified.clear()
            self._verified[(text, prefix)] = expires
        if now >= expires:
            raise TokenExpired("the playback token has expired; ask for a new one")

    def opening(self, asset_id: str, *, cookies: str, query: str | None, now: float) -> str:
        """`opening_below` for a film."""
        return self.opening_below(prefix_of(asset_id), cookies=cookies, query=query, now=now)

    def opening_below(self, prefix: str, *, cookies: str, query: str | None, now: float) -> str:
        """The token of the query when that is what opens the path; "" when the cookie does.

        `cookies`: the header. Raises TokenMissing, TokenExpired or TokenForged.
        """
        cookie = _cookie(cookies)
        if cookie is not None:
            try:
                self.verify_below(cookie, prefix, now)
                return ""
            except TokenRefused:
                if query is None:
                    raise
        if query is None:
            raise TokenMissing("this stream needs a playback token")
        self.verify_below(query, prefix, now)
        return query

    def _check(self, text: str, prefix: str) -> int:
        parts = _TOKEN.fullmatch(text)
        if parts is None:
            raise TokenForged("this is no playback token")
        name, expires, shown, signed = parts.groups()
        secret = self._keys.get(name)
        if secret is None:
            raise TokenForged(f"the key {name!r} of the playback token is not one of the gateway's: it was retired, or never was")
        try:
            viewer = base64.urlsafe_b64decode(shown + "=" * (-len(shown) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise TokenForged("this is no playback token") from None
        expected = _signature(secret, prefix, int(expires), name, viewer)
        if not hmac.compare_digest(expected.encode(), signed.encode()):
            raise TokenForged("the playback token was made for another film, or changed")
        return int(expires)


def _cookie(header: str) -> str | None:
    """Our cookie. A token needs no quotes, and a parser for all that cookies may be costs as much as the rest of a poll."""
    for pair in header.split(";"):
        name, _, value = pair.partition("=")
        if name.strip() == COOKIE:
            return value.strip()
    return None


def _signature(secret: bytes, prefix: str, expires: int, key_id: str, viewer: str) -> str:
    # A JSON array: no value can pass for a part of its neighbour.
    message = msgspec.json.encode([prefix, expires, key_id, viewer])
    return base64.urlsafe_b64encode(hmac.digest(secret, message, hashlib.sha256)).rstrip(b"=").decode()
