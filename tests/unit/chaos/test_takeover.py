"""How long somebody took to take over: what is counted, and what is left out."""

from __future__ import annotations

import msgspec
import pytest

from schemas import envelope, topics
from schemas.events import TaskFinished, TaskStarted
from services.runtime.kafka.reader import Received
from tests.chaos import evidence
from tests.chaos.evidence import Evidence
from tests.chaos.takeover import measure
from tests.chaos.troubles import Blow

KILL = Blow("zipper-1", "zipper", 10.0)
DONE, HELD = {"job_id": "a", "stage": 1, "number": 0}, {"job_id": "b", "stage": 1, "number": 3}
EVENTS = [
    (1.0, TaskStarted(**DONE, attempt=1, worker="zipper-zipper-1-ff")),
    (2.0, TaskStarted(**HELD, attempt=1, worker="zipper-zipper-1-ff")),
    (3.0, TaskFinished(**DONE, attempt=1, worker="zipper-zipper-1-ff")),
    (11.0, TaskStarted(job_id="c", stage=0, number=0, attempt=1, worker="zipper-zipper-2-aa")),
    (18.5, TaskStarted(**HELD, attempt=2, worker="zipper-zipper-2-aa")),
]


def found() -> Evidence:
    made = Evidence({topic: [] for topic in evidence.READ})
    for offset, (at, event) in enumerate(EVENTS):
        headers = envelope.headers_for(type(event).__name__, source="test")
        made.records[topics.JOB_EVENTS].append(
            Received(topics.JOB_EVENTS, 0, offset, int(at * 1000), event.job_id.encode(), msgspec.json.encode(event), headers)
        )
    return made


@pytest.mark.parametrize(
    ("blow", "seconds"),
    [
        (KILL, [8.5]),
        (Blow("zipper-2", "zipper", 9.0), [8.5]),
        (Blow("zipper-2", "zipper", 12.0), []),
        (Blow("zipper-2", "zipper", 19.0), [8.5]),
        (Blow("streamer-1", "streamer", 12.0), [8.5]),
    ],
    ids=["alone", "another before", "another in between", "another after", "of another service"],
)
def test_what_was_in_the_hands_of_the_dead_is_waited_for(blow: Blow, seconds: list[float]) -> None:
    assert measure([KILL], found(), lambda _from, _to: False, [KILL, blow]).get("zipper", []) == seconds


def test_nobody_can_take_over_while_a_broker_is_away() -> None:
    asked: list[tuple[float, float]] = []

    def away(begin: float, end: float) -> bool:
        asked.append((begin, end))
        return True

    assert not any(measure([KILL], found(), away, [KILL]).values())
    assert asked == [(9.0, 18.5)]
