"""How playlists are answered: headers, and the variants that carry a token. Pure but for the memory of variants."""

from __future__ import annotations

from collections import OrderedDict
from urllib.parse import urlencode

from services.gateway.auth.playback import QUERY
from services.gateway.delivery.paths import STORYBOARD, Place
from services.gateway.delivery.rewriting import playlist_with_token, storyboard_with_token
from services.gateway.views.ready import Ready

CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Content-Length, Content-Range, ETag"}
"""The token alone decides who may watch, so players on pages of other sites may read. `*` excludes cookies (Fetch §3.2.2)."""
PREFLIGHT = CORS | {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range, If-Range, If-None-Match",
    "Access-Control-Max-Age": "86400",
}
GROWING = "no-cache"
"""May be kept, must be asked for each time: the ETag makes it cheap."""
WHOLE = "private, max-age=60"
"""A film may be encoded anew."""
IMMUTABLE = "private, max-age=31536000, immutable"
"""A segment's key follows from the recipe and the source (RFC 8246). Private: who may watch is a matter of the token."""
_VARIANT_BYTES = 64 * 1024**2


def ready(place: Place, body: bytes, growing: bool) -> Ready:
    """The answer that a playlist, a storyboard or captions are."""
    more = CORS | {"X-Content-Type-Options": "nosniff"}
    return Ready(body, content_type=place.content_type, cache_control=GROWING if growing else WHOLE, more=more)


class Variants:
    """Answers whose URIs carry a token; those used least leave first."""

    def __init__(self, most_bytes: int = _VARIANT_BYTES) -> None:
        self._most = most_bytes
        self._made: OrderedDict[tuple[str, str, str, bool], Ready] = OrderedDict()
        self._size = 0

    def get(self, place: Place, plain: Ready, token: str, *, growing: bool) -> Ready:
        """The variant of an answer for a token."""
        name = (place.key, plain.etag, token, growing)
        made = self._made.get(name)
        if made is not None:
            self._made.move_to_end(name)
            return made
        made = self._made[name] = ready(place, with_token(place, plain.body, token), growing)
        self._size += len(made.body)
        while self._size > self._most and len(self._made) > 1:
            self._size -= len(self._made.popitem(last=False)[1].body)
        return made


def with_token(place: Place, body: bytes, token: str) -> bytes:
    """The body for a player without cookies."""
    query = urlencode({QUERY: token}).encode()
    if place.kind in ("master", "media"):
        return playlist_with_token(body, query)
    return storyboard_with_token(body, query) if place.key.endswith(f"/{STORYBOARD}") else body
