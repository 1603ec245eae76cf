"""The header that makes a browser save a file. Pure."""

from __future__ import annotations

from urllib.parse import quote


def attachment(filename: str) -> str:
    """`Content-Disposition` for a file name in any script (RFC 6266 §4.3, RFC 8187); no character can leave its place."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1] or "download"
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
