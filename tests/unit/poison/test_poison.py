"""Thousands of records that nobody should have written, through everything that decides, without a broker."""

from __future__ import annotations

import itertools
import string
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from schemas import envelope, topics
from schemas.events import SERVICES, JobRequested, JobStatus, SegmentsReady, WorkerSeen
from services.coordinator import intake, records, soundness, state
from services.coordinator.fairness import MOST_SLOTS, Line, Worker
from services.coordinator.intake import dead_letter, interpret
from services.coordinator.leases import Leases
from services.coordinator.scheduler import Scheduler
from services.gateway.views.catalogue import asset_view, film_of
from services.gateway.views.fold import fold
from services.gateway.views.projection import job_view
from services.gateway.views.store import View
from services.runtime.kafka.producer import Record
from services.runtime.kafka.reader import Received
from services.runtime.settings import Settings
from services.streamer.shelf import Shelf, fault
from tests.poison import EVENTS, MARK, REQUESTS, binary, foreign, poison

NOW = 1_800_000_000_000
SEEDS = range(3)


def received(sent: Record, offset: int = 0) -> Received:
    key = sent.key.encode() if isinstance(sent.key, str) else sent.key
    headers = [(name, value.encode() if isinstance(value, str) else value) for name, value in sent.headers]
    return Received(sent.topic, 0, offset, NOW, key, sent.value, headers)


def reason(record: Received) -> str:
    with pytest.raises(envelope.Unreadable) as refused:
        interpret(record, "media")
    return str(refused.value)


def test_what_the_poison_is_made_of_would_be_accepted() -> None:
    for name, body in REQUESTS.items():
        interpret(received(Record(topic=topics.REQUESTS, key=None, value=msgspec.json.encode(body), headers=binary(name, "1"))))
    for name, body in EVENTS.items():
        envelope.decode(msgspec.json.encode(body), envelope.events.BY_NAME[name])


def test_the_same_seed_gives_the_same_records_and_no_two_are_alike() -> None:
    once, again = (list(itertools.islice(poison(7, large=False), 200)) for _ in range(2))
    assert once == again
    assert len({dict(r.headers)[MARK] for r in once}) == 200
    assert once != list(itertools.islice(poison(8, large=False), 200))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_poisoned_request_is_refused_in_words_and_kept_as_it_came(seed: int) -> None:
    for number, sent in enumerate(itertools.islice(poison(seed, large=seed == 0), 300)):
        record = received(sent, number)
        why = reason(record)
        assert len(why.split()) >= 3, (why, record)
        letter = dead_letter(record, why)
        assert (letter.key, letter.value, letter.headers[: len(record.headers)]) == (record.key, record.value, record.headers)
        assert dict(letter.headers[len(record.headers) :])["reelworks-origin-offset"] == str(number).encode()


def test_what_no_letter_can_hold_is_told_of_instead() -> None:
    # Zeros that were 64 KiB on the wire.
    bomb = Received(topics.REQUESTS, 3, 9, NOW, b"k", b"\x00" * (topics.MAX_RECORD_BYTES + 1), [("a", b"b")])
    letter = dead_letter(bomb, reason(bomb))
    told = dict(letter.headers)
    assert (letter.key, letter.value) == (None, None)
    assert (told["reelworks-left-out-bytes"], told["reelworks-origin-offset"]) == (str(topics.MAX_RECORD_BYTES + 4).encode(), b"9")


def test_a_header_whose_name_is_no_text_is_said() -> None:
    record = Received(topics.REQUESTS, 0, 0, NOW, b"k", b"{}", [], "a header's name is not UTF-8")
    assert reason(record) == "a header's name is not UTF-8"


# ── What a foreign hand writes ─────────────────────────────────────────────────────────────────────────────────────


