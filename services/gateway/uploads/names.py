"""From the file name that a client sends to a key's segment and a title. Pure."""

from __future__ import annotations

import re
import unicodedata

MAX_SEGMENT_BYTES = 200
"""Of a source's name in its key: file systems take 255, and the folder store writes a little beside it."""
MAX_TITLE = 300
_MAX_EXTENSION = 16
_FALLBACK = "upload"


def base_name(filename: str) -> str:
    """The last segment, of either kind of slash, without control characters and halves of surrogate pairs; may be empty."""
    last = filename.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if unicodedata.category(c) not in ("Cc", "Cs", "Cf") or c == "\u200d")
    kept = kept.strip()
    return "" if set(kept) <= {"."} else kept


def safe_segment(filename: str) -> str:
    """A segment of a key: letters and digits of any script, `-`, `_`, `.`; everything else becomes `_`.

    At most 200 bytes of UTF-8, the extension kept; never empty, never beginning with a dot.
    """
    stem, extension = _split(base_name(filename))
    stem = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" or c in "-_." else "_" for c in stem)
    stem = re.sub(r"_{2,}", "_", re.sub(r"\.{2,}", ".", stem)).strip("._-") or _FALLBACK
    room = MAX_SEGMENT_BYTES - len(extension.encode())
    return _cut(stem, room) + extension


def title_of(filename: str) -> str:
    """Words for people: the name without its extension, underscores as spaces, at most 300 characters."""
    stem, _ = _split(base_name(filename))
    words = " ".join(stem.replace("_", " ").split())
    return words[:MAX_TITLE].strip() or "Untitled"


def shown_name(filename: str) -> str:
    """The file name as it is kept in events: at most 300 characters, the extension kept."""
    name = base_name(filename) or _FALLBACK
    if len(name) <= MAX_TITLE:
        return name
    stem, extension = _split(name)
    return stem[: MAX_TITLE - len(extension)] + extension


def clean_title(title: str) -> str:
    """A title as a person gave it, without control characters, at most 300 characters; may be empty."""
    kept = "".join(" " if c.isspace() else c for c in title if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs"))
    return " ".join(kept.split())[:MAX_TITLE].strip()


def _split(name: str) -> tuple[str, str]:
    stem, dot, extension = name.rpartition(".")
    if dot and stem and extension.isalnum() and len(extension.encode()) <= _MAX_EXTENSION:
        return stem, "." + extension
    return name, ""


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")
