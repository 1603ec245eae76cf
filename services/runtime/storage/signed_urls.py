"""Signed URLs kept for three quarters of their life, so that a browser sees the same one again and can use its cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

# Some kilobytes each: a library's pages of thumbnails, not its segments.
_MOST = 4096


class UrlCache:
    """The URLs used last."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._made: OrderedDict[tuple[str, ...], tuple[str, float]] = OrderedDict()

    def get(self, name: tuple[str, ...], *, life: float, now: float, make: Callable[[], str]) -> str:
        """The URL of that name, made anew when three quarters of its `life` seconds are over."""
        url, since = self._made.get(name, ("", 0.0))
        if not url or not 0 <= now - since < life * 0.75:
            url, since = make(), now
        self._made[name] = (url, since)
        self._made.move_to_end(name)
        while len(self._made) > self._most:
            self._made.popitem(last=False)
        return url
