"""Signed links to archives: who has one may download that selection until it expires. Pure: the time is given.

    /v1/archives?{selection}&expires=…&key_id=…&signature=…

`expires` is in seconds since 1970. The signature is HMAC-SHA256, by a key of playback tokens, over all other parameters, decoded, in
their order, in URL-safe base64 without padding.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from services.gateway.archives.wishes import Query, encoded
from services.gateway.auth.playback import PlaybackKey

PATH: Final = "/v1/archives"
SIGNATURE: Final = "signature"
MAX_URL: Final = 8000
"""Characters from the path on: what every server and proxy is recommended to take (RFC 9110 §4.1)."""
_EXPIRES: Final = "expires"
_KEY_ID: Final = "key_id"
_SECONDS: Final = re.compile(r"[0-9]{1,12}")


class LinkRefused(Exception):
    """The message says why, and may be shown to the client."""


class LinkExpired(LinkRefused):
    """It was ours, and its time is over."""


class LinkForged(LinkRefused):
    """Not signed by a key of ours, or changed since."""


class LinkTooLong(Exception):
    """The selection does not fit into a URL."""

    def __init__(self, length: int) -> None:
        super().__init__(f"the link would have {length:,} characters")
        self.length = length


class Link(msgspec.Struct, frozen=True):
    """A link, from the path on, and until when it holds, in seconds since 1970."""

    path: str
    expires: int


class Links:
    """Signs with the first key and verifies with all, so that keys can be rotated."""

    def __init__(self, keys: Sequence[PlaybackKey], *, life_seconds: int) -> None:
        self._signing = keys[0]
        self._keys = {key.name: key.secret for key in keys}
        self._life = life_seconds

    def make(self, query: Query, now: float) -> Link:
        """A link to the selection that a query is. Raises LinkTooLong."""
        expires = int(now) + self._life
        signed = [*query, (_EXPIRES, str(expires)), (_KEY_ID, self._signing.name)]
        path = f"{PATH}?{encoded([*signed, (SIGNATURE, _signature(self._signing.secret, signed))])}"
        if len(path) > MAX_URL:
            raise LinkTooLong(len(path))
        return Link(path, expires)

    def check(self, query: Query, now: float) -> None:
        """Whether a query is that of a link which holds. Raises LinkExpired or LinkForged."""
        shown = [value for name, value in query if name == SIGNATURE]
        expires = [value for name, value in query if name == _EXPIRES]
        key = [value for name, value in query if name == _KEY_ID]
        if not (len(shown) == len(expires) == len(key) == 1 and _SECONDS.fullmatch(expires[0])):
            raise LinkForged(f"the link is not whole: `{_EXPIRES}`, `{_KEY_ID}` and `{SIGNATURE}` each belong to it once")
        secret = self._keys.get(key[0])
        if secret is None:
            raise LinkForged(f"the key {key[0][:40]!r} of the link is not one of the gateway's: it was retired, or never was")
        expected = _signature(secret, [(name, value) for name, value in query if name != SIGNATURE])
        if not hmac.compare_digest(expected.encode(), shown[0].encode("utf-8", "replace")):
            raise LinkForged("the link was changed since it was signed")
        if now >= int(expires[0]):
            raise LinkExpired("the link has expired; ask for a new one")


def _signature(secret: bytes, query: Query) -> str:
    # A JSON array: no value can pass for a part of its neighbour. It begins with what no playback token's does.
    try:
        message = msgspec.json.encode([f"GET {PATH}", query])
    except UnicodeEncodeError:
        return ""
    return base64.urlsafe_b64encode(hmac.digest(secret, message, hashlib.sha256)).rstrip(b"=").decode()