def jobs(count: int) -> dict[str, JobStatus]:
    """Jobs of which the foreign events speak, as they would be after their planning."""
    found: dict[str, JobStatus] = {}
    for number in range(count):
        asked = received(
            Record(topic="", key=None, value=msgspec.json.encode(EVENTS["UploadReceived"]), headers=binary("UploadReceived", str(number)))
        )
        event = envelope.decode(interpret(asked, "media").value or b"", JobRequested)
        job, _ = state.step(None, event, NOW)
        assert job is not None
        released = state.release(job, 0, NOW)
        assert released is not None
        found[event.job_id] = released[0]
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_foreign_job_event_is_buried_or_leaves_a_job_that_everybody_can_read(seed: int, tmp_path: Path) -> None:
    known = jobs(5)
    scheduler = Scheduler(dict.fromkeys(SERVICES, topics.TASK_PARTITIONS))
    scheduler.join("actor", lambda: None)
    written: list[Received] = []
    outcomes: Counter[str] = Counter()
    for sent in itertools.islice(foreign(seed, only=topics.JOB_EVENTS, jobs=tuple(known)), 300):
        record = received(sent)
        try:
            event = soundness.read(record.value, envelope.read(record.headers, record.value))
        except envelope.Unreadable:
            outcomes["buried"] += 1
            continue
        job, effects = state.step(known.get(event.job_id), event, NOW)
        if job is None:
            outcomes["of no job"] += 1
            continue
        outcomes["applied"] += 1
        known[job.job_id] = job
        scheduler.report("actor", job.job_id, state.service_of_stage(job), job.owner, ready=state.ready(job, NOW), outstanding=())
        for grant in scheduler.take("actor"):
            released = state.release(known[grant.job], grant.partition, NOW)
            if released is not None:
                known[grant.job] = released[0]
        value = envelope.encode_value(job)
        assert len(value) < 8 * 1024 * 1024
        assert envelope.decode(value, JobStatus) == job
        made = [records.status(0, job, value, 1), *(records.effect(0, job, effect) for effect in effects)]
        written += [received(r) for r in made]
    assert min(outcomes.values()) >= 5, outcomes
    seen_by_a_gateway(written, tmp_path, unreadable=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_foreign_record_is_counted_by_a_gateway_or_shown_and_never_stops_it(seed: int, tmp_path: Path) -> None:
    sent = [r for topic in (topics.ASSETS, topics.COMPLETIONS) for r in itertools.islice(foreign(seed, only=topic), 200)]
    # As the intake's own, and as the gateway's, which it shows before there is a status.
    sent += [
        Record(
            topic=r.topic, key=r.key, value=r.value, headers=[(n, b"reelworks/gateway" if n == "ce_source" else v) for n, v in r.headers]
        )
        for r in itertools.islice(poison(seed, large=False), 200)
    ]
    seen_by_a_gateway([received(r) for r in sent], tmp_path)


def seen_by_a_gateway(told: list[Received], folder: Path, unreadable: int | None = None) -> None:
    view = View(folder)
    try:
        folded = fold(told)
        view.write(folded, {("t", 0): 1})
        view.filled()
        assert folded.unreadable == unreadable or (unreadable is None and 0 < folded.unreadable < len(told))
        for row in view.jobs(limit=10_000):
            status = msgspec.json.decode(row.record, type=JobStatus)
            msgspec.json.encode(job_view(status, recorded_ms=row.recorded_ms, sign=lambda output: "/x"))
        for row in view.assets(limit=10_000):
            film = film_of(row, None, view.completions(row.asset_id))
            msgspec.json.encode(asset_view(film, lambda output: "/x", "http://h", token="t"))
    finally:
        view.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_foreign_segments_are_refused_or_make_no_other_films_rows(seed: int) -> None:
    shelf, taken = Shelf(), 0
    for sent in itertools.islice(foreign(seed, only=topics.SEGMENTS), 200):
        record = received(sent)
        try:
            told = envelope.decode(envelope.read(record.headers, record.value).data, SegmentsReady)
        except envelope.Unreadable:
            continue
        if fault(told):
            continue
        taken += 1
        rows = shelf.take(told, 0, 0.0)
        assert all(key.startswith(f"{told.asset_id}/{told.recipe}/{told.rendition}".encode()) for key in rows)
        names = f"{told.asset_id}{told.recipe}{told.rendition}"
        assert set(names) <= set(string.ascii_letters + string.digits + "._:-")
    assert Shelf.load([], frozenset({0}), 0.0).films == {}
    assert taken > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_foreign_heartbeats_neither_stop_the_scheduler_nor_send_tasks_where_no_partition_is(seed: int) -> None:
    leases, scheduler = Leases(8000), Scheduler(dict.fromkeys(SERVICES, topics.TASK_PARTITIONS))
    scheduler.join("actor", lambda: None)
    for number, sent in enumerate(itertools.islice(foreign(seed, only=topics.WORKERS), 100)):
        try:
            said = envelope.decode(sent.value or b"", WorkerSeen)
        except envelope.Unreadable:
            continue
        leases.observe(msgspec.structs.replace(said, bye=False), NOW + number)
        scheduler.set_workers(leases.alive(), 1.0)
        for service in SERVICES:
            scheduler.report("actor", f"{service}-{number}", service, "o", ready=2, outstanding=())
        assert all(0 <= grant.partition < topics.TASK_PARTITIONS for grant in scheduler.take("actor"))


def test_a_heartbeat_of_a_million_slots_does_not_take_the_whole_budget() -> None:
    line = Line(topics.TASK_PARTITIONS)
    line.set_workers([Worker("w", 10**30, (0, 99, -1)), Worker("v", 2, (99,))])
    assert line.slots == MOST_SLOTS
    line.set_job("j", "o", ready=100, outstanding=())
    assert {grant.partition for grant in iter(line.grant, None)} == {0}


# ── Single ones, each of which has stopped something ───────────────────────────────────────────────────────────────


def event(name: str, **changes: object) -> Received:
    body = msgspec.json.encode(EVENTS[name] | changes)
    return received(Record(topic=topics.JOB_EVENTS, key=None, value=body, headers=binary(name, "1")))


def refused_event(record: Received) -> str:
    with pytest.raises(envelope.Unreadable) as wrong:
        soundness.read(record.value, envelope.read(record.headers, record.value))
    return str(wrong.value)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("JobRequested", {"job_id": "@offset"}, "job_id is '@offset'"),
        ("JobRequested", {"job_id": "../../x"}, "job_id is '../../x'"),
        ("JobRequested", {"subject": "a\n"}, "subject is"),
        ("JobRequested", {"service": "nobody"}, "for 'nobody'"),
        ("JobRequested", {"kind": "zip"}, "of the kind 'zip'"),
        ("JobRequested", {"deadline_seconds": 2**63}, "deadline_seconds is 9223372036854775808"),
        ("JobRequested", {"request": {"key": "a", "then": [7]}}, "$.then[0]"),
        ("TaskFinished", {"stages": [{"name": "w", "service": "nobody", "tasks": 1}]}, "services are transcoder"),
        ("TaskFinished", {"stages": [{"name": "w", "service": "zipper", "tasks": 10**10}]}, "accepted is 0 to 1000000"),
        ("TaskFinished", {"stages": [{"name": "w", "service": "zipper", "tasks": -1}]}, "has -1 tasks"),
        ("TaskFinished", {"needs": {"type": "Nope", "data": {}}}, "names 'Nope'"),
        ("TaskFinished", {"data": {"x": "y" * topics.EVENT_LIMIT_BYTES}}, "at most 921600 are accepted"),
        ("JobFailed", {}, "JobFailed does not belong on media.job-events"),
    ],
)
def test_a_job_event_that_no_job_could_live_with_is_refused(name: str, changes: dict[str, object], words: str) -> None:
    assert words in refused_event(event(name, **changes))


