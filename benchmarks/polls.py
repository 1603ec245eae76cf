"""CPU of the gateway for one status poll, answered with 200 and with 304, under an external load tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from benchmarks.stack import Stack, up

COMMAND = "python -m benchmarks polls"
SECONDS = 6
CONNECTIONS = 16


def run() -> list[dict[str, Any]]:
    """Rows of the table."""
    if shutil.which("wrk") is None:
        return [{"what": "CPU of a status poll", "value": "not measured: wrk is not installed", "command": COMMAND}]
    folder = Path(tempfile.mkdtemp(prefix="reelworks-bench-"))
    try:
        with up(folder) as stack:
            job = stack.upload_sample()
            stack.wait(job)
            url = f"{stack.gateway}/v1/jobs/{job}"
            with urllib.request.urlopen(url, timeout=10) as answer:  # our own gateway
                etag = answer.headers["ETag"]
            plain = _cost(stack, url)
            unchanged = _cost(stack, url, f"If-None-Match: {etag}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [
        {"what": "CPU of a status poll, 200", "value": f"{plain[0]:.0f} µs", "goal": "≤ 35 µs", "command": COMMAND,
         "note": f"{plain[1]:,.0f} polls a second; process time of the gateway divided by answers that wrk counted"},
        {"what": "CPU of a status poll, 304", "value": f"{unchanged[0]:.0f} µs", "goal": "≤ 30 µs", "command": COMMAND,
         "note": f"{unchanged[1]:,.0f} polls a second"},
    ]  # fmt: skip


def _cost(stack: Stack, url: str, header: str = "") -> tuple[float, float]:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", *(["-H", header] if header else [])]
    subprocess.run([*command, "-d1s", url], check=True, capture_output=True)
    process = psutil.Process(stack.pid("gateway"))
    before = process.cpu_times()
    report = subprocess.run([*command, f"-d{SECONDS}s", url], check=True, capture_output=True, text=True).stdout
    after = process.cpu_times()
    found = re.search(r"(\d+) requests in", report)
    if found is None:
        raise RuntimeError(f"wrk said: {report}")
    requests = int(found[1])
    spent = after.user + after.system - before.user - before.system
    return 1e6 * spent / requests, requests / SECONDS


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1, ensure_ascii=False) + "\n")
