"""Released tasks that were read and wait for a slot. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from itertools import islice

import msgspec

from schemas.events import ATTEMPTS_A_RUN, TaskReleased


class Waiting(msgspec.Struct, frozen=True):
    """A task and where its record lies."""

    task: TaskReleased
    partition: int
    offset: int
    traceparent: str = ""


class TaskBuffer:
    """A queue for each partition, so that what has begun can be committed: an offset that waits would hold back those behind it.

    Of what is first in them, the highest attempt: a task that was released again is what its job waits for. Then in order of arrival.
    """

    def __init__(self) -> None:
        self._queues: dict[int, deque[tuple[int, Waiting]]] = {}
        self._arrivals = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, waiting: Waiting) -> None:
        self._arrivals += 1
        self._size += 1
        self._queues.setdefault(waiting.partition, deque()).append((self._arrivals, waiting))

    def take(self, under_way: Collection[TaskReleased]) -> Waiting | None:
        """The next one if it may begin now, beside those that are under way.

        One that is to be alone waits for the others, and they for it.
        """
        if not self._size or any(task.alone for task in under_way):
            return None
        _, _, waiting = min((-(w.task.attempt % ATTEMPTS_A_RUN), n, w) for queue in self._queues.values() for n, w in islice(queue, 1))
        if under_way and waiting.task.alone:
            return None
        self._queues[waiting.partition].popleft()
        self._size -= 1
        return waiting

    def drop(self, unwanted: Callable[[Waiting], bool]) -> list[Waiting]:
        """Take out what is not wanted any more."""
        gone: list[Waiting] = []
        for partition, queue in self._queues.items():
            if any(unwanted(w) for _, w in queue):
                gone += [w for _, w in queue if unwanted(w)]
                self._queues[partition] = deque(e for e in queue if not unwanted(e[1]))
        self._size -= len(gone)
        return gone
