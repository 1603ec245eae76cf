"""Whole lives of jobs, as gateway, intake, coordinator and workers write them, without any of these running.

Deterministic: the same life twice is the same bytes. The golden records (`tests/golden.py`) and long histories
(`history`) are made of them.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from schemas import envelope, topics
from schemas.events import (
    AssetChanged,
    CallbackRequested,
    CancelRequested,
    ErrorInfo,
    FailureClass,
    FollowUp,
    JobRequested,
    JobStatus,
    ObjectRef,
    Output,
    Recipe,
    Request,
    RetryRequested,
    StagePlan,
    StreamRequested,
    TaskFailed,
    TaskFinished,
    TaskReleased,
    TaskReturned,
    TaskStarted,
    UploadReceived,
    Watermark,
    ZipEntry,
    ZipRequested,
)
from services.coordinator import records, state
from services.coordinator.intake import interpret
from services.gateway.identity import SOURCE
from services.runtime.kafka.producer import Record, record
from services.runtime.kafka.reader import Received

BEGAN_MS = 1_700_000_000_000
"""When every life begins, unless it is moved (`history`)."""
BUCKET = "media"
PARTITION = 0


def as_received(sent: Record, offset: int = 0, timestamp_ms: int = BEGAN_MS) -> Received:
    """A record as a reader gets it."""
    key = sent.key.encode() if isinstance(sent.key, str) else sent.key
    headers = [(name, raw.encode() if isinstance(raw, str) else raw) for name, raw in sent.headers]
    return Received(sent.topic, max(sent.partition, 0), offset, timestamp_ms, key, sent.value, headers)


class Life:
    """One job, driven as its actor drives it. `records` has all that was written, in order."""

    def __init__(self, name: str, request: Request, *, asset: AssetChanged | None = None, source: str = SOURCE) -> None:
        self.records: list[Record] = []
        self.now_ms = BEGAN_MS
        self._events = 0
        self._name = name
        wanted = msgspec.structs.replace(request, job_id=request.job_id or envelope.derived_id("life", name))
        self.job_id = wanted.job_id or ""
        sent = record(wanted, self.job_id, source=source, event_id=f"life/{name}", traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
        self.records.append(sent)
        if asset is not None:
            self.records.append(record(asset, asset.asset_id, source=SOURCE, event_id=f"life/{name}-asset"))
        event = interpret(as_received(sent), BUCKET)
        self.records.append(event)
        job, _ = state.step(None, envelope.decode(event.value or b"", JobRequested), self.now_ms)
        assert job is not None
        self.job: JobStatus = job
        self._write(job, [])

    def wait(self, ms: int) -> Life:
        """Time passes."""
        self.now_ms += ms
        return self

    def release(self) -> TaskReleased:
        """The next task goes out."""
        released = state.release(self.job, PARTITION, self.now_ms)
        assert released is not None, f"{self._name}: no task is ready"
        service = state.service_of_stage(self.job)
        self.job, task = released
        self._write(self.job, [])
        self.records.append(records.task(task, self.job, service, PARTITION))
        return task

    def tell(self, event: state.JobEvent) -> None:
        """Something happens to the job."""
        self._events += 1
        topic = topics.REQUESTS if isinstance(event, CancelRequested | RetryRequested) else topics.JOB_EVENTS
        self.records.append(record(event, self.job_id, source="reelworks/tests", event_id=f"life/{self._name}/{self._events}", topic=topic))
        job, effects = state.step(self.job, event, self.now_ms)
        assert job is not None
        self._write(job, effects)

    def start(self, worker: str = "transcoder-1") -> TaskReleased:
        """The next task goes out and a worker takes it."""
        task = self.release()
        self.wait(40)
        self.tell(TaskStarted(job_id=self.job_id, stage=task.stage, number=task.number, attempt=task.attempt, worker=worker))
        return task

    def finish(self, task: TaskReleased, **more: Any) -> None:
        self.wait(2_000)
        self.tell(
            TaskFinished(job_id=self.job_id, stage=task.stage, number=task.number, attempt=task.attempt, worker="transcoder-1", **more)
        )

    def fail(self, task: TaskReleased, failure_class: FailureClass = "transient", message: str = "the store answered 503") -> None:
        self.wait(1_000)
        error = ErrorInfo(code="storage", message=message, hint="Look at the store.", failure_class=failure_class)
        self.tell(
            TaskFailed(job_id=self.job_id, stage=task.stage, number=task.number, attempt=task.attempt, worker="transcoder-1", error=error)
        )

    def give_back(self, task: TaskReleased) -> None:
        self.tell(TaskReturned(job_id=self.job_id, stage=task.stage, number=task.number, attempt=task.attempt, worker="transcoder-1"))

    def progress(self, task: TaskReleased, fraction: float) -> None:
        """A heartbeat told of it."""
        job = state.report(self.job, {(task.number, task.attempt): (fraction, "encoding")})
        if job is not None:
            self._write(job, [])

    def plan(self, *stages: tuple[str, int]) -> None:
        """Planned: stages with their number of tasks."""
        service = self.job.service
        self.finish(self.start(), plan_hash="9f2c" * 8, stages=tuple(StagePlan(name=n, service=service, tasks=c) for n, c in stages))

    def run(self, tasks: int) -> None:
        """So many tasks of the planned stages run to their end."""
        for _ in range(tasks):
            self.finish(self.start())

    def end(self, outputs: tuple[Output, ...] = (), **data: Any) -> Life:
        """The finish task, and the success of the job."""
        self.finish(self.start(), outputs=outputs, data=data)
        assert self.job.state == "succeeded", self.job
        return self

    def tidy(self) -> Life:
        """The cleanup, at once after a success, an hour after anything else."""
        self.wait(state.KEEP_FAILED_MS if self.job.state != "succeeded" else 10)
        self.finish(self.start())
        assert self.job.cleanup == "done", self.job
        return self

    def statuses(self) -> list[Record]:
        return [r for r in self.records if r.topic == topics.JOBS]

    def _write(self, job: JobStatus, effects: list[state.Effect]) -> None:
        self.job = job
        self.records.append(records.status(PARTITION, job, envelope.encode_value(job), len(self.records)))
        self.records.extend(records.effect(PARTITION, job, effect) for effect in effects)


# ── Lives ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _asset_id(name: str) -> str:
    return envelope.derived_id("asset", name)


def _upload(name: str, **more: Any) -> Life:
    asset_id = _asset_id(name)
    fields: dict[str, Any] = {
        "key": f"assets/{asset_id}/source/{name}.mov", "bucket": BUCKET, "asset_id": asset_id, "filename": f"{name}.mov",
        "title": f"A film: {name}", "content_type": "video/quicktime", "size": 734_003_200, "etag": "5d41402abc4b2a76b9719d911017c592",
        "owner": "anna",
    }  # fmt: skip
    asset = AssetChanged(
        asset_id=asset_id, title=f"A film: {name}", created_ms=BEGAN_MS, updated_ms=BEGAN_MS, owner="anna", filename=f"{name}.mov",
        bucket=BUCKET, key=fields["key"], size=fields["size"], content_type="video/quicktime",
    )  # fmt: skip
    return Life(name, UploadReceived(**fields | more), asset=asset)


def _renditions(asset_id: str) -> tuple[Output, ...]:
    base = f"assets/{asset_id}"
    made = [
        Output(
            role="rendition", bucket=BUCKET, key=f"{base}/4f1c9a/{height}.mp4", size=height * 400_000, content_type="video/mp4",
            name=f"{height}p", width=height * 16 // 9, height=height, bit_rate=height * 4_000, codecs="avc1.640028,mp4a.40.2",
            etag="ab" * 16,
        )
        for height in (1080, 720, 480, 360)
    ]  # fmt: skip
    made += [
        Output(role=r, bucket=BUCKET, key=f"{base}/{r}.jpg", size=48_211, content_type="image/jpeg", etag="cd" * 16)
        for r in ("poster", "thumbnail")
    ]
    return tuple(made)


def queued(name: str = "queued") -> Life:
    return _upload(name)


def planning(name: str = "planning") -> Life:
    life = _upload(name, recipe=Recipe(heights=(720, 360), watermark=Watermark(key="marks/logo.png", opacity=0.5), thumbnail_at="1s"))
    life.start()
    return life


def running(name: str = "running") -> Life:
    """Half-way: tasks done, out, to be tried again, and one that failed before."""
    life = _upload(name)
    life.plan(("encode", 8), ("compose", 3))
    life.run(2)
    one, two, _ = life.start(), life.start("transcoder-2"), life.start("transcoder-2")
    life.progress(one, 0.4)
    life.fail(two)
    life.give_back(one)
    return life


def finishing(name: str = "finishing") -> Life:
    life = _upload(name)
    life.plan(("encode", 3), ("compose", 2))
    life.run(5)
    life.start()
    return life


def succeeded(name: str = "succeeded", chunks: int = 3) -> Life:
    """A film, ended and not tidied up."""
    life = _upload(name, then=(FollowUp(type="CallbackRequested", data={"url": "https://cms.example.org/hook"}),))
    life.plan(("encode", chunks), ("compose", 2))
    life.run(chunks + 2)
    asset_id = _asset_id(name)
    return life.end(
        _renditions(asset_id), asset_id=asset_id, bucket=BUCKET, key=f"assets/{asset_id}/source/{name}.mov", title=f"A film: {name}",
        duration_seconds=93.4, width=1920, height=1080, frame_rate=25.0, frames=2335, has_audio=True, recipe="4f1c9a",
    )  # fmt: skip


def tidied(name: str = "tidied") -> Life:
    return succeeded(name).tidy()


def failed(name: str = "failed") -> Life:
    """Given up after its last attempt: a dead letter lies there, too."""
    life = _upload(name)
    life.plan(("encode", 2))
    while life.job.state != "failed":
        life.wait(60_000)
        life.fail(life.start())
    return life


def broken(name: str = "broken") -> Life:
    """No film at all; tidied up."""
    life = _upload(name)
    life.fail(life.start(), "permanent", "the object is not a video: moov atom not found")
    return life.tidy()


def cancelled(name: str = "cancelled") -> Life:
    life = _upload(name)
    life.plan(("encode", 4))
    life.start()
    life.tell(CancelRequested(job_id=life.job_id, reason="not wanted any more"))
    return life


def retried(name: str = "retried") -> Life:
    """Failed, and asked for again by hand: its second run."""
    life = failed(name)
    life.wait(5_000)
    life.tell(RetryRequested(job_id=life.job_id))
    return life


def retry_wanted(name: str = "retry-wanted") -> Life:
    """A retry came while the cleanup ran."""
    life = failed(name)
    life.wait(state.KEEP_FAILED_MS)
    life.start()
    life.tell(RetryRequested(job_id=life.job_id))
    return life


def waits_for_another(name: str = "waits") -> Life:
    life = Life(
        name, StreamRequested(key=f"in/{name}.mkv", bucket=BUCKET, asset_id=_asset_id(name), title="A film to stream", owner="bert")
    )
    life.finish(
        life.start("streamer-1"),
        needs=FollowUp(type="UploadReceived", data={"key": f"in/{name}.mkv", "bucket": BUCKET, "recipe": {"hls": False}}),
    )
    return life


def streamed(name: str = "streamed") -> Life:
    asset_id = _asset_id(name)
    life = Life(name, StreamRequested(asset_id=asset_id, title="A film to stream", owner="bert"), source=records.SOURCE)
    life.plan(("package", 2))
    life.run(2)
    master = Output(
        role="playlist", bucket=BUCKET, key=f"assets/{asset_id}/4f1c9a/master.m3u8", size=912, content_type="application/vnd.apple.mpegurl"
    )
    life.end((master,), asset_id=asset_id, bucket=BUCKET, master=master.key, recipe="4f1c9a", duration_seconds=93.4)
    return life.tidy()


def zipped(name: str = "zipped") -> Life:
    entries = tuple(ZipEntry(key=f"holidays/{n:03}.jpg", name=f"Crete/{n:03}.jpg") for n in range(12))
    life = Life(
        name, ZipRequested(target=ObjectRef(key=f"archives/{name}.zip", bucket=BUCKET), entries=entries, title="Crete", owner="cleo")
    )
    life.plan(("pack", 1))
    life.run(1)
    archive = Output(role="archive", bucket=BUCKET, key=f"archives/{name}.zip", size=8_123_456, content_type="application/zip")
    life.end(
        (archive,), target={"key": archive.key, "bucket": BUCKET}, size=archive.size, entries=12, crc_sources={"head": 12}, seconds=1.5
    )
    return life.tidy()


def called_back(name: str = "called-back") -> Life:
    life = Life(name, CallbackRequested(url="https://cms.example.org/hook", owner="anna"), source=records.SOURCE)
    life.plan(("deliver", 1))
    life.run(1)
    life.end(url="https://cms.example.org/hook", http_status=204, tries=1)
    return life.tidy()


LIVES: tuple[Callable[[str], Life], ...] = (
    queued, planning, running, finishing, succeeded, tidied, failed, broken, cancelled, retried, retry_wanted, waits_for_another, streamed,
    zipped, called_back,
)  # fmt: skip

# ── Many of them ───────────────────────────────────────────────────────────────────────────────────────────────────

SHARES: dict[Callable[[str], Life], int] = {
    tidied: 40, streamed: 25, called_back: 8, zipped: 5, broken: 6, cancelled: 3, failed: 3, succeeded: 2, running: 3, planning: 1,
    queued: 2, retried: 1, waits_for_another: 1,
}  # fmt: skip
"""Of a hundred jobs: most have ended long ago."""
VIEWED = (topics.REQUESTS, topics.JOBS, topics.ASSETS, topics.COMPLETIONS)
_NAMES = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|(?<!\d)1700\d{3}(?=\d{6}(?!\d))")


class _Pattern:
    """A text in which the ids and the times are to be others for each job."""

    def __init__(self, text: bytes) -> None:
        self._parts = _NAMES.split(text)
        self._names = _NAMES.findall(text)

    def of(self, number: int, days: int) -> bytes:
        """For the job of that number, which began so many days ago at most."""
        made = [self._parts[0]]
        for name, rest in zip(self._names, self._parts[1:], strict=True):
            made.append(_other(name, number, days))
            made.append(rest)
        return b"".join(made)


def _other(name: bytes, number: int, now_s: int) -> bytes:
    if len(name) == 7:
        # Thousands of seconds: each job begins at one of those of the last three weeks.
        return str(int(name) - 1_700_000 + now_s // 1000 - 8 - number * 7 % 1_800).encode()
    digest = f"{zlib.crc32(name):08x}{number:08x}"
    return f"{zlib.crc32(digest.encode()):08x}-{digest[:4]}-5{digest[4:7]}-8{digest[7:10]}-{number:012x}".encode()


def history(jobs: int, *, now_s: int, statuses: int = 3, seed: int = 0) -> Iterator[Record]:
    """What lies in the topics of the view after so many jobs, uncompacted: of each job its request, its asset if it has one,
    the last `statuses` of its statuses, and its outcome. Jobs overlap as they do where several are worked on.

    The records' times lie in the three weeks before `now_s`, seconds since 1970.
    """
    chance = random.Random(seed)
    patterns = [_patterns(life(life.__name__), statuses) for life in SHARES]
    open_lives: list[Iterator[Record]] = []
    begun = 0
    while begun < jobs or open_lives:
        if begun < jobs and len(open_lives) < 50:
            pattern = chance.choices(patterns, weights=tuple(SHARES.values()))[0]
            open_lives.append(_stamped(pattern, begun, now_s))
            begun += 1
            continue
        chosen = chance.randrange(len(open_lives))
        written = next(open_lives[chosen], None)
        if written is None:
            open_lives[chosen] = open_lives[-1]
            open_lives.pop()
        else:
            yield written


_Patterned = tuple[Record, _Pattern, _Pattern, list[tuple[str, _Pattern]]]


def _patterns(life: Life, statuses: int) -> list[_Patterned]:
    kept = life.statuses()[-statuses:]
    chosen = [r for r in life.records if (r.topic in VIEWED and r.topic != topics.JOBS) or any(r is k for k in kept)]
    # Requests that the coordinator makes are other jobs.
    chosen = [r for r in chosen if r.topic != topics.REQUESTS or r is life.records[0]]
    made: list[_Patterned] = []
    for r in chosen:
        key = r.key.encode() if isinstance(r.key, str) else r.key or b""
        headers = [(name, _Pattern(raw if isinstance(raw, bytes) else str(raw).encode())) for name, raw in r.headers]
        made.append((r, _Pattern(key), _Pattern(r.value or b""), headers))
    return made


def _stamped(patterns: list[_Patterned], number: int, now_s: int) -> Iterator[Record]:
    for r, key, value, headers in patterns:
        partition = number % topics.JOB_PARTITIONS if r.topic in (topics.JOBS, topics.COMPLETIONS) else -1
        yield Record(
            topic=r.topic,
            key=key.of(number, now_s),
            value=value.of(number, now_s),
            headers=[(name, raw.of(number, now_s)) for name, raw in headers],
            partition=partition,
        )
