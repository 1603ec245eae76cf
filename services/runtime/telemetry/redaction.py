"""Keeping secrets out of logs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

MASK: Final = "(secret)"
_NAMES: Final = re.compile(r"(?i)(authorization|password|passwd|secret|api[_-]?key|cookie|^token$|[_-]token$|signature$)")
_IN_URLS: Final = re.compile(r"(?i)\b((?:x-amz-)?(?:signature|security-token|credential)|token|api_key)=[^&\s\"'\\]+")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,}")
_USER_INFO: Final = re.compile(r"(?<=://)[^/@\s:]+:[^/@\s]+(?=@)")
_SHORTEST: Final = 6
"""A secret shorter than this would blank out ordinary words."""


class Redactor:
    """Replaces known secrets, credentials in URLs and values of telling names by `(secret)`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({s for s in secrets if len(s) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str) -> str:
        """A text without secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if "=" in text:
            text = _IN_URLS.sub(rf"\1={MASK}", text)
        if "://" in text:
            text = _USER_INFO.sub(MASK, text)
        return _BEARER.sub(rf"\1 {MASK}", text)

    def value(self, value: Any, name: str = "") -> Any:
        """The same for lists, tuples and mappings, at any depth."""
        if isinstance(value, dict):
            return {key: self.value(item, str(key)) for key, item in value.items()}
        if name and value and _NAMES.search(name):
            return MASK
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.text(value.decode("utf-8", "replace"))
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value
