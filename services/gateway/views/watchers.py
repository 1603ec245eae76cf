"""Who wants to hear of a job's changes: long polls and event streams."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager


class Mailbox:
    """One waiting client's. It holds at most one notice: a status is the whole of it, so the latest is enough."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Whether something changed within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Watchers:
    """Mailboxes by what they watch. Used on the event loop only."""

    def __init__(self) -> None:
        self._boxes: dict[str, set[Mailbox]] = {}
        self.closing = False

    def __len__(self) -> int:
        return sum(len(boxes) for boxes in self._boxes.values())

    def __contains__(self, name: str) -> bool:
        return name in self._boxes

    @contextmanager
    def watch(self, name: str) -> Generator[Mailbox]:
        """A mailbox for as long as the context lasts."""
        box = Mailbox()
        self._boxes.setdefault(name, set()).add(box)
        try:
            yield box
        finally:
            boxes = self._boxes[name]
            boxes.discard(box)
            if not boxes:
                del self._boxes[name]

    def notify(self, names: Iterable[str]) -> None:
        """Tell all who watch one of these."""
        if not self._boxes:
            return
        for name in names:
            for box in self._boxes.get(name, ()):
                box.notify()

    def names(self) -> list[str]:
        """What is being watched."""
        return list(self._boxes)

    def close(self) -> None:
        """Wake everybody: the gateway ends."""
        self.closing = True
        self.notify(self.names())
