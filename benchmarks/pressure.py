"""10,000 requests at once: what the gateway's polls and its memory feel of it, and what becomes of each request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.peak import peak_bytes
from tests.servers.kafka import embedded
from tests.servers.processes import SERVICE, Cluster, Process, cluster

COMMAND = "python -m benchmarks pressure"
REQUESTS = 10_000
POLLS_A_SECOND = 200
IDLE_SECONDS = 8
TRIES = 60
"""A request that is refused is sent again after the time that Retry-After says."""
MIB = 1024**2


def run() -> list[dict[str, Any]]:
    """Rows of the table."""
    folder = Path(tempfile.mkdtemp(prefix="reelworks-bench-"))
    try:
        with embedded(folder / "kafka") as broker:
            with cluster(broker.bootstrap_servers, folder, REELWORKS_SLOTS="16", REELWORKS_PORT="0") as made:
                return _measured(made)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measured(made: Cluster) -> list[dict[str, Any]]:
    film = made.library / "in" / "small.mov"
    film.parent.mkdir(parents=True)
    film.write_bytes(b"a small film")
    gateway = made.start([*SERVICE, "gateway"], "gateway")
    made.coordinator()
    made.scripted()
    url = _listening(gateway)
    _post(url, 100, "warm")
    pid = gateway.process.pid
    before = peak_bytes(pid)
    with _polling(url) as idle:
        time.sleep(IDLE_SECONDS)
    cpu, began = _cpu(pid), time.monotonic()
    with _polling(url) as pressed:
        sent = _post(url, REQUESTS, "rush")
    seconds, used = time.monotonic() - began, _cpu(pid) - cpu
    grown = peak_bytes(pid) - before
    deadline = time.monotonic() + 300
    while sum(job.state == "succeeded" for job in list(made.jobs.values())) < REQUESTS + 100:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{Counter(job.state for job in made.jobs.values())} after five minutes")
        time.sleep(0.2)
    statuses = ", ".join(f"{count:,} times {status}" for status, count in sorted(sent.items()))
    load = f"{psutil.cpu_percent(0.5):.0f} % of all processors were busy afterwards"
    return [
        {"what": f"poll while {REQUESTS:,} requests come at once: p50 / p99", "goal": "p99 < 50 ms", "command": COMMAND,
         "value": _both(pressed),
         "note": f"{POLLS_A_SECOND} polls a second by another process; idle, in the same run: {_both(idle)}. {statuses}; all were taken "
         f"{seconds:.1f} s after the first, by {used:.1f} CPU s of the gateway; {load}"},
        {"what": f"growth of the gateway's peak memory by {REQUESTS:,} requests at once", "value": f"{grown / MIB:.0f} MiB",
         "goal": "bounded", "command": COMMAND, "note": f"from {before / MIB:.0f} MiB; each of them became one job, which succeeded"},
    ]  # fmt: skip


def _both(times_ms: list[float]) -> str:
    return f"{statistics.median(times_ms):.1f} / {statistics.quantiles(times_ms, n=100)[98]:.1f} ms"


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _listening(gateway: Process) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if '"ready"' in gateway.tail(100) and (found := re.search(r"http://127\.0\.0\.1:\d+", gateway.tail(100))):
            return found[0]
        time.sleep(0.1)
    raise TimeoutError(gateway.tail())


# ── The clients, each in a process of its own ──────────────────────────────────────────────────────────────────────


def _post(url: str, requests: int, name: str) -> Counter[str]:
    """Send so many requests at once, each on a connection of its own, and those that are refused again. Answers by status."""
    command = [sys.executable, "-m", "benchmarks.pressure", "post", url, str(requests), name]
    return Counter(json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout))


@contextlib.contextmanager
def _polling(url: str) -> Generator[list[float]]:
    """Milliseconds of polls while the context lasts, there when it ends."""
    times: list[float] = []
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.pressure", "poll", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as polling:
        assert polling.stdin is not None
        assert polling.stdout is not None
        polling.stdout.readline()
        try:
            yield times
        finally:
            polling.stdin.close()
            times += json.loads(polling.stdout.readline())


async def _exchange(host: str, port: int, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own: status, headers, body."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(sent)
        return await _answer(reader)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers.get("content-length", 0)))


async def _send_all(url: str, requests: int, name: str) -> None:
    place, counted = urlsplit(url), Counter[str]()
    host, port = place.hostname or "", place.port or 80

    async def one(number: int) -> None:
        body = json.dumps({"type": "UploadReceived", "data": {"key": "in/small.mov", "title": '{"tasks": 1, "empty": true}'}}).encode()
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\nIdempotency-Key: {name}-{number}\r\n"
        sent = head.encode() + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        for _ in range(TRIES):
            try:
                status, headers, _ = await _exchange(host, port, sent)
            except (OSError, asyncio.IncompleteReadError):
                counted["broken off"] += 1
                await asyncio.sleep(1.0)
                continue
            counted[str(status)] += 1
            if status == 202:
                return
            await asyncio.sleep(float(headers["retry-after"]) * (0.5 + number % 100 / 100))
        raise TimeoutError(f"request {number} was refused {TRIES} times")

    await asyncio.gather(*(one(number) for number in range(requests)))
    sys.stdout.write(json.dumps(counted))


async def _poll(url: str) -> None:
    place = urlsplit(url)
    ids = [
        job["job_id"] for job in json.loads((await _exchange(place.hostname or "", place.port or 80, _get(place.netloc, "")))[2])["jobs"]
    ]
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    sys.stdout.write("polling\n")
    sys.stdout.flush()
    times: list[float] = []
    due = time.perf_counter()
    while not ended.done():
        due += 1 / POLLS_A_SECOND
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        began = time.perf_counter()
        writer.write(_get(place.netloc, f"/{ids[len(times) % len(ids)]}", keep=True))
        status, _, _ = await _answer(reader)
        if status != 200:
            raise RuntimeError(f"a poll was answered with {status}")
        times.append(1000 * (time.perf_counter() - began))
    sys.stdout.write(json.dumps(times) + "\n")


def _get(host: str, below: str, *, keep: bool = False) -> bytes:
    return f"GET /v1/jobs{below} HTTP/1.1\r\nHost: {host}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n".encode()


if __name__ == "__main__":
    import uvloop

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    match sys.argv[1:]:
        case ["post", url, requests, name]:
            uvloop.run(_send_all(url, int(requests), name))
        case ["poll", url]:
            uvloop.run(_poll(url))
        case _:
            sys.stdout.write(json.dumps(run(), indent=1, ensure_ascii=False) + "\n")
