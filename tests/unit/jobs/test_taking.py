"""Taking tasks: which one next, and which offset may be committed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import TaskReleased
from services.runtime.jobs.buffer import TaskBuffer, Waiting
from services.runtime.jobs.offsets import OpenOffsets


def waiting(job: str, number: int, attempt: int = 1, partition: int = 0) -> Waiting:
    task = TaskReleased(job_id=job, kind="k", role="run", stage=1, number=number, attempt=attempt)
    return Waiting(task, partition, number)


def test_what_was_released_again_comes_first_and_then_the_order_of_arrival() -> None:
    buffer = TaskBuffer()
    for each in (waiting("a", 0), waiting("a", 1), waiting("a", 2, attempt=3), waiting("a", 3, attempt=2), waiting("b", 4, attempt=10_001)):
        buffer.push(each)
    assert [buffer.pop().task.number for _ in range(len(buffer))] == [2, 3, 0, 1, 4]


def test_lost_partitions_and_cancelled_jobs_are_dropped() -> None:
    buffer = TaskBuffer()
    for each in (waiting("a", 0), waiting("a", 1, partition=1), waiting("b", 2), waiting("b", 3, partition=2)):
        buffer.push(each)
    assert [w.task.number for w in buffer.drop(lambda w: w.partition in (1, 2))] == [1, 3]
    assert [w.task.number for w in buffer.drop(lambda w: w.task.job_id == "b")] == [2]
    assert [buffer.pop().task.number for _ in range(len(buffer))] == [0]


@given(st.permutations(range(8)))
def test_nothing_at_or_above_an_open_offset_is_committed(order: list[int]) -> None:
    offsets = OpenOffsets()
    assert offsets.committable() is None
    for offset in range(100, 108):
        offsets.open(offset)
    closed: set[int] = set()
    committed = 0
    for n in order:
        offsets.close(100 + n)
        closed.add(100 + n)
        said = offsets.committable()
        if said is not None:
            assert said > committed
            committed = said
            assert set(range(100, said)) <= closed
    assert committed == 108
    assert offsets.committable() is None


def test_gaps_in_the_log_do_not_matter() -> None:
    offsets = OpenOffsets()
    offsets.open(5)
    offsets.open(9)
    offsets.close(5)
    assert offsets.committable() == 9
    offsets.close(9)
    assert offsets.committable() == 10
