"""What a task has cost."""

from __future__ import annotations

import time

from services.zipper.archive import Cost


class Meter:
    """Counts from when it is made. Processor time is the process's, so tasks that run side by side in one share it out wrongly; their sum
    is not less than what was used."""

    def __init__(self) -> None:
        self._in = self._out = self._copied = 0
        self._began = time.process_time()

    def received(self, size: int) -> None:
        self._in += size

    def sent(self, size: int) -> None:
        self._out += size

    def copied(self, size: int) -> None:
        self._copied += size

    def cost(self) -> Cost:
        return Cost(bytes_in=self._in, bytes_out=self._out, copied=self._copied, cpu_seconds=round(time.process_time() - self._began, 4))
