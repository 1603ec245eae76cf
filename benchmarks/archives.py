"""Archives: ours against a straightforward zipper (zipfile and boto3, written below), each in a process of its own, on the same S3 server.

    python -m benchmarks archives

A proxy before the server counts requests and bytes, and adds latency where the row says so. CPU and memory are the worker's, not
the server's. Both take objects that have been in the store for long; ours runs its whole job, planning and cleaning up too.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.zipping import MIB, client_of, settings_of
from schemas.events import ObjectRef, ZipRequested
from services.runtime.testing import JobEnvironment
from services.zipper import compose
from services.zipper.handler import handler
from tests.servers.faulty import ProxyProcess, Traffic, proxied, total
from tests.servers.s3 import S3Server, running_s3

COMMAND = "python -m benchmarks archives"
WHOLE_BYTES = 256 * MIB
"""More than this is stored in parts."""
FEW, FEW_BYTES = 8, 256 * MIB
MANY, MANY_BYTES = 1000, 64 * 1024
LARGE_BYTES = 4 * 1024 * MIB
LATENCY_SECONDS = 0.02
WORKERS = (1, 2, 4)
SHARED, SHARED_BYTES, SHARED_LATENCY_SECONDS, SHARED_SOURCES = 3200, 4096, 0.2, 100


class Run(msgspec.Struct):
    """What one archive has cost."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    traffic: dict[str, Traffic] = {}

    @property
    def moved_mib(self) -> float:
        """Bytes of bodies that went through the worker, in either direction."""
        every = total(self.traffic)
        return (every.sent + every.received) / MIB

    def words(self) -> str:
        named = ", ".join(f"{t.requests} {name}" for name, t in sorted(self.traffic.items(), key=lambda item: -item[1].requests)[:4])
        return (
            f"{self.cpu_seconds:.2f} CPU s, {self.moved_mib:,.0f} MiB in {total(self.traffic).requests:,} requests ({named}), "
            f"{self.seconds:.1f} s, peak {self.peak_mib:.0f} MiB"
        )


def run() -> list[dict[str, Any]]:
    """Rows of the table."""
    with running_s3() as server:
        if server.kind != "versitygw":
            return [{"what": "archives", "value": f"not measured: {server.kind} is no server to compare with", "command": COMMAND}]
        return [*_few(server), *_one(server), *_many(server), *_shared(server)]


# ── The rows ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _few(server: S3Server) -> Iterator[dict[str, Any]]:
    bucket = server.make_bucket()
    _fill(server, bucket, "films", FEW, FEW_BYTES, "mp4")
    with proxied(server.endpoint) as proxy:
        ours, again, theirs = (_measured(server, proxy, kind, bucket, "films/") for kind in ("ours", "ours", "theirs"))
    name = f"{FEW} × {FEW_BYTES // MIB} MiB"
    yield _row(f"bytes through the worker for an archive of {name}", f"{ours.moved_mib:,.0f} MiB", "≤ 100 MiB", "ours: " + ours.words())
    yield _row(
        "its CPU against the straightforward zipper's", f"{ours.cpu_seconds / theirs.cpu_seconds:.3f} ×", "", "theirs: " + theirs.words()
    )
    yield _row("its CPU", f"{ours.cpu_seconds:.2f} s", "≤ 1 s", "the same archive once more: " + again.words())


def _one(server: S3Server) -> Iterator[dict[str, Any]]:
    bucket = server.make_bucket()
    _fill(server, bucket, "one", 1, LARGE_BYTES, "mp4")
    with proxied(server.endpoint) as proxy:
        ours, theirs = _measured(server, proxy, "ours", bucket, "one/"), _measured(server, proxy, "theirs", bucket, "one/")
    yield _row(
        "an archive of 1 × 4 GiB: CPU against the straightforward zipper's", f"{ours.cpu_seconds / theirs.cpu_seconds:.3f} ×", "",
        f"ours: {ours.words()}; theirs: {theirs.words()}",
    )  # fmt: skip


def _many(server: S3Server) -> Iterator[dict[str, Any]]:
    bucket = server.make_bucket()
    _fill(server, bucket, "many", MANY, MANY_BYTES, "jpg")
    name = f"{MANY:,} × {MANY_BYTES // 1024} KiB"
    for latency, goal in ((0.0, ""), (LATENCY_SECONDS, "≥ 10 × faster")):
        with proxied(server.endpoint, latency=latency) as proxy:
            ours, theirs = _measured(server, proxy, "ours", bucket, "many/"), _measured(server, proxy, "theirs", bucket, "many/")
        yield _row(
            f"an archive of {name} at {latency * 1000:.0f} ms of latency, against one object after the other",
            f"{theirs.seconds / ours.seconds:.1f} × faster", goal, f"ours: {ours.words()}; theirs: {theirs.words()}",
        )  # fmt: skip
        yield _row(
            f"GET requests for each of its objects, at {latency * 1000:.0f} ms", f"{ours.traffic['GetObject'].requests / MANY:.2f}", "1",
            "the objects were listed, not looked at one by one; plan, results and the comparison at the end are counted too",
        )  # fmt: skip


