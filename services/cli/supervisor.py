"""Keeps processes running: starts them, starts them again when they end, ends them all.

Processes are crash-only: a restart is the same as a recovery, so nothing is asked of a process that ended. All of them
are started by the thread that calls `tick`, and the kernel kills them when that thread is gone (`dies_with_parent`).
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, TextIO

import msgspec

from services.runtime.children import dies_with_parent
from services.runtime.telemetry.logging import get_logger

log = get_logger(__name__)

FIRST_BACKOFF: Final = 0.2
LONGEST_BACKOFF: Final = 5.0
HEALTHY_SECONDS: Final = 30.0
"""For a process that lived so long the waiting begins again with the shortest."""
LOG_FILE_BYTES: Final = 20 * 1024**2
PROBE_SECONDS: Final = 2.0
TAIL_LINES: Final = 12


def backoff(restarts: int) -> float:
    """Seconds before the given restart (from 1) in a row: 0.2, 0.4, 0.8 … 5."""
    return min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(restarts - 1, 10))


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A process to keep running."""

    name: str
    """`transcoder-1`: for log lines and files."""
    command: Sequence[str]
    environment: Mapping[str, str]
    ready_url: str = ""
    """Answers 200 when it is ready. Empty: by the port that it announces in the run folder (telemetry/health.py)."""


class Child:
    """One process and its restarts."""

    def __init__(self, spec: Spec, *, run: Path, logs: Path, echo: TextIO | None) -> None:
        self.spec = spec
        self.restarts = 0
        """In a row, without thirty seconds of life in between."""
        self.last_code: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._run, self._log_file, self._echo = run, logs / f"{spec.name}.log", echo
        self._started = 0.0
        self._due = 0.0
        self._pump: threading.Thread | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        self._tail = deque(maxlen=TAIL_LINES)
        self.process = subprocess.Popen(
            list(self.spec.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(self.spec.environment),
            start_new_session=True,  # Ctrl-C reaches us alone, and we end them in order
            preexec_fn=dies_with_parent(),  # noqa: PLW1509 (it takes no lock; see there)
        )
        self._started = time.monotonic()
        if self.process.stdout is not None:
            self._pump = threading.Thread(
                target=self._copy, args=(self.process.stdout, self._tail), name=f"log-{self.spec.name}", daemon=True
            )
            self._pump.start()

    def tick(self) -> None:
        """Start it when it is due. Notice that it ended."""
        now = time.monotonic()
        if self.alive:
            if self.restarts and now - self._started > HEALTHY_SECONDS:
                self.restarts = 0
            return
        if self.process is not None:
            self.last_code = self.process.wait()
            self._forget_announcement()
            self.restarts = 1 if now - self._started > HEALTHY_SECONDS else self.restarts + 1
            self._due = now + backoff(self.restarts)
            self.process = None
            log.warning("a process ended", process=self.spec.name, code=self.last_code, again_in_seconds=backoff(self.restarts))
        if now >= self._due:
            self.start()

    def ready(self) -> bool:
        """Whether its /readyz says so."""
        if not self.alive:
            return False
        url = self.spec.ready_url or self._announced_url()
        if not url:
            return False
        try:
            with urllib.request.urlopen(url, timeout=PROBE_SECONDS) as answer:  # noqa: S310 (our own loopback address)  # nosec B310
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def terminate(self) -> None:
        if self.process is not None and self.alive:
            self.process.send_signal(signal.SIGTERM)

    def finish(self, grace_seconds: float) -> None:
        """Wait for its end, kill it after the grace. Asking twice would cut off what it does at the end."""
        if self.process is not None:
            try:
                self.process.wait(max(0.0, grace_seconds))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self._forget_announcement()
        if self._pump is not None:
            self._pump.join(1.0)

    def log_tail(self) -> list[str]:
        """The last lines that the present process said, or the last one."""
        if self._pump is not None and not self.alive:
            self._pump.join(1.0)
        return list(self._tail)

    def _announcement(self) -> Path | None:
        return self._run / f"{self.process.pid}.json" if self.process is not None else None

    def _announced_url(self) -> str:
        path = self._announcement()
        if path is None:
            return ""
        try:
            told = json.loads(path.read_text())
        except FileNotFoundError:  # not yet, or it has just ended
            return ""
        return f"http://{told['host']}:{told['port']}/readyz"

    def _forget_announcement(self) -> None:
        path = self._announcement()
        if path is not None:
            path.unlink(missing_ok=True)

    def _copy(self, pipe: IO[bytes], tail: deque[str]) -> None:
        with pipe:
            if self._log_file.exists() and self._log_file.stat().st_size > LOG_FILE_BYTES:
                self._log_file.replace(self._log_file.with_suffix(".log.1"))
            with self._log_file.open("ab") as file:
                for line in pipe:
                    file.write(line)
                    file.flush()
                    tail.append(line.decode(errors="replace").rstrip())
                    if self._echo is not None:
                        self._echo.write(f"{self.spec.name:<14} {line.decode(errors='replace')}")
                        self._echo.flush()


class Supervisor:
    """Several processes. `folder` gets `logs/{name}.log` and `run/`; `echo` gets every line with its process's name."""

    def __init__(self, folder: Path, *, echo: TextIO | None = None) -> None:
        self.children: list[Child] = []
        self.run, self.logs = folder / "run", folder / "logs"
        self._echo = echo
        self.run.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        for stale in self.run.glob("*.json"):  # of processes that were killed with their supervisor
            stale.unlink(missing_ok=True)

    def add(self, spec: Spec) -> Child:
        child = Child(spec, run=self.run, logs=self.logs, echo=self._echo)
        self.children.append(child)
        return child

    def tick(self) -> None:
        """Start what is not running and is due. To be called several times a second, by one thread."""
        for child in self.children:
            child.tick()

    def not_ready(self) -> list[Child]:
        return [child for child in self.children if not child.ready()]

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM to all, SIGKILL to those that are still there after the grace."""
        for child in self.children:
            child.terminate()
        deadline = time.monotonic() + grace_seconds
        for child in self.children:
            child.finish(deadline - time.monotonic())

    def kill(self) -> None:
        """SIGKILL to all."""
        self.stop(0.0)
