"""Golden records: what this version writes, kept for those that come after it.

python -m tests.golden    write schemas/golden/<version>/ anew

A folder belongs to its version. While that is the present one, `make check` fails when the folder is not what would be written
now; after that it is never changed, and all later versions must read it.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas import envelope, json_schema, topics
from schemas.events import (
    TERMINAL,
    AssetChanged,
    IndexCompleted,
    IndexRequested,
    JobStatus,
    PlaylistChanged,
    RunningTask,
    Segment,
    SegmentsReady,
    StreamReady,
    WorkerSeen,
)
from services.coordinator import records
from services.runtime.kafka.producer import Record, record
from services.runtime.kafka.reader import Received
from tests.lives import BEGAN_MS, BUCKET, LIVES, as_received

FOLDER: Final = Path(__file__).parents[1] / "schemas" / "golden"
RECORDS: Final = "records.jsonl"
SCHEMAS: Final = "schemas.json"
COMMAND: Final = "python -m tests.golden"
_RANDOM = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_ID = "5e0d4c1b-0000-5000-8000-00000000000a"


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """One record, byte for byte: everything in it is UTF-8."""

    about: str
    topic: str
    key: str
    headers: list[tuple[str, str]]
    value: str

    def received(self, offset: int = 0) -> Received:
        """As a reader of today gets it."""
        headers: list[tuple[str, bytes | None]] = [(name, text.encode()) for name, text in self.headers]
        return Received(self.topic, 0, offset, BEGAN_MS, self.key.encode(), self.value.encode(), headers)

    @property
    def event(self) -> str:
        """The name of its struct."""
        if self.topic == topics.JOBS:
            return "Position" if self.key.startswith("@") else "JobStatus"
        return envelope.read(self.received().headers, self.value.encode()).type


def version() -> str:
    """Of the contract: major and minor, as in its descriptions."""
    return ".".join(importlib.metadata.version("reelworks").split(".")[:2])


def versions() -> list[str]:
    """All that are kept, the oldest first."""
    return sorted((p.name for p in FOLDER.iterdir() if p.is_dir()), key=lambda name: [int(part) for part in name.split(".")])


def kept(name: str) -> list[Golden]:
    """The records of a version."""
    return [msgspec.json.decode(line, type=Golden) for line in (FOLDER / name / RECORDS).read_bytes().splitlines()]


def schemas_of(name: str) -> dict[str, dict[str, Any]]:
    """The JSON Schemas of a version, by event."""
    found: dict[str, dict[str, Any]] = json.loads((FOLDER / name / SCHEMAS).read_text())
    return found


# ── What is written now ────────────────────────────────────────────────────────────────────────────────────────────


def files() -> dict[str, bytes]:
    """The folder of this version: name, content."""
    lines = b"".join(msgspec.json.encode(golden) + b"\n" for golden in written())
    return {RECORDS: lines, SCHEMAS: (json.dumps(json_schema.documents(), indent=1, ensure_ascii=False) + "\n").encode()}


def written() -> list[Golden]:
    """Every event in both CloudEvents modes, and a job's status in every state, as this version writes them."""
    chosen: dict[str, Golden] = {}
    for about, sent in (*_of_lives(), *_of_others()):
        golden = _golden(about, sent)
        chosen.setdefault(f"{golden.topic} {golden.event} {about}", golden)
    binary = list(chosen.values())
    modes = {(g.topic, g.event): g for g in binary if g.topic != topics.JOBS}
    return [*binary, *(_structured(g) for g in modes.values())]


def _of_lives() -> Iterator[tuple[str, Record]]:
    for live in LIVES:
        life = live(live.__name__.replace("_", "-"))
        before: tuple[str, ...] = ()
        for sent in life.records:
            if sent.topic != topics.JOBS:
                yield live.__name__ if sent.topic in (topics.REQUESTS, topics.COMPLETIONS, topics.DEAD_LETTERS) else _parts(sent), sent
                continue
            job = envelope.decode(sent.value or b"", JobStatus)
            state = (job.state, str(job.stage), job.cleanup) if job.state in TERMINAL else (job.state, str(job.runs))
            if state != before:
                yield f"{live.__name__}: {' '.join(filter(None, state))}", sent
            before = state
        yield f"{live.__name__}: the last", life.statuses()[-1]


