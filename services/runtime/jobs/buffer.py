"""Released tasks that were read and wait for a slot. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import msgspec

from schemas.events import ATTEMPTS_A_RUN, TaskReleased


class Waiting(msgspec.Struct, frozen=True):
    """A task and where its record lies."""

    task: TaskReleased
    partition: int
    offset: int
    traceparent: str = ""


class TaskBuffer:
    """Highest attempt first: a task that was released again is what its job waits for. Then in order of arrival."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Waiting]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, waiting: Waiting) -> None:
        self._arrivals += 1
        heapq.heappush(self._heap, (-(waiting.task.attempt % ATTEMPTS_A_RUN), self._arrivals, waiting))

    def pop(self) -> Waiting:
        """The next one. Raises IndexError when empty."""
        return heapq.heappop(self._heap)[2]

    def drop(self, unwanted: Callable[[Waiting], bool]) -> list[Waiting]:
        """Take out what is not wanted any more."""
        gone = [w for _, _, w in self._heap if unwanted(w)]
        if gone:
            self._heap = [e for e in self._heap if not unwanted(e[2])]
            heapq.heapify(self._heap)
        return gone
