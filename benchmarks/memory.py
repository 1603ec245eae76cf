"""Resident memory of every service, idle, and of the gateway while it takes in 2 GiB."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.stack import Stack, up

COMMAND = "python -m benchmarks memory"
UPLOAD = 2 * 1024**3
MIB = 1024**2


def run() -> list[dict[str, Any]]:
    """Rows of the table."""
    folder = Path(tempfile.mkdtemp(prefix="reelworks-bench-"))
    try:
        with up(folder) as stack:
            idle = {name: psutil.Process(stack.pid(name)).memory_info().rss for name in stack.services()}
            grown = _upload(stack)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    each = ", ".join(f"{name} {rss / MIB:.0f}" for name, rss in idle.items())
    return [
        {"what": "resident memory, idle", "value": f"{each} MiB", "command": COMMAND},
        {"what": "growth of the gateway during an upload of 2 GiB", "value": f"{grown / MIB:.0f} MiB", "goal": "< 64 MiB",
         "command": COMMAND},
    ]  # fmt: skip


def _upload(stack: Stack) -> int:
    process = psutil.Process(stack.pid("gateway"))
    before = peak = process.memory_info().rss
    done = threading.Event()

    def send() -> None:
        where = urlsplit(stack.gateway)
        with socket.create_connection((where.hostname or "", where.port or 80)) as connection:
            head = f"PUT /v1/uploads/large.mp4 HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {UPLOAD}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
            block = bytes(MIB)
            for _ in range(UPLOAD // MIB):
                connection.sendall(block)
            answer = connection.recv(4096)
            if b" 202 " not in answer:
                raise RuntimeError(f"the gateway answered {answer!r}")
        done.set()

    threading.Thread(target=send, daemon=True).start()
    while not done.wait(0.05):
        peak = max(peak, process.memory_info().rss)
    return peak - before


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1, ensure_ascii=False) + "\n")
