"""What a key may be, in every store. Pure."""

from __future__ import annotations

import mimetypes
import unicodedata

from services.runtime.storage.base import Refused

MAX_KEY_BYTES = 1024
"""Amazon S3 User Guide, "Naming Amazon S3 objects"."""

ACCEPTED = (
    f"a key is 1 to {MAX_KEY_BYTES} bytes of UTF-8, relative, without empty segments, '.' and '..' between its slashes; "
    "backslashes and control characters are not accepted"
)

# What `mimetypes` leaves to the machine's own tables, or says otherwise than RFC 8216 §4, RFC 9559 and W3C WebVTT do.
_TYPES = {
    ".avi": "video/x-msvideo",
    ".flv": "video/x-flv",
    ".json": "application/json",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4a": "audio/mp4",
    ".m4s": "video/iso.segment",
    ".m4v": "video/mp4",
    ".mkv": "video/matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".mpd": "application/dash+xml",
    ".srt": "application/x-subrip",
    ".ts": "video/mp2t",
    ".vtt": "text/vtt",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".zip": "application/zip",
}
_TABLE = mimetypes.MimeTypes(filenames=())


def key_fault(key: str) -> str:
    """What is wrong with a key, in words; "" when nothing is."""
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair, which is no text"
    if not 1 <= length <= MAX_KEY_BYTES:
        return f"it is {length} bytes long"
    if key.startswith("/"):
        return "it begins with a slash"
    for segment in key.split("/"):
        if segment in ("", ".", ".."):
            return f"it has the segment {segment!r}"
    if "\\" in key:
        return "it holds a backslash"
    # Looking at each character takes ten times as long as all else here.
    if not key.isprintable() and any(unicodedata.category(c) == "Cc" for c in key):
        return "it holds a control character"
    return ""


def check_key(key: str) -> str:
    """The key itself. Raises Refused naming the key, its fault and what is accepted."""
    if fault := key_fault(key):
        shown = key if len(key) <= 120 else key[:117] + "..."
        raise Refused(f"the key {shown!r} cannot be used: {fault}; {ACCEPTED}")
    return key


def content_type_of(key: str) -> str:
    """The media type that the key's ending stands for, the same on every machine."""
    ending = key[key.rfind(".") :].lower() if "." in key.rsplit("/", 1)[-1] else ""
    return _TYPES.get(ending) or _TABLE.guess_type("x" + ending)[0] or "application/octet-stream"
