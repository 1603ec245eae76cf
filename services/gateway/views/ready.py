"""Answers that are ready to be sent: bytes and ETag in an LRU above SQLite, so that a poll encodes nothing."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from multidict import CIMultiDict

MAX_ENTRIES = 20_000
"""Of an LRU: about two KiB each."""

T = TypeVar("T")


class Ready:
    """An answer with its strong ETag. aiohttp adds to the headers that it is given: hand out copies."""

    __slots__ = ("body", "etag", "headers", "headers_304", "terminal")

    def __init__(
        self,
        body: bytes,
        *,
        terminal: bool = False,
        content_type: str = "application/json",
        cache_control: str = "no-cache",
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.body = body
        self.etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        self.terminal = terminal
        """No change is to be expected."""
        # no-cache: kept by browsers and proxies, but asked for each time, which the ETag makes cheap.
        self.headers_304 = CIMultiDict({"ETag": self.etag, "Cache-Control": cache_control, **(more or {})})
        self.headers = CIMultiDict({"Content-Type": content_type, "Content-Length": str(len(body))} | dict(self.headers_304))

    def matches(self, if_none_match: str) -> bool:
        """Whether the client has this very answer (RFC 9110 §13.1.2)."""
        return if_none_match == self.etag or (
            if_none_match != ""
            and (if_none_match == "*" or any(t.strip().removeprefix("W/") == self.etag for t in if_none_match.split(",")))
        )


class Kept(Generic[T]):
    """What is remembered of an item: its record, decoded, and answers made of it."""

    __slots__ = ("everywhere", "expires", "item", "origins", "waiting_for")

    def __init__(self, item: T, *, expires: float) -> None:
        self.item = item
        self.expires = expires
        """Monotonic time at which signed URLs are looked at again."""
        self.everywhere: Ready | None = None
        """The answer that is the same under every address of the gateway."""
        self.origins: dict[str, Ready] = {}
        """Answers with absolute URLs, by the origin that the client used."""
        self.waiting_for: str | None = None


class ReadyCache(Generic[T]):
    """LRU of `Kept`, used on the event loop only."""

    def __init__(self, load: Callable[[str], T | None], *, life: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._life = life
        self._clock = clock
        self._kept: OrderedDict[str, Kept[T]] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def get(self, name: str) -> Kept[T] | None:
        """The item, from memory or loaded; None when there is none."""
        if (kept := self.peek(name)) is not None:
            return kept
        self.misses += 1
        item = self._load(name)
        if item is None:
            self._kept.pop(name, None)
            return None
        kept = self._kept[name] = Kept(item, expires=self._clock() + self._life)
        if len(self._kept) > MAX_ENTRIES:
            self._kept.popitem(last=False)
        return kept

    def peek(self, name: str) -> Kept[T] | None:
        """The item if it is in memory and still good."""
        kept = self._kept.get(name)
        if kept is None or kept.expires <= self._clock():
            return None
        self.hits += 1
        self._kept.move_to_end(name)
        return kept

    def forget(self, names: Iterable[str]) -> None:
        """They changed."""
        if self._kept:
            for name in names:
                self._kept.pop(name, None)

    def clear(self) -> None:
        self._kept.clear()
