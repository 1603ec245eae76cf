"""SIGTERM on busy services: how long each takes to end in order, with the default REELWORKS_DRAIN_SECONDS."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.servers.busy import SERVICES
from tests.servers.kafka import embedded
from tests.servers.processes import cluster

COMMAND = "python -m benchmarks drain"
GOAL_SECONDS = 45.0


def run() -> list[dict[str, Any]]:
    """Rows of the table."""
    folder = Path(tempfile.mkdtemp(prefix="reelworks-bench-"))
    try:
        with embedded(folder / "kafka") as broker:
            taken = {service: _seconds(broker.bootstrap_servers, folder / service, service) for service in SERVICES}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    slowest, (seconds, _) = max(taken.items(), key=lambda one: one[1][0])
    each = "; ".join(f"{service}, which {doing}: {spent:.1f} s" for service, (spent, doing) in taken.items())
    return [
        {"what": "SIGTERM to the end of a busy service: the slowest", "value": f"{seconds:.1f} s ({slowest})",
         "goal": f"< {GOAL_SECONDS:.0f} s", "command": COMMAND, "note": each},
    ]  # fmt: skip


def _seconds(bootstrap_servers: str, folder: Path, service: str) -> tuple[float, str]:
    """Seconds from SIGTERM to exit code 0, and what it was doing."""
    with cluster(bootstrap_servers, folder, REELWORKS_SLOTS="2") as made, SERVICES[service](made) as busy:
        began = time.monotonic()
        code = busy.process.stop(2 * GOAL_SECONDS)
        seconds = time.monotonic() - began
        if code:
            raise RuntimeError(f"{service} ended with {code}:\n{busy.process.tail()}")
        busy.check()
    return seconds, busy.doing
