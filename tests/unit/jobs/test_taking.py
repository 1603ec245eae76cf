"""Taking tasks: which one next, and which offset may be committed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import TaskReleased
from services.runtime.jobs.buffer import TaskBuffer, Waiting
from services.runtime.jobs.offsets import OpenOffsets


def waiting(job: str, number: int, attempt: int = 1, partition: int = 0, *, alone: bool = False) -> Waiting:
    task = TaskReleased(job_id=job, kind="k", role="run", stage=1, number=number, attempt=attempt, alone=alone)
    return Waiting(task, partition, number)


def numbers(buffer: TaskBuffer) -> list[int]:
    """Of the tasks that it gives out when nothing is under way."""
    return [taken.task.number for _ in range(len(buffer)) if (taken := buffer.take([])) is not None]


def test_what_was_released_again_comes_first_and_then_the_order_of_arrival() -> None:
    buffer = TaskBuffer()
    attempts = [1, 1, 3, 2, 10_001]
    for number, attempt in enumerate(attempts):
        buffer.push(waiting("a", number, attempt, partition=number))
    assert numbers(buffer) == [2, 3, 0, 1, 4]


def test_within_a_partition_tasks_begin_in_their_order_so_that_their_offsets_can_be_committed() -> None:
    buffer, offsets = TaskBuffer(), OpenOffsets()
    for number, attempt in enumerate([1, 3, 2]):
        offsets.open(number)
        buffer.push(waiting("a", number, attempt))
    buffer.push(waiting("b", 7, attempt=2, partition=1))
    assert numbers(buffer) == [7, 0, 1, 2]
    offsets.close(0)
    assert offsets.committable() == 1


def test_lost_partitions_and_cancelled_jobs_are_dropped() -> None:
    buffer = TaskBuffer()
    for each in (waiting("a", 0), waiting("a", 1, partition=1), waiting("b", 2), waiting("b", 3, partition=2)):
        buffer.push(each)
    assert [w.task.number for w in buffer.drop(lambda w: w.partition in (1, 2))] == [1, 3]
    assert [w.task.number for w in buffer.drop(lambda w: w.task.job_id == "b")] == [2]
    assert numbers(buffer) == [0]


def test_a_task_that_is_to_be_alone_waits_for_the_others_and_they_for_it() -> None:
    buffer = TaskBuffer()
    for each in (waiting("a", 0), waiting("a", 1), waiting("b", 2, attempt=3, partition=1, alone=True)):
        buffer.push(each)
    other = waiting("c", 3).task
    assert buffer.take([other]) is None
    alone = buffer.take([])
    assert alone is not None
    assert alone.task.number == 2
    assert buffer.take([alone.task]) is None
    assert numbers(buffer) == [0, 1]


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