@pytest.mark.parametrize("depth", [topics.REQUEST_DEPTH, topics.REQUEST_DEPTH + 1, 980, 100_000])
def test_a_request_is_refused_from_a_certain_depth_on(depth: int) -> None:
    deep = b"[" * (depth - 1) + b"]" * (depth - 1)
    record = received(Record(topic="", key=None, value=b'{"key":"a","x":' + deep + b"}", headers=binary("UploadReceived", "1")))
    if depth <= topics.REQUEST_DEPTH:
        interpret(record)
    else:
        assert reason(record) == f"more than {topics.REQUEST_DEPTH} arrays and objects lie within each other"


def test_brackets_in_a_text_are_none() -> None:
    envelope.check_depth(msgspec.json.encode({"a": '\\"' + "[" * 500, "b": [{"c": "{" * 500}]}), 3)
    with pytest.raises(envelope.Unreadable):
        envelope.check_depth(msgspec.json.encode({"a": "]" * 500, "b": [[{"c": "{" * 500}]]}), 3)


def test_what_cannot_be_read_takes_nothing_from_the_view() -> None:
    sound = received(Record(topic=topics.ASSETS, key=b"a", value=msgspec.json.encode(EVENTS["AssetChanged"]), headers=[]))
    late = msgspec.json.encode(EVENTS["AssetChanged"] | {"created_ms": 10**20})
    for broken in (b"{", late, b"[" * 5000):
        folded = fold([sound, received(Record(topic=topics.ASSETS, key=b"a", value=broken, headers=[]))])
        assert (list(folded.assets), folded.unreadable) == (["a"], 1)


def test_a_defect_of_the_intake_sets_one_record_aside_and_not_all_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Record:
        raise ZeroDivisionError("as if")

    monkeypatch.setattr(intake, "interpret", broken)
    answer = intake.Intake(Settings(), lambda: None)._answer(event("JobRequested"))
    assert (answer.topic, dict(answer.headers)["reelworks-reason"]) == (
        topics.DEAD_LETTERS,
        b"it could not be read: ZeroDivisionError: as if",
    )