def _parts(sent: Record) -> str:
    """In what an event differs from others of its type: of each sort one is enough."""
    data: dict[str, Any] = msgspec.json.decode(sent.value or b"{}")
    return " ".join([*(name for name in ("stages", "needs", "outputs") if data.get(name)), *filter(None, [data.get("role", "")])])


def _of_others() -> Iterator[tuple[str, Record]]:
    stream = f"assets/{_ID}/4f1c9a"
    growing = StreamReady(
        job_id=_ID, subject=_ID, kind="stream", asset_id=_ID, bucket=BUCKET, master=f"{stream}/master.m3u8", progressive=True,
        recipe="4f1c9a", finished_ms=BEGAN_MS,
    )  # fmt: skip
    segments = SegmentsReady(
        asset_id=_ID, job_id=_ID, bucket=BUCKET, recipe="4f1c9a", rendition="video-720", init_key=f"{stream}/video-720/init.mp4",
        segments=(Segment(number=0, key=f"{stream}/video-720/00000.m4s", duration_seconds=4.0, size=812_331),),
        renditions=("video-720", "audio-und"), total=23, codecs="avc1.64001f", width=1280, height=720, frame_rate=25.0, ceiling=3_000_000,
    )  # fmt: skip
    sound = msgspec.structs.replace(
        segments, rendition="audio-und", init_key=f"{stream}/audio-und/init.mp4", codecs="mp4a.40.2", width=0, height=0, frame_rate=0.0,
        segments=(Segment(number=0, key=f"{stream}/audio-und/00000.m4s", duration_seconds=4.0, size=64_000),), language="en",
        label="English", default=True, channels=2,
    )  # fmt: skip
    changed = PlaylistChanged(asset_id=_ID, bucket=BUCKET, key=f"{stream}/video-720/index.m3u8", etag="ab" * 16, segments=3)
    deleted = AssetChanged(asset_id=_ID, title="A film", created_ms=BEGAN_MS, updated_ms=BEGAN_MS + 5, visibility="public", deleted=True)
    seen = WorkerSeen(
        worker="transcoder-1", service="transcoder", slots=2, partitions=(0, 3), version="0.1.0",
        running=(RunningTask(job_id=_ID, stage=1, number=4, attempt=1, progress=0.4, note="encoding"),),
    )  # fmt: skip
    for about, event, key in (
        ("", IndexRequested(asset_id=_ID, key="in/film.mov", bucket=BUCKET), _ID),
        ("", IndexCompleted(job_id=_ID, subject=_ID, kind="index", asset_id=_ID, finished_ms=BEGAN_MS), f"{_ID}:index"),
        ("progressive", growing, f"{_ID}:stream:progressive"),
        ("", segments, _ID),
        ("sound", sound, _ID),
        ("", changed, changed.key),
        ("deleted", deleted, _ID),
        ("", seen, seen.worker),
        ("good-bye", WorkerSeen(worker="transcoder-1", service="transcoder", bye=True), "transcoder-1"),
    ):
        yield about, record(event, key, source="reelworks/tests", event_id=f"golden/{key}/{about}")
    yield "", records.position(0, 1_234)


def _golden(about: str, sent: Record) -> Golden:
    read = as_received(sent)
    return Golden(
        about=about,
        topic=read.topic,
        key=(read.key or b"").decode(),
        headers=[(name, _RANDOM.sub(b"00000000-0000-4000-8000-000000000000", raw or b"").decode()) for name, raw in read.headers],
        value=(read.value or b"").decode(),
    )


def _structured(golden: Golden) -> Golden:
    """The same event in the other mode."""
    attributes = {name[3:]: text for name, text in golden.headers if name.startswith("ce_")}
    traced = {name: text for name, text in golden.headers if name == "traceparent"}
    value = msgspec.json.encode(attributes | traced | {"datacontenttype": "application/json", "data": msgspec.Raw(golden.value.encode())})
    others = [(name, text) for name, text in golden.headers if not name.startswith("ce_") and name not in ("content-type", "traceparent")]
    return msgspec.structs.replace(
        golden,
        about=f"{golden.about} (structured)".strip(),
        headers=[*others, ("content-type", "application/cloudevents+json; charset=utf-8")],
        value=value.decode(),
    )


def write() -> Path:
    """Make the folder of this version hold what is written now."""
    folder = FOLDER / version()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_bytes(content)
    return folder


if __name__ == "__main__":
    sys.stdout.write(f"wrote {write()}\n")
