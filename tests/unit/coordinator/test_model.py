"""The simulated world keeps its invariants, whatever happens in it; what once broke one is kept."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.coordinator import model
from tests.unit.coordinator.auditor import Broken
from tests.unit.coordinator.model import STEPS, Schedule, generate, run, scripted
from tests.unit.coordinator.simulated import Spec

TOGETHER = 100
"""Schedules of the generator that are run each time; `python -m tests.unit.coordinator.model` runs others for as long as one likes."""

KEPT: dict[str, Schedule] = {
    "a result of an earlier run counted after it had been tidied up": scripted(
        "run=1 turn work end freeze spawn rebalance cancel turn jump=3 run=3 run=3 retry turn work end ship turn thaw ship turn turn work "
        "end",
        Spec(stages=(1,)),
    ),
    "a retry did not wait for a cleanup that had begun and failed": scripted(
        "run=1 turn cancel run jump=3 turn work fail ship retry",
        Spec(stages=(1,)),
    ),
    "a retry did not wait for the second attempt of a cleanup, as the first had ended late": scripted(
        "run=1 turn cancel turn jump=3 turn work turn freeze spawn rebalance pass=2 turn pass turn work turn retry turn thaw rebalance end "
        "ship turn work end ship turn end",
        Spec(stages=(1,)),
    ),
    "a job was forgotten by the scheduler when its partition's former actor ended after the next had begun": scripted(
        "intake=2 turn turn run intake turn turn turn turn=1 assign=1 amid-read=6 turn=1",
        *(Spec(stages=(5,)), Spec(), Spec(stages=(5,))),
    ),
    "a task that ends its process was blamed on the tasks beside it": scripted(
        "",
        *(Spec(stages=(1,)), Spec(stages=(1,), curse=(-1, 0, "kills"))),
    ),
    "a task that ends its process was begun again for ever, since an offset before its own was still open": scripted(
        "run=49 beat=29 work=48 jump=47 run=2 run=32 end=5 thaw ship=28 pass=26 run=18 end=3",
        *(Spec(stages=(), curse=(-1, 0, "kills")), Spec(), Spec(stages=())),
    ),
    "a plan that was made after the job had ended and was tidied up stayed in the store": scripted(
        "kill run=1 cancel turn jump=3",
        Spec(stages=(1,)),
    ),
    "a plan that was stored by a task that was told to stop after its job had been tidied up stayed in the store": scripted(
        "run turn work freeze cancel turn jump=3 run end=2",
        Spec(stages=(1,)),
    ),
    "failures of a finished task stayed in the status": scripted("", Spec(stages=(1, 2), curse=(2, 0, "kills"))),
}
"""What was wrong, and the shortest way to it."""


@pytest.fixture(autouse=True, scope="module")
def _without_logs() -> Iterator[None]:
    before = structlog.get_config()
    yield from model.quietly()
    structlog.configure(**before)


@pytest.mark.parametrize("schedule", KEPT.values(), ids=KEPT.keys())
def test_what_once_went_wrong_goes_well(schedule: Schedule) -> None:
    run(schedule)


def test_every_schedule_of_the_generator_ends_well() -> None:
    for seed in range(TOGETHER):
        schedule = generate(random.Random(seed))
        try:
            run(schedule)
        except Exception as wrong:
            raise AssertionError(f"seed {seed}: {type(wrong).__name__}: {wrong}\n{model.written(schedule)}") from wrong


SPECS = st.builds(
    Spec,
    type=st.sampled_from(["UploadReceived", "StreamRequested"]),
    stages=st.sampled_from([(), (1,), (3,), (2, 0, 1)]),
    shifted=st.booleans(),
    needs=st.booleans(),
    deadline=st.sampled_from([None, None, 30]),
    then=st.booleans(),
    otherwise=st.booleans(),
    curse=st.sampled_from([None, None, (0, 0, "transient"), (1, 0, "permanent"), (1, 0, "kills"), (-1, 0, "timed-out")]),
)
ANY_STEP = st.tuples(st.sampled_from([step for step, weight in STEPS.items() for _ in range(weight)]), st.integers(0, 63))


@given(st.lists(SPECS, min_size=1, max_size=2), st.lists(ANY_STEP, max_size=30))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_every_job_comes_to_one_end(specs: list[Spec], steps: list[tuple[str, int]]) -> None:
    run(Schedule(tuple(specs), tuple(steps)))


def test_a_broken_invariant_is_found_and_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model has teeth: with a transition that forgets what is finished, it says so, in few steps."""
    from services.coordinator import state

    def forgetful(job: object, done: int) -> None:
        mark(job, done & ~1)  # type: ignore[arg-type]

    mark = state._mark  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(state, "_mark", forgetful)
    schedule = scripted("run turn cancel=1 run=2 pass", Spec(), Spec(stages=(3,)))
    with pytest.raises(Broken):
        run(schedule)
    small = model.shrink(schedule, lambda s: bool(model.failure(s)), seconds=60)
    assert (small.steps, len(small.specs)) == ((), 1)


def test_a_schedule_reads_as_it_was_written() -> None:
    schedule = generate(random.Random(7))
    assert eval(model.written(schedule), {"scripted": scripted, "Spec": Spec}) == schedule
