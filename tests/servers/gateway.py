"""A gateway on the tests' Kafka, with a folder of its own, and a hand to write what a coordinator would."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest_asyncio

from schemas import envelope, topics
from schemas.events import JobStatus, Message, Output, StageStatus
from services.gateway.app import running
from services.gateway.context import Gateway
from services.runtime.kafka.producer import EventProducer, record
from services.runtime.kafka.reader import LogReader
from services.runtime.settings import Settings
from tests import trees

WAIT_SECONDS = 60.0


@dataclass
class RunningGateway:
    """A gateway in this process, a client, and a producer."""

    url: str
    gateway: Gateway
    settings: Settings
    http: aiohttp.ClientSession
    producer: EventProducer

    async def feed(self, event: msgspec.Struct, key: str) -> None:
        """Write an event on its topic and wait until the broker has it."""
        await self.producer.publish(record(event, key, source="tests/coordinator"))

    async def json(self, path: str, **options: Any) -> Any:
        """GET as JSON."""
        async with self.http.get(path, **options) as answer:
            return await answer.json(content_type=None)

    async def until(self, path: str, condition: Callable[[Any], bool]) -> Any:
        """GET until the answer satisfies the condition; fails after 15 s with the last answer."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            found = await self.json(path)
            if condition(found):
                return found
            assert time.monotonic() < deadline, f"{path} still is {found}"
            await asyncio.sleep(0.02)

    def objects(self) -> list[str]:
        """Keys of everything in the folder store."""
        root = Path(self.settings.storage_url.removeprefix("file://"))
        keys = (path.relative_to(root) for path in trees.files(root))
        return [str(key) for key in keys if not key.parts[0].startswith(".")]


def settings_for(kafka: str, folder: Path, **more: Any) -> Settings:
    """Settings of a gateway below `folder`."""
    fields: dict[str, Any] = {"storage_url": f"file://{folder}/media", "data_dir": str(folder / "data"), "port": 0}
    return Settings(bootstrap_servers=kafka, **(fields | more))


@contextlib.asynccontextmanager
async def run_gateway(settings: Settings, *, caught_up: bool = True) -> AsyncIterator[RunningGateway]:
    """A gateway for as long as the context lasts."""
    async with running(settings) as (gateway, url):
        if caught_up:
            async with asyncio.timeout(30):
                await gateway.caught_up.wait()
        producer = EventProducer(settings)
        headers = {"Authorization": f"Bearer {settings.api_token}"} if settings.api_token else {}
        try:
            async with aiohttp.ClientSession(url, headers=headers) as http:
                yield RunningGateway(url, gateway, settings, http, producer)
        finally:
            await asyncio.to_thread(producer.close)


@pytest_asyncio.fixture
async def gateway(kafka: str, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """One with default settings."""
    async with run_gateway(settings_for(kafka, tmp_path)) as running_gateway:
        yield running_gateway


def events_about(settings: Settings, topic: str, wanted: Callable[[Message], bool]) -> list[tuple[envelope.Envelope, Any]]:
    """Events on a topic, from its beginning to its present end."""
    reader = LogReader(settings, [topic])
    try:
        found: list[tuple[envelope.Envelope, Any]] = []
        for received in reader:
            try:
                read = envelope.read(received.headers, received.value)
                event = envelope.decode_any(read)
            except envelope.Unreadable:
                continue
            if wanted(event):  # pyright: ignore[reportArgumentType]
                found.append((read, event))
        return found
    finally:
        reader.close()


async def requests_of(running_gateway: RunningGateway, wanted: Callable[[Any], bool]) -> list[tuple[envelope.Envelope, Any]]:
    """Requests that satisfy the condition."""
    return await asyncio.to_thread(events_about, running_gateway.settings, topics.REQUESTS, wanted)


def status(job_id: str = "", **more: Any) -> JobStatus:
    """A job's status as the coordinator writes it."""
    now = int(time.time() * 1000)
    fields: dict[str, Any] = {
        "job_id": job_id or str(uuid.uuid4()),
        "kind": "transcode",
        "service": "transcoder",
        "subject": f"asset-{uuid.uuid4()}",
        "state": "queued",
        "request_type": "UploadReceived",
        "request": {"key": "films/one.mp4"},
        "created_ms": now,
        "updated_ms": now,
        "stages": [StageStatus(name="plan", service="transcoder", total=1)],
    }
    return JobStatus(**(fields | more))


def rendition(bucket: str, key: str, height: int, size: int = 1) -> Output:
    """An MP4 of a job."""
    return Output(
        role="rendition",
        bucket=bucket,
        key=key,
        size=size,
        content_type="video/mp4",
        name=f"{height}p",
        width=height * 16 // 9,
        height=height,
        bit_rate=1_000_000,
    )
