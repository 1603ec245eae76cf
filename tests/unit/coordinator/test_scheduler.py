"""The lines of all services: whoever leaves is forgotten as a whole, and nothing of it stays in a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schemas.events import SERVICES, WorkerSeen
from services.coordinator.scheduler import Scheduler

NOTHING = dict.fromkeys(SERVICES, (0, 0))


def make() -> Scheduler:
    scheduler = Scheduler(dict.fromkeys(SERVICES, 24))
    workers = [WorkerSeen(worker=s, service=s, slots=4, partitions=tuple(range(24))) for s in ("transcoder", "streamer")]
    scheduler.set_workers(workers, 1.0)
    return scheduler


def counts(scheduler: Scheduler) -> dict[str, tuple[int, int]]:
    return {service: (outstanding, waiting) for service, (outstanding, waiting, _) in scheduler.outstanding().items()}


def join(scheduler: Scheduler) -> object:
    actor = object()
    scheduler.join(actor, nothing)
    return actor


nothing: Callable[[], Any] = lambda: None  # noqa: E731


def test_a_grant_of_a_job_that_has_ended_meanwhile_does_not_outlive_its_actor() -> None:
    scheduler = make()
    one, other = join(scheduler), join(scheduler)
    scheduler.report(one, "j", "transcoder", "o", ready=1, outstanding=())
    assert scheduler.take(other) == []
    scheduler.report(one, "j", "transcoder", "o", ready=0, outstanding=())  # cancelled before the grant was taken
    assert counts(scheduler)["transcoder"] == (1, 1)
    scheduler.leave(one)
    assert counts(scheduler) == NOTHING


def test_a_grant_is_void_when_the_jobs_next_stage_is_another_services() -> None:
    scheduler = make()
    one, other = join(scheduler), join(scheduler)
    scheduler.report(one, "j", "transcoder", "o", ready=1, outstanding=())
    scheduler.take(other)
    scheduler.report(one, "j", "streamer", "o", ready=1, outstanding=())
    (grant,) = scheduler.take(one)
    assert counts(scheduler) == NOTHING | {"streamer": (1, 1)}
    scheduler.report(one, "j", "streamer", "o", ready=0, outstanding=(grant.partition,), used=(grant.partition,))
    assert scheduler.take(one) == []
    assert counts(scheduler) == NOTHING | {"streamer": (1, 1)}


def test_one_that_has_left_reports_in_vain_and_takes_nothing_away() -> None:
    scheduler = make()
    former, next_one = join(scheduler), join(scheduler)
    scheduler.report(former, "j", "transcoder", "o", ready=1, outstanding=())
    scheduler.leave(former)
    scheduler.report(next_one, "j", "transcoder", "o", ready=1, outstanding=())
    scheduler.report(former, "j", "transcoder", "o", ready=1, outstanding=())
    scheduler.leave(former)
    assert [grant.job for grant in scheduler.take(next_one)] == ["j"]
