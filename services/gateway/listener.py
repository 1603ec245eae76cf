"""A thread that hears what is said on a topic, from now on."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)

_AGAIN_SECONDS = 1.0
# A reader is polled for half a second at a time; what takes longer is a broker that is away, and is not waited for.
_END_SECONDS = 5.0


class Listener(ABC):
    """Calls `listen` in a thread of its own until it is stopped. Any failure: wait a little, begin again."""

    def __init__(self, *, thread: str, reads: str) -> None:
        """`thread`: its name. `reads`: what is said on the topic, in the plural, for the log."""
        self._reads = reads
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=thread, daemon=True)

    @abstractmethod
    def listen(self, stop: threading.Event) -> None:
        """Hear until `stop` is set. May raise anything."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.listen(self._stop)
            except Exception as wrong:  # one recovery path: begin again
                log.info(f"{self._reads} cannot be read; trying again", reason=str(wrong))
                self._stop.wait(_AGAIN_SECONDS)
