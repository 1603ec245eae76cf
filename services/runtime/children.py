"""Child processes that never outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def dies_with_parent(sig: int = signal.SIGKILL) -> Callable[[], None] | None:
    """A `preexec_fn` by which the kernel sends `sig` to the child when the thread that started it ends (prctl(2)).

    Linux only; elsewhere None, and an orphan ends when it finds its parent gone (see `parent_gone`).
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: the child may not take locks
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, sig)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return prepare


def end(process: subprocess.Popen[bytes], *, grace_seconds: float) -> int:
    """SIGTERM, and SIGKILL after the grace. Answers the exit code (negative: the signal)."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


class ReservedPort:
    """A port that stays ours until `close`: for a server that is started again on the same port.

    A socket is bound to it and does not listen. A server that sets SO_REUSEADDR, as Java's and Python's do, may listen
    beside it; nobody is given the port for an outgoing connection or for a bind to 0. That is how Linux does it; elsewhere
    no second bind is possible, so there the port is only known to have been free.
    """

    def __init__(self, number: int = 0, host: str = "127.0.0.1") -> None:
        """`number` 0: any that is free. Raises OSError when it is taken."""
        self._held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._held.bind((host, number))
            self.number: int = self._held.getsockname()[1]
        except OSError:
            self._held.close()
            raise
        if not sys.platform.startswith("linux"):
            self._held.close()

    def close(self) -> None:
        """Let it go."""
        self._held.close()
