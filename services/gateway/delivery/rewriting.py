"""Playlists and storyboards for players that keep no cookies: every URI in them carries the token. Pure."""

from __future__ import annotations

import re

_ATTRIBUTE = re.compile(rb'([A-Z0-9-]+)=("[^"]*"|[^",]*)')
"""RFC 8216 §4.2. EXT-X-MAP, EXT-X-KEY, EXT-X-MEDIA and EXT-X-I-FRAME-STREAM-INF hold a URI."""
_CUE_PICTURE = re.compile(rb"^(\S+\.jpg)(#xywh=\S+)?[ \t]*$", re.MULTILINE)


def playlist_with_token(playlist: bytes, query: bytes) -> bytes:
    """A playlist whose URIs have `query` (such as `token=…`) added. All others of its bytes stay as they are."""
    return b"\n".join(_line(line, query) for line in playlist.split(b"\n"))


def _line(line: bytes, query: bytes) -> bytes:
    if line.startswith(b"#"):
        if b'URI="' not in line:
            return line
        return _ATTRIBUTE.sub(lambda found: b'URI="%s"' % with_query(found[2].strip(b'"'), query) if found[1] == b"URI" else found[0], line)
    return with_query(line, query) if line.strip() else line


def storyboard_with_token(storyboard: bytes, query: bytes) -> bytes:
    """A storyboard whose pictures (`storyboard.jpg#xywh=…`) have `query` added, before the fragment."""
    return _CUE_PICTURE.sub(lambda found: with_query(found[1], query) + (found[2] or b""), storyboard)


def with_query(uri: bytes, query: bytes) -> bytes:
    """A relative URI with one more query parameter; absolute ones and `data:` are another server's and stay."""
    if not uri or b":" in uri.split(b"/", 1)[0] or uri.startswith(b"//"):
        return uri
    base, hash_, fragment = uri.partition(b"#")
    return base + (b"&" if b"?" in base else b"?") + query + hash_ + fragment
