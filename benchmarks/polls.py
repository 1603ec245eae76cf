"""CPU of the gateway for one status poll, answered with 200 and with 304, under an external load tool."""

from __future__ import annotations

import asyncio
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

from benchmarks.stack import up

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
                body = answer.read()
            gateway = stack.pid("gateway")
            plain = cost(gateway, url)
            unchanged = cost(gateway, url, f"If-None-Match: {etag}")
            bare = bare_cost(body)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [
        {"what": "CPU of a status poll, 200", "value": f"{plain[0]:.0f} µs", "goal": "≤ 35 µs", "command": COMMAND,
         "note": f"{plain[1]:,.0f} polls a second; process time of the gateway divided by answers that wrk counted"},
        {"what": "CPU of a status poll, 304", "value": f"{unchanged[0]:.0f} µs", "goal": "≤ 30 µs", "command": COMMAND,
         "note": f"{unchanged[1]:,.0f} polls a second"},
        {"what": "a status poll against a bare aiohttp handler with the same bytes", "value": f"{plain[0] / bare[0]:.2f} ×",
         "command": COMMAND, "note": f"the bare one took {bare[0]:.0f} µs in the same run: what aiohttp and the machine cost. "
         "Where that alone is above the goals above, they are out of reach of any handler on this machine"},
    ]  # fmt: skip


def cost(pid: int, url: str, header: str = "") -> tuple[float, float]:
    """CPU microseconds of the process for one request, and requests a second."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", *(["-H", header] if header else [])]
    subprocess.run([*command, "-d1s", url], check=True, capture_output=True)
    process = psutil.Process(pid)
    before = process.cpu_times()
    report = subprocess.run([*command, f"-d{SECONDS}s", url], check=True, capture_output=True, text=True).stdout
    after = process.cpu_times()
    found = re.search(r"(\d+) requests in", report)
    if found is None:
        raise RuntimeError(f"wrk said: {report}")
    requests = int(found[1])
    spent = after.user + after.system - before.user - before.system
    return 1e6 * spent / requests, requests / SECONDS


def bare_cost(body: bytes) -> tuple[float, float]:
    """What a bare aiohttp handler takes for the same bytes."""
    with subprocess.Popen([sys.executable, "-m", "benchmarks.polls", "bare"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(body)
        server.stdin.close()
        url = server.stdout.readline().decode().strip()
        try:
            return cost(server.pid, url)
        finally:
            server.terminate()


async def _serve(body: bytes) -> None:
    from aiohttp import web

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}/\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1:] == ["bare"]:
        import uvloop

        uvloop.run(_serve(sys.stdin.buffer.read()))
    else:
        sys.stdout.write(json.dumps(run(), indent=1, ensure_ascii=False) + "\n")
