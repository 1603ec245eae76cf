"""A turn of the actor: what came is decided and written, whatever it was. The log is a list; the model has the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas import envelope, topics
from schemas.events import SERVICES, JobRequested, JobStatus, RunningTask, StagePlan, TaskFinished, TaskStarted, WorkerSeen
from services.coordinator.partition import Actor, Host, Tick
from services.coordinator.scheduler import Scheduler
from services.runtime.kafka.partition_log import PartitionLog
from services.runtime.kafka.producer import Record, record
from services.runtime.kafka.reader import Received

REQUEST = JobRequested(
    job_id="j", kind="transcode", service="transcoder", subject="a", request_type="UploadReceived",
    request={"key": "k", "recipe": {"hls": False}},
)  # fmt: skip


class ListLog(PartitionLog):
    def __init__(self) -> None:
        self.written: list[list[Record]] = []

    def read(self) -> Iterator[Received]:
        yield from ()

    def commit(self, records: Sequence[Record]) -> None:
        self.written.append(list(records))


class Owner:
    """An actor with an empty partition."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(dict.fromkeys(SERVICES, 24))
        host = Host(seek=lambda _partition, _offset: None, notice=lambda _worker: None, guarded=())
        self.actor = Actor(None, 0, self.scheduler, host, None)  # type: ignore[arg-type]
        self.log = ListLog()
        self.memory = self.actor.begin(self.log, 1000)
        self.offset = 0

    def turn(self, *events: Received, tick: Tick | None = None) -> None:
        self.actor.turn(self.log, self.memory, list(events), tick, 2000)

    def event(self, made: Record) -> Received:
        self.offset += 1
        key = made.key.encode() if isinstance(made.key, str) else made.key
        return Received(topics.JOB_EVENTS, 0, self.offset - 1, 1000, key, made.value, made.headers)  # type: ignore[arg-type]

    def send(self, event: JobRequested | TaskStarted | TaskFinished) -> None:
        self.turn(self.event(record(event, event.job_id, source="s", topic=topics.JOB_EVENTS)))

    @property
    def job(self) -> JobStatus:
        job = self.memory.get("j")
        assert job is not None
        return job


def test_an_event_that_cannot_be_read_is_a_dead_letter_also_when_nothing_else_has_happened() -> None:
    owner = Owner()
    owner.turn(owner.event(Record(topic=topics.JOB_EVENTS, key="x", value=b"poison", headers=[])))
    (transaction,) = owner.log.written
    assert [(r.topic, r.value) for r in transaction if r.topic == topics.DEAD_LETTERS] == [(topics.DEAD_LETTERS, b"poison")]
    assert owner.actor.position == 1


def test_progress_of_a_task_that_still_runs_for_an_earlier_stage_is_not_taken_for_this_ones() -> None:
    owner = Owner()
    owner.send(REQUEST)
    place = {"job_id": "j", "number": 0, "attempt": 1, "worker": "w"}
    stages = tuple(StagePlan(name=n, service="transcoder", tasks=1) for n in ("a", "b"))
    owner.send(TaskFinished(**place, stage=0, plan_hash="h", stages=stages))  # type: ignore[arg-type]
    owner.send(TaskFinished(**place, stage=1))  # type: ignore[arg-type]
    owner.send(TaskStarted(**place, stage=2))  # type: ignore[arg-type]
    before = owner.job.progress

    def heartbeat(stage: int) -> Tick:
        running = RunningTask(job_id="j", stage=stage, number=0, attempt=1, progress=0.5)
        return Tick(frozenset(), frozenset(), (WorkerSeen(worker="w", service="transcoder", running=(running,)),))

    owner.turn(tick=heartbeat(1))
    assert (owner.job.stage, owner.job.progress) == (2, before)
    owner.turn(tick=heartbeat(2))
    assert owner.job.progress > before


def test_an_actor_that_was_told_to_stop_while_it_opened_its_partition_does_not_report_its_jobs() -> None:
    owner = Owner()
    owner.send(REQUEST)
    status = owner.log.written[0][1]
    late = Owner()
    late.log.read = lambda: iter([Received(topics.JOBS, 0, 0, 0, b"j", status.value, status.headers)])  # type: ignore[method-assign,arg-type]
    late.actor.stop()
    late.actor.begin(late.log, 1000)
    assert {waiting for _, waiting, _ in late.scheduler.outstanding().values()} == {0}
    assert envelope.decode(status.value or b"", JobStatus).state == "queued"
