"""Old and new versions side by side: what is kept of each version is read by everybody, and what is written now would be read
by each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
import msgspec
import pytest

from schemas import envelope, events, topics
from schemas.events import CLEANUP_STAGE, TERMINAL, JobStatus, SegmentsReady, StagePlan, TaskFinished
from services.coordinator import state
from services.coordinator.intake import interpret
from services.coordinator.jobs import Jobs
from services.gateway.views.catalogue import asset_view, film_of
from services.gateway.views.fold import fold
from services.gateway.views.projection import job_view
from services.gateway.views.store import StoredAsset, StoredCompletion
from services.runtime.kafka.reader import Received
from services.streamer.shelf import Shelf, fault
from tests import golden
from tests.golden import Golden
from tests.lives import BEGAN_MS, BUCKET

NOW = BEGAN_MS + 10_000_000
VERSIONS = golden.versions()
BARE = (topics.JOBS, topics.ASSETS, topics.WORKERS, topics.CONTROL, topics.PLAYLISTS)
"""Topics that only we write: their readers look at the value alone, in which binary mode has the event."""


def structured(record: Golden) -> bool:
    return record.about.endswith("(structured)")


def of(version: str, *names: str) -> list[Golden]:
    return [r for r in golden.kept(version) if not names or r.topic in names]


# ── What is kept ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_present_version_is_kept_as_it_is_written_now() -> None:
    folder = golden.FOLDER / golden.version()
    for name, content in golden.files().items():
        path = folder / name
        assert path.is_file(), f"{path} is missing: run `{golden.COMMAND}`"
        assert path.read_bytes() == content, f"{path} is not what is written now: run `{golden.COMMAND}` and look at what changes"
    assert {p.name for p in folder.iterdir()} == set(golden.files())


@pytest.mark.parametrize("version", VERSIONS)
def test_every_event_is_there_in_both_modes_and_a_job_in_every_state(version: str) -> None:
    kept = golden.kept(version)
    known = set(golden.schemas_of(version)) - {"Outcome"}
    assert {r.event for r in kept} == known
    assert {r.event for r in kept if structured(r)} == known - {"JobStatus", "Position"}
    states = {(job.state, job.cleanup) for job in (envelope.decode(r.value.encode(), JobStatus) for r in kept if r.event == "JobStatus")}
    assert states >= {(s, "") for s in ("queued", "planning", "running", "finishing")}
    assert states >= {("succeeded", "waiting"), ("succeeded", "done"), ("failed", "waiting"), ("failed", "done"), ("cancelled", "waiting")}


# ── Readers of today, records of then ──────────────────────────────────────────────────────────────────────────────


def whole(data: bytes, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What a reader of today has understood, as it would write it."""
    understood: dict[str, Any] = json.loads(envelope.encode_value(envelope.decode(data, kind)))
    return understood


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_of_an_old_record_is_lost_to_todays_structs(version: str) -> None:
    for record in golden.kept(version):
        data = record.value.encode()
        if record.topic not in BARE or structured(record):
            read = envelope.read(record.received().headers, data)
            assert read.type == record.event
            assert read.id
            assert read.source
            data = read.data
        assert whole(data, events.BY_NAME[record.event]) == json.loads(data), (record.about, record.event)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_intake_takes_old_requests_in_both_modes(version: str) -> None:
    made: dict[tuple[str, str], bytes] = {}
    for record in of(version, topics.REQUESTS):
        if record.event == "IndexRequested":
            with pytest.raises(envelope.Unreadable, match="not served by this version"):
                interpret(record.received(), BUCKET)
            continue
        answer = interpret(record.received(), BUCKET)
        made[(record.event, record.about)] = answer.value or b""
    for (name, about), value in made.items():
        if about.endswith("(structured)"):
            assert value == made[(name, about.removesuffix("(structured)").strip())]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dead_letter_of_then_is_a_request_of_today(version: str) -> None:
    for record in of(version, topics.DEAD_LETTERS):
        assert interpret(record.received(), BUCKET).topic == topics.JOB_EVENTS


def end(job: JobStatus) -> JobStatus:
    """The job's way to its very end, as today's coordinator goes it."""
    now = max(NOW, *(a.due_ms for a in job.again), 0) if job.again and not job.needs else NOW
    while job.cleanup != "done":
        if not job.outstanding:
            released = state.release(job, 0, now)
            assert released is not None, job
            job = released[0]
        task = job.outstanding[0]
        stage = CLEANUP_STAGE if job.state in TERMINAL else job.stage
        plan: dict[str, Any] = (
            {"plan_hash": "0" * 32, "stages": (StagePlan(name="work", service=job.service, tasks=2),)} if not stage else {}
        )
        event = TaskFinished(job_id=job.job_id, stage=stage, number=task.number, attempt=task.attempt, worker="new", **plan)
        after, _ = state.step(job, event, now)
        assert after is not None
        job = after
        now = max([now, *(a.due_ms for a in job.again)])
    return job