def _shared(server: S3Server) -> Iterator[dict[str, Any]]:
    """The tasks of one archive on several workers. Smaller tasks than usual, so that there are enough of them to share."""
    bucket = server.make_bucket()
    _fill(server, bucket, "shared", SHARED, SHARED_BYTES, "jpg")
    with proxied(server.endpoint, latency=SHARED_LATENCY_SECONDS) as proxy:
        seconds = [asyncio.run(_stage_on(server, proxy, bucket, workers)) for workers in WORKERS]
    shown = ", ".join(f"{s:.1f} s on {w}" for s, w in zip(seconds, WORKERS, strict=True))
    yield _row(
        f"the tasks of one archive on {WORKERS[-1]} workers in place of 1, at {SHARED_LATENCY_SECONDS * 1000:.0f} ms of latency",
        f"{seconds[0] / seconds[-1]:.1f} × faster", "",
        f"{SHARED:,} × {SHARED_BYTES // 1024} KiB in {SHARED // SHARED_SOURCES} tasks: {shown}",
    )  # fmt: skip


def _row(what: str, value: str, goal: str, note: str) -> dict[str, Any]:
    return {"what": what, "value": value, "goal": goal, "command": COMMAND, "note": note}


# ── A worker in a process of its own ───────────────────────────────────────────────────────────────────────────────


def _measured(server: S3Server, proxy: ProxyProcess, kind: str, bucket: str, prefix: str) -> Run:
    proxy.traffic()
    answer = _child(kind, server, proxy, bucket, prefix, f"{kind}-{time.time_ns()}.zip")
    made = msgspec.json.decode(answer, type=Run)
    made.traffic = proxy.traffic()
    return made


def _child(kind: str, server: S3Server, proxy: ProxyProcess, *arguments: str) -> bytes:
    command = [sys.executable, "-m", "benchmarks.zipping", kind, proxy.endpoint, server.key, *arguments]
    return subprocess.run(command, input=server.secret.encode(), stdout=subprocess.PIPE, check=True).stdout


async def _stage_on(server: S3Server, proxy: ProxyProcess, bucket: str, workers: int) -> float:
    """Wall time of the tasks when so many workers share them: each takes every n-th one."""
    compose.TASK_SOURCES = SHARED_SOURCES
    with tempfile.TemporaryDirectory(prefix="reelworks-bench-") as folder:
        async with JobEnvironment(
            handler(), Path(folder), settings=settings_of(server.endpoint, server.key, server.secret, bucket)
        ) as environment:
            request = ZipRequested(target=ObjectRef(key=f"shared-{workers}.zip"), prefix="shared/")
            job = environment.job(request, job_id=f"shared-{workers}")
            stored = await environment.plan(job)
            with ExitStack() as stack:
                children = [stack.enter_context(_waiting(server, proxy, bucket, job.job_id, n, workers)) for n in range(workers)]
                for child in children:
                    assert child.stdout is not None
                    await asyncio.to_thread(child.stdout.readline)  # it is ready
                began = time.monotonic()
                for child in children:
                    assert child.stdin is not None
                    child.stdin.write(b"go\n")
                    child.stdin.flush()
                for child in children:
                    await asyncio.to_thread(child.wait)
                seconds = time.monotonic() - began
            assert len(stored.stages) == 1
            await environment.cleanup(job)
            return seconds


@contextmanager
def _waiting(server: S3Server, proxy: ProxyProcess, bucket: str, job: str, first: int, step: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "benchmarks.zipping", "tasks", proxy.endpoint, server.key, bucket, job, f"{first}/{step}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(server.secret.encode() + b"\n")
        process.stdin.flush()
        yield process


def _noise(size: int) -> bytes:
    """Bytes that do not shrink."""
    block = random.Random(1).randbytes(min(size, 8 * MIB))
    return block * (size // len(block))


def _fill(server: S3Server, bucket: str, folder: str, count: int, size: int, ending: str) -> None:
    """Objects as boto3 stores them, with their CRC-32s; those of parts have one for each part, which this server does not tell reliably."""
    client, piece = client_of(server.endpoint, server.key, server.secret), _noise(min(size, WHOLE_BYTES))

    def put(n: int) -> None:
        key = f"{folder}/{n:06}.{ending}"
        if size <= len(piece):
            client.put_object(Bucket=bucket, Key=key, Body=piece)
            return
        upload = client.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="CRC32")["UploadId"]
        parts: list[dict[str, Any]] = []
        for number in range(1, size // len(piece) + 1):
            sent = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=piece, ChecksumAlgorithm="CRC32")
            parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumCRC32": sent["ChecksumCRC32"]})
        client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})

    with ThreadPoolExecutor(1 if size > len(piece) else 8) as pool:
        list(pool.map(put, range(count)))
