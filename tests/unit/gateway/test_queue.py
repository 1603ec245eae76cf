"""Why a job waits, in words."""

from __future__ import annotations

import pytest

from schemas.events import RunningTask, WorkerSeen
from services.gateway.views.fleet import SILENT_SECONDS, Fleet
from services.gateway.views.queue import Capacity, explain, ordinal
from services.runtime.settings import Settings


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, "first"), (3, "third"), (10, "tenth"), (11, "11th"), (12, "12th"), (21, "21st"), (102, "102nd"), (1204, "1,204th")],
)
def test_places_in_words(number: int, expected: str) -> None:
    assert ordinal(number) == expected


def test_each_waiting_job_hears_its_place_in_the_line_of_its_service() -> None:
    waiting = [("transcoder", "a"), ("transcoder", "b"), ("zipper", "c"), ("transcoder", "d")]
    fleet = {"transcoder": Capacity(workers=1, slots=2, busy=2)}
    assert explain(waiting, fleet) == {
        "a": "2 of 2 transcoder slots are busy; first in line",
        "b": "2 of 2 transcoder slots are busy; second in line",
        "c": "no zipper is running; first in line",
        "d": "2 of 2 transcoder slots are busy; third in line",
    }


def test_one_slot_is_singular() -> None:
    assert explain([("transcoder", "a")], {"transcoder": Capacity(1, 1, 1)})["a"] == "1 of 1 transcoder slot is busy; first in line"


def test_a_free_slot_means_that_it_is_about_to_start() -> None:
    said = explain([("transcoder", "a"), ("transcoder", "b")], {"transcoder": Capacity(workers=1, slots=2, busy=1)})
    assert said["a"] == "a transcoder slot is free; about to start"
    assert said["b"] == "1 of 2 transcoder slots are busy; second in line"


def test_workers_that_fall_silent_or_say_bye_do_not_count() -> None:
    now = 0.0
    fleet = Fleet(Settings(), clock=lambda: now)
    running = (RunningTask(job_id="j", stage=1, number=0, attempt=1),)
    fleet.seen(WorkerSeen(worker="w1", service="transcoder", slots=2, running=running))
    fleet.seen(WorkerSeen(worker="w2", service="transcoder", slots=1))
    assert fleet.capacities() == {"transcoder": Capacity(workers=2, slots=3, busy=1)}
    fleet.seen(WorkerSeen(worker="w2", service="transcoder", bye=True))
    assert fleet.capacities() == {"transcoder": Capacity(workers=1, slots=2, busy=1)}
    now = SILENT_SECONDS + 1
    assert fleet.capacities() == {}
