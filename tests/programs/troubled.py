"""A service as the chaos run starts it: `python -m tests.programs.troubled CLOCK serve SERVICE`.

Its wall clock is off by as many seconds as the file CLOCK says, and failed jobs are kept for seconds in place of an hour, so
that what they leave can be looked for. Everything else is the service as it is.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from services.cli.main import main
from services.coordinator import state

KEEP_FAILED_MS = 20_000
_LOOK_SECONDS = 0.2


class _Clock:
    """Reads the file now and then; a clock that is asked thousands of times a second cannot."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._now, self._now_ns = time.time, time.time_ns
        self._off = 0
        self._read()
        threading.Thread(target=self._follow, name="clock", daemon=True).start()

    def seconds(self) -> float:
        return self._now() + self._off

    def nanoseconds(self) -> int:
        return self._now_ns() + self._off * 1_000_000_000

    def _follow(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            self._read()

    def _read(self) -> None:
        self._off = int(self._file.read_text() or 0)


if __name__ == "__main__":
    clock = _Clock(Path(sys.argv.pop(1)))
    time.time, time.time_ns = clock.seconds, clock.nanoseconds
    state.KEEP_FAILED_MS = KEEP_FAILED_MS
    sys.argv[0] = "reelworks"
    main()