@pytest.mark.parametrize("version", VERSIONS)
def test_the_coordinator_goes_on_with_jobs_in_every_state(version: str) -> None:
    for record in of(version, topics.JOBS):
        if record.event != "JobStatus":
            continue
        memory = Jobs()
        memory.load(record.received())
        job = memory.get(record.key)
        assert job is not None
        assert [j.job_id for j in memory.active()] == ([] if job.cleanup == "done" else [job.job_id])
        if job.needs:  # it stands by until the other job has ended
            assert state.ready(job, NOW) == 0
            continue
        assert end(job).state == (job.state if job.state in TERMINAL and not job.retry_wanted else "succeeded")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_coordinator_applies_old_events_to_old_jobs(version: str) -> None:
    jobs = [envelope.decode(r.value.encode(), JobStatus) for r in of(version, topics.JOBS) if r.event == "JobStatus"]
    for record in of(version, topics.JOB_EVENTS):
        event = envelope.decode_any(envelope.read(record.received().headers, record.value.encode()))
        assert isinstance(event, state.JobEvent)
        for job in (None, *(j for j in jobs if j.job_id == event.job_id)):
            state.step(job, event, NOW)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_gateway_shows_all_of_it(version: str) -> None:
    kept = [r.received(n) for n, r in enumerate(golden.kept(version)) if not (structured(r) and r.topic in BARE)]
    folded = fold(kept)
    assert folded.unreadable == 0
    assert set(folded.jobs) == {r.key for r in of(version, topics.JOBS) if r.event == "JobStatus"}
    for row in folded.jobs.values():
        job = envelope.decode(row[-1], JobStatus)
        assert job_view(job, recorded_ms=NOW, sign=lambda output: output.key).state == job.state
    for asset_id, row in folded.assets.items():
        done = sorted((c for c in folded.completions.values() if c[0] == asset_id), key=lambda c: c[3])
        film = film_of(StoredAsset(asset_id, row[1], True, row[3]), None, [StoredCompletion(c[2], c[4]) for c in done])
        assert asset_view(film, lambda output: output.key, "", token="").asset_id == asset_id


@pytest.mark.parametrize("version", VERSIONS)
def test_the_live_app_makes_playlists_of_old_segments(version: str) -> None:
    for record in of(version, topics.SEGMENTS):
        told = envelope.decode(envelope.read(record.received().headers, record.value.encode()).data, SegmentsReady)
        assert fault(told) == ""
        assert Shelf().take(told, 0, 1.0)


# ── Readers of then, records of today ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_reader_accepts_what_is_written_now(version: str) -> None:
    """Its schema says what it reads. Types that it does not know are nothing to it."""
    schemas = golden.schemas_of(version)
    for record in golden.written():
        if record.event not in schemas or structured(record):
            continue
        jsonschema.Draft202012Validator(schemas[record.event]).validate(json.loads(record.value))


# ── What a later version may add ───────────────────────────────────────────────────────────────────────────────────

FREE = ("request", "data")
"""Fields whose content is the user's or of another struct: what is added there is data, and stays."""


def grown(value: Any) -> Any:
    """The same from a version that has more: a field in every object, a place at the end of every array that stands for one."""
    if isinstance(value, Mapping):
        more = {name: content if name in FREE else grown(content) for name, content in value.items()}
        return {**more, "later": {"a": [1]}}
    if isinstance(value, list):
        numbered = bool(value) and not isinstance(value[0], Mapping | list) and len(value) > 1 and isinstance(value[0], int)
        return [grown(item) for item in value] + (["later"] if numbered else [])
    return value


def test_growing_reaches_everything() -> None:
    job = {"stages": [{"name": "plan"}], "outstanding": [[1, 1, 3, "w"]], "request": {"key": "k"}}
    assert grown(job) == {
        "stages": [{"name": "plan", "later": {"a": [1]}}],
        "outstanding": [[1, 1, 3, "w", "later"]],
        "request": {"key": "k"},
        "later": {"a": [1]},
    }


def later(record: Golden) -> bytes:
    value = json.loads(record.value)
    # A list of numbers and a mapping with keys of its own: no structs.
    plain = {name: value.pop(name) for name in ("partitions", "crc_sources") if name in value}
    return msgspec.json.encode({**grown(value), **plain})


def test_readers_ignore_what_a_later_version_adds() -> None:
    for record in golden.kept(golden.version()):
        if structured(record) or '"heights"' in record.value:
            continue  # the heights of a recipe are such a list, too
        kind = events.BY_NAME[record.event]
        assert envelope.decode(later(record), kind) == envelope.decode(record.value.encode(), kind), record.about


def test_a_gateway_shows_a_later_version_as_it_shows_its_own_and_keeps_what_it_was_given() -> None:
    for record in of(golden.version(), topics.JOBS):
        if record.event != "JobStatus":
            continue
        received = record.received()
        newer = Received(received.topic, 0, 0, received.timestamp_ms, received.key, later(record), received.headers)
        [row] = fold([newer]).jobs.values()
        assert row[:-1] == fold([received]).jobs[record.key][:-1]
        assert b'"later"' in row[-1]


def test_a_coordinator_goes_on_with_a_job_of_a_later_version_and_writes_what_it_knows_itself() -> None:
    """The additions are gone with the next status: see "Upgrades" in docs/operations.md."""
    for record in of(golden.version(), topics.JOBS):
        if record.event != "JobStatus" or not record.about.endswith("the last"):
            continue
        memory, received = Jobs(), record.received()
        memory.load(Received(received.topic, 0, 0, received.timestamp_ms, received.key, later(record), received.headers))
        job = memory.get(record.key)
        assert job is not None
        assert job == envelope.decode(record.value.encode(), JobStatus)
        assert b'"later"' not in envelope.encode_value(job)
