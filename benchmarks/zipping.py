"""A worker that makes archives, in a process of its own: `archives.py` measures it. It imports what it needs and no more."""

from __future__ import annotations

import asyncio
import io
import json
import resource
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import boto3
import msgspec
import uvloop
from botocore.config import Config

from benchmarks.peak import peak_bytes
from schemas.events import ObjectRef, ZipRequested
from services.runtime.jobs import plan as plans
from services.runtime.settings import Settings
from services.runtime.testing import JobEnvironment
from services.zipper.handler import handler

MIB = 1024**2


def settings_of(endpoint: str, key: str, secret: str, bucket: str) -> Settings:
    """Of a process that uses this bucket."""
    return Settings(storage_url=f"s3://{bucket}", s3_endpoint=endpoint, s3_app_key=key, s3_app_secret=secret)


async def _ours(settings: Settings, prefix: str, target: str) -> None:
    with tempfile.TemporaryDirectory(prefix="reelworks-bench-") as folder:
        async with JobEnvironment(handler(), Path(folder), settings=settings) as environment:
            await environment.run(ZipRequested(target=ObjectRef(key=target), prefix=prefix), job_id=target)


async def _tasks(settings: Settings, job_id: str, share: str) -> None:
    first, step = map(int, share.split("/"))
    with tempfile.TemporaryDirectory(prefix="reelworks-bench-") as folder:
        async with JobEnvironment(handler(), Path(folder), settings=settings) as environment:
            stored = plans.decode(await environment.storage.bucket().read(plans.plan_key(job_id)))
            job = environment.job(msgspec.convert(stored.request, ZipRequested), job_id=job_id)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.readline)
            for number in range(first, len(stored.stages[0].tasks), step):
                await environment.task(job, stored, stored.stages[0].name, number)


def _theirs(settings: Settings, prefix: str, target: str) -> None:
    """What one writes in an afternoon: each object through zipfile, into a multipart upload in parts of 16 MiB."""
    client, bucket = (
        client_of(settings.s3_endpoint, settings.s3_app_key, settings.s3_app_secret),
        settings.storage_url.removeprefix("s3://"),
    )
    upload = client.create_multipart_upload(Bucket=bucket, Key=target)["UploadId"]
    parts: list[dict[str, Any]] = []

    class Sink(io.RawIOBase):
        def __init__(self) -> None:
            self.buffer, self.at = bytearray(), 0

        def writable(self) -> bool:
            return True

        def tell(self) -> int:
            return self.at

        def write(self, data: Any) -> int:
            self.buffer += data
            self.at += len(data)
            if len(self.buffer) >= 16 * MIB:
                self.send()
            return len(data)

        def send(self) -> None:
            number = len(parts) + 1
            sent = client.upload_part(Bucket=bucket, Key=target, UploadId=upload, PartNumber=number, Body=bytes(self.buffer))
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self.buffer.clear()

    sink = Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as made:  # type: ignore[arg-type]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page["Contents"]:
                body = client.get_object(Bucket=bucket, Key=found["Key"])["Body"]
                with made.open(zipfile.ZipInfo(found["Key"]), "w", force_zip64=True) as entry:
                    for chunk in body.iter_chunks(MIB):
                        entry.write(chunk)
    sink.send()
    client.complete_multipart_upload(Bucket=bucket, Key=target, UploadId=upload, MultipartUpload={"Parts": parts})


def client_of(endpoint: str, key: str, secret: str) -> Any:
    """boto3 as it is."""
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=16),
    )  # fmt: skip


def main(kind: str, endpoint: str, key: str, bucket: str, *arguments: str) -> None:
    """One worker; prints what it has cost."""
    settings = settings_of(endpoint, key, sys.stdin.readline().strip(), bucket)
    if kind == "tasks":
        uvloop.run(_tasks(settings, *arguments))
        return
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    if kind == "ours":
        uvloop.run(_ours(settings, *arguments))
    else:
        _theirs(settings, *arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    seconds = time.monotonic() - began
    sys.stdout.write(json.dumps({"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "peak_mib": round(peak_bytes() / 1024**2, 1)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
