"""What is there when all is quiet: every record of the topics, every object of the store, what the gateways answer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient  # pyright: ignore[reportPrivateImportUsage] (its stubs do not export it)

from schemas import envelope, topics
from schemas.events import SERVICES, TERMINAL, JobStatus, TaskFailed, TaskFinished, TaskReturned, TaskStarted
from services.runtime.kafka import client
from services.runtime.kafka.reader import LogReader, Received
from services.runtime.settings import Settings
from tests.chaos.world import World
from tests.servers.processes import status_of
from tests.servers.webhooks import Callback

STILL_SECONDS: Final = 4.0
"""So long nothing may change before it counts as quiet."""
GROUPS: Final = {
    "reelworks-intake": topics.REQUESTS,
    "reelworks-coordinator": topics.JOB_EVENTS,
    topics.LIVE_APP: topics.SEGMENTS,
    **{f"reelworks-{service}": topics.tasks(service) for service in SERVICES if service != "indexer"},
}
READ: Final = (topics.REQUESTS, topics.JOB_EVENTS, topics.JOBS, topics.COMPLETIONS, topics.SEGMENTS, topics.PLAYLISTS, topics.WORKERS,
               topics.DEAD_LETTERS, *(topics.tasks(service) for service in SERVICES))  # fmt: skip

TASK_EVENTS: Final = (TaskStarted, TaskFinished, TaskFailed, TaskReturned)
"""The begin of an attempt, and its ends."""


@dataclass(frozen=True)
class StoredObject:
    key: str
    size: int
    etag: str


@dataclass
class Evidence:
    """All of it."""

    records: dict[str, list[Received]] = field(default_factory=dict)
    objects: dict[str, StoredObject] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    """Keys of multipart uploads that are under way."""
    answers: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Job to gateway to the body of its status."""
    callbacks: list[Callback] = field(default_factory=list)
    lag: dict[str, int] = field(default_factory=dict)
    """Records that a consumer group has not read, by group."""
    scratch: list[str] = field(default_factory=list)
    """Files and folders that are left after the end of all services."""
    orphans: list[str] = field(default_factory=list)
    """Processes that are left after it."""
    folder: Path = Path()
    """A copy of the bucket's assets, archives and shows, for programs that read files."""


class Held:
    """The tasks that workers have begun and not ended, from the events of the log."""

    def __init__(self) -> None:
        self._worker: dict[tuple[str, int, int, int], str] = {}

    def note(self, event: TaskStarted | TaskFinished | TaskFailed | TaskReturned) -> None:
        task = (event.job_id, event.stage, event.number, event.attempt)
        if isinstance(event, TaskStarted):
            self._worker[task] = event.worker
        else:
            self._worker.pop(task, None)

    def of(self, name: str) -> list[tuple[str, int, int, int]]:
        """What the process of that name has: job, stage, number, attempt."""
        return [task for task, worker in self._worker.copy().items() if of_process(worker, name)]


class Follower:
    """The latest status of every job, and the tasks that workers have in hand, from the log."""

    def __init__(self, settings: Settings) -> None:
        self.jobs: dict[str, JobStatus] = {}
        self._held = Held()
        self.changed = time.time()
        self._settings = settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(20)

    def busy(self, name: str) -> bool:
        """Whether the worker of that name has begun a task that has not ended."""
        return bool(self._held.of(name))

    def open_jobs(self, accepted: set[str]) -> list[str]:
        """What is not over: accepted jobs that nobody knows, and jobs that have not ended or are not tidied up."""
        missing = [f"{job_id} (unknown)" for job_id in accepted - self.jobs.keys()]
        return missing + [f"{j.job_id} ({j.kind} {j.state} {j.cleanup})" for j in list(self.jobs.values()) if not _over(j)]

    def unended(self, accepted: set[str]) -> int:
        """As `open_jobs`, without what is only to be tidied up."""
        return len(accepted - self.jobs.keys()) + sum(j.state not in TERMINAL for j in list(self.jobs.values()))

    async def quiet(self, accepted: set[str], seconds: float) -> list[str]:
        """Wait until everything is over and nothing changes any more. Answers what is open when the time is over."""
        until = time.time() + seconds
        while left := self.open_jobs(accepted) or (["the log still changes"] if time.time() - self.changed < STILL_SECONDS else []):
            if time.time() > until:
                return left
            await asyncio.sleep(0.2)
        return []

    def _follow(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(Exception), closing(LogReader(self._settings, [topics.JOBS, topics.JOB_EVENTS])) as reader:
                while not self._ended.is_set():  # until the broker is away
                    for received in reader.poll(0.2):
                        self._note(received)

    def _note(self, received: Received) -> None:
        if received.topic == topics.JOBS and (job := status_of(received)) is not None:
            self.jobs[job.job_id] = job
            self.changed = time.time()
        elif received.topic == topics.JOB_EVENTS and isinstance(event := event_of(received), TASK_EVENTS):
            self._held.note(event)


def of_process(worker: str, name: str) -> bool:
    """Whether a worker of that name as events have it is the process of ours that has that name."""
    return f"-{name}-" in f"{worker}-"


def _over(job: JobStatus) -> bool:
    return job.state in TERMINAL and job.cleanup == "done"


def read_topics(settings: Settings) -> dict[str, list[Received]]:
    """All committed records, by topic, each partition in its order."""
    with closing(LogReader(settings, READ)) as reader:
        found: dict[str, list[Received]] = {topic: [] for topic in READ}
        for received in reader:
            found[received.topic].append(received)
    return found


def list_objects(world: World) -> tuple[dict[str, StoredObject], list[str]]:
    """Every object, and the keys of unfinished multipart uploads."""
    with closing(world.store.client()) as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=world.bucket)
        found = [StoredObject(o["Key"], o["Size"], o["ETag"]) for page in pages for o in page.get("Contents", [])]
        uploads = s3.list_multipart_uploads(Bucket=world.bucket).get("Uploads", [])
    return {o.key: o for o in found}, [u["Key"] for u in uploads]


def download(world: World, keys: list[str], folder: Path) -> None:
    """Objects as files."""
    with closing(world.store.client()) as s3:
        for key in keys:
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(world.bucket, key, str(path))


def lags(settings: Settings, records: dict[str, list[Received]]) -> dict[str, int]:
    """By consumer group: records at or after the offset that it has committed. Transaction markers, which take offsets, are none."""
    admin = AdminClient(client.base(settings))
    found: dict[str, int] = {}
    for group, topic in GROUPS.items():
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=15)
        places = asked[group].result().topic_partitions or []
        next_offset = {place.partition: place.offset for place in places if place.topic == topic}
        found[group] = sum(r.offset >= next_offset.get(r.partition, 0) for r in records[topic])
    return found


async def ask_gateways(world: World, job_ids: list[str]) -> dict[str, dict[str, bytes]]:
    """What every gateway says of every job."""
    found: dict[str, dict[str, bytes]] = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        for job_id in job_ids:
            for service in world.of("gateway"):
                async with session.get(f"{service.url}/v1/jobs/{job_id}") as answer:
                    found.setdefault(job_id, {})[service.name] = await answer.read()
    return found


def left_in(folder: Path) -> list[str]:
    """What is left in a folder, empty folders included, when everybody who worked in it has ended."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def event_of(received: Received) -> Any:
    """The event in a record of ours."""
    return envelope.decode_any(envelope.read(received.headers, received.value))
