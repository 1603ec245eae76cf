"""Signed URLs of the folder store, served by the gateway. Pure: no clock, no files.

    /v1/media/{key}?bucket=…&expires=…[&filename=…][&content_type=…]&signature=…            GET and HEAD
    /v1/media/{key}?bucket=…&expires=…&size=…[&content_type=…]&signature=…                  PUT

`expires` is in seconds since 1970. The signature is HMAC-SHA256 over all of it and the method, in URL-safe base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, urlencode

import msgspec

from services.runtime.storage.base import Refused

PATH = "/v1/media/"


class BadSignature(Refused):
    """The URL was not signed by us, or was changed since."""


class Expired(BadSignature):
    """It was ours, and its time is over."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a signed URL allows."""

    method: str
    """`GET` (and with it HEAD) or `PUT`."""
    bucket: str
    key: str
    expires: int
    """Seconds since 1970."""
    size: int = -1
    """Bytes that a PUT sends; -1 for GET."""
    content_type: str = ""
    """PUT: the type to store and to send. GET: the type to answer with instead of the stored one, when not empty."""
    filename: str = ""
    """GET: the name under which a browser saves it, when not empty."""


def stable_expiry(now: float, life: int) -> int:
    """An expiry that stays the same for three quarters of a life of `life` seconds, so that browsers can cache the URL.

    It lies between a quarter of `life` and the whole of it ahead of `now`.
    """
    step = max(1, life * 3 // 4)
    return int(now) // step * step + life


def signature(secret: bytes, grant: Grant) -> str:
    """The signature of a grant."""
    # A JSON array: no value can pass for a part of its neighbour.
    message = msgspec.json.encode(
        [grant.method, grant.bucket, grant.key, grant.expires, grant.size, grant.content_type, grant.filename],
    )
    return base64.urlsafe_b64encode(hmac.digest(secret, message, hashlib.sha256)).rstrip(b"=").decode()


def sign(secret: bytes, grant: Grant) -> str:
    """The URL of a grant, from the path on; the gateway's public address goes before it."""
    query: dict[str, str] = {"bucket": grant.bucket, "expires": str(grant.expires)}
    if grant.method == "PUT":
        query["size"] = str(grant.size)
    if grant.content_type:
        query["content_type"] = grant.content_type
    if grant.filename:
        query["filename"] = grant.filename
    query["signature"] = signature(secret, grant)
    return f"{PATH}{quote(grant.key)}?{urlencode(query, quote_via=quote)}"


def verify(
    secret: bytes,
    *,
    method: str,
    key: str,
    query: Mapping[str, str],
    now: float,
    size: int | None = None,
    content_type: str | None = None,
) -> Grant:
    """The grant that a request shows. `key` is the path after `/v1/media/`, percent-decoded once.

    For a PUT give what the request declares: `size` (Content-Length, None when it is missing) and `content_type`.
    Raises BadSignature or Expired with a reason that may be shown to the client.
    """
    method = "GET" if method == "HEAD" else method
    try:
        grant = Grant(
            method=method,
            bucket=query["bucket"],
            key=key,
            expires=_number(query["expires"]),
            size=_number(query["size"]) if method == "PUT" else -1,
            content_type=query.get("content_type", ""),
            filename=query.get("filename", ""),
        )
        shown = query["signature"]
        expected = signature(secret, grant)
    except (KeyError, ValueError):
        raise BadSignature(f"the signed URL of {key!r} is not complete; ask for a new one") from None
    if not hmac.compare_digest(expected.encode(), shown.encode("utf-8", "replace")):
        raise BadSignature(f"the signature of the URL of {key!r} is wrong: it was changed, or made for another method than {method}")
    if now >= grant.expires:
        raise Expired(f"the signed URL of {key!r} has expired; ask for a new one")
    if method == "PUT":
        if size != grant.size:
            raise BadSignature(f"the URL of {key!r} was signed for {grant.size} bytes; Content-Length says {size}")
        if content_type is not None and grant.content_type and content_type != grant.content_type:
            raise BadSignature(f"the URL of {key!r} was signed for Content-Type {grant.content_type!r}; the request says {content_type!r}")
    return grant


def _number(text: str) -> int:
    """A decimal number as `sign` writes it; int() would accept more."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ValueError(text)
    return int(text)
