"""Schedules for the simulated world: made from a seed, run, and made smaller when one breaks an invariant.

    python -m tests.unit.coordinator.model --seconds 60 --seed 1

runs as many as it can, tells how many that were in a second, and ends with the first that broke something: its steps, what
happened in them, and a line to keep it as a regression in `test_model.py`.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import structlog

from tests.unit.coordinator.simulated import Spec
from tests.unit.coordinator.simulation import World

STEPS: dict[str, int] = {
    "run": 26, "request": 6, "intake": 4, "turn": 22, "skip": 1, "twice": 1, "tick": 4, "pass": 8, "jump": 5, "abort": 6,
    "amid-commit": 4, "amid-read": 2, "assign": 3, "reassign": 1, "boot": 1, "crash": 3, "suspend": 2, "resume": 2, "work": 10,
    "poll": 4, "start": 4, "ship": 6, "commit": 3, "end": 14, "fail": 6, "beat": 2, "listen": 2, "spawn": 2, "kill": 4, "freeze": 4,
    "thaw": 4, "rebalance": 3, "leave": 2, "bye": 2, "arrive": 1, "lose": 1, "cancel": 3, "retry": 6, "repeat": 4,
}  # fmt: skip
"""Steps that a schedule is made of, and how often they come. Each is a method `do_…` of World."""
STORIES: tuple[str, ...] = (
    # A retry by hand at every moment of what comes after the end.
    "run cancel turn retry run end",
    "run cancel turn jump=3 pass=0 turn=0 work=0 fail ship=0 turn=0 retry=0 run",
    "run=1 turn=0 cancel=0 turn=0 jump=3 turn=0 work=0 turn=0 freeze=0 spawn=0 rebalance=0 pass=2 turn=0 pass turn=0 work turn=0 "
    "retry turn=0 thaw=0 end ship turn=0 work end ship turn=0 end",
    # A worker whose word comes late.
    "run=1 turn=0 work=0 end freeze=0 spawn=0 rebalance=0 cancel turn=0 jump=3 run=3 run=3 retry turn=0 work end ship turn=0 thaw=0 "
    "ship turn=0 turn work",
    "run work freeze pass run thaw end ship run",
    "run=1 turn=0 work=0 turn=0 freeze=0 spawn=0 rebalance=0 pass=2 turn=0 pass=0 turn=0 work turn=0 thaw=0 fail ship turn=0 run",
    "run=1 turn=0 work freeze rebalance spawn pass=2 run=0 thaw=0 commit ship end ship turn",
    # Workers that end, with and without a word.
    "run work kill rebalance pass work kill pass work kill pass",
    "run work leave bye run tick turn arrive turn",
    "run work leave ship commit bye tick turn run arrive",
    # Coordinators that are replaced, in the middle of something.
    "turn work suspend turn work resume turn turn tick",
    "turn amid-commit turn turn crash turn",
    "run=0 amid-read=0 turn crash turn turn turn",
    "run=0 amid-commit abort turn turn turn",
    "work fail ship turn pass work fail ship turn pass",
)
"""What is known to be difficult, some choices made; other steps come in between."""


class Schedule(NamedTuple):
    """What is asked for, and what happens until all is healed."""

    specs: tuple[Spec, ...]
    steps: tuple[tuple[str, int], ...]


def scripted(steps: str, *specs: Spec) -> Schedule:
    """A schedule as people write it: "run=1 turn=1 work" names steps and choices, 0 where none is given."""
    return Schedule(specs, tuple((step, int(pick or 0)) for step, _, pick in (told.partition("=") for told in steps.split())))


def written(schedule: Schedule) -> str:
    """The call of `scripted` that makes it."""
    plain = Spec()._asdict()
    specs = [", ".join(f"{k}={v!r}" for k, v in spec._asdict().items() if v != plain[k]) for spec in schedule.specs]
    steps = " ".join(f"{step}={pick}" if pick else step for step, pick in schedule.steps)
    return f'scripted("{steps}", {", ".join(f"Spec({each})" for each in specs)})'


def run(schedule: Schedule, *, trace: bool = False) -> World:
    """Run it to its quiet end. Raises Broken, or whatever the product raises where it should not."""
    world = World(schedule.specs, trace=trace)
    for job_id in world.specs:
        world.request(job_id)
    for step, pick in schedule.steps:
        world.do(step, pick)
    world.heal()
    return world


def generate(chance: random.Random) -> Schedule:
    """A schedule: mostly one job, a few tasks, some thirty steps."""
    specs = tuple(_spec(chance) for _ in range(chance.choice((1, 1, 1, 1, 1, 1, 2, 2, 3))))
    steps = _some(chance, chance.choice((0, 2, 4, 8, 16)))
    between = chance.choice(((0,), (0, 0, 0, 0, 1), (0, 0, 1, 2)))
    for story in chance.choices(STORIES, k=chance.choice((0, 1, 1, 2))):
        for told in story.split():
            step, _, pick = told.partition("=")
            steps += [(step, int(pick or chance.randrange(64))), *_some(chance, chance.choice(between))]
    return Schedule(specs, tuple(steps))


def _some(chance: random.Random, count: int) -> list[tuple[str, int]]:
    return [(step, chance.randrange(64)) for step in chance.choices(list(STEPS), weights=list(STEPS.values()), k=count)]


def _spec(chance: random.Random) -> Spec:
    kind = chance.choice(("UploadReceived", "UploadReceived", "UploadReceived", "StreamRequested", "CallbackRequested"))
    stages = () if kind == "CallbackRequested" else chance.choice(((), (), (1,), (1,), (1,), (2,), (2,), (3,), (1, 2), (2, 0, 1), (5,)))
    curse = None
    if chance.random() < 0.15:
        stage = chance.choice((-1, 0, *range(1, len(stages) + 2)))
        number = chance.randrange(stages[stage - 1]) if 1 <= stage <= len(stages) and stages[stage - 1] else 0
        how = chance.choice(("permanent", "transient", "timed-out", "kills"))
        if kind != "CallbackRequested" or how in ("permanent", "kills"):
            curse = (stage, number, how)
    return Spec(
        type=kind, stages=stages, shifted=len(stages) > 1 and chance.random() < 0.5,
        needs=kind == "StreamRequested" and chance.random() < 0.6, then=chance.random() < 0.15, otherwise=chance.random() < 0.15,
        deadline=chance.choice((30, 600)) if chance.random() < 0.1 else None, curse=curse,
    )  # fmt: skip


LIKE = 30
"""Two failures that are alike for so many characters are taken for the same."""


# ── Making a broken one smaller ────────────────────────────────────────────────────────────────────────────────────


def failure(schedule: Schedule) -> str:
    """What it breaks, or "" when nothing."""
    try:
        run(schedule)
    except Exception as wrong:
        return f"{type(wrong).__name__}: {wrong}"
    return ""


def shrink(schedule: Schedule, broken: Callable[[Schedule], bool], *, seconds: float = 30.0) -> Schedule:
    """A smaller schedule that is broken, too: without steps and jobs that do not matter, with smaller choices."""
    until = time.monotonic() + seconds
    changed = True
    while changed and time.monotonic() < until:
        changed = False
        for smaller in _smaller(schedule):
            if time.monotonic() > until:
                break
            if broken(smaller):
                schedule, changed = smaller, True
                break
    return schedule


def _smaller(schedule: Schedule) -> Sequence[Schedule]:
    specs, steps = schedule
    made: list[Schedule] = []
    size = (len(steps) + 1) // 2
    while size:
        made += [Schedule(specs, steps[:n] + steps[n + size :]) for n in range(0, len(steps), size)]
        size = size // 2 if size > 1 else 0
    if len(specs) > 1:
        made += [Schedule(specs[:n] + specs[n + 1 :], steps) for n in range(len(specs))]
    for n, spec in enumerate(specs):
        for field, simple in Spec()._asdict().items():
            if getattr(spec, field) not in (simple, (1,)):
                made += [
                    Schedule((*specs[:n], spec._replace(**{field: value}), *specs[n + 1 :]), steps)
                    for value in (((1,), simple) if field == "stages" else (simple,))
                ]
    for n, (step, pick) in enumerate(steps):
        made += [Schedule(specs, (*steps[:n], (step, lower), *steps[n + 1 :])) for lower in {0, 1, pick // 2} if lower < pick]
    return made


# ── Command line ───────────────────────────────────────────────────────────────────────────────────────────────────


def quietly() -> Iterator[None]:
    """Until it is gone on with: no log lines of the product. A simulated world is full of troubles that it would tell of."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def told(schedule: Schedule) -> str:
    """Its steps, what happened, what it broke."""
    world = World(schedule.specs, trace=True)
    assert world.trace is not None
    try:
        for job_id in world.specs:
            world.request(job_id)
        for step, pick in schedule.steps:
            world.do(step, pick)
        world.heal()
        end = "nothing is broken"
    except Exception as wrong:
        end = f"{type(wrong).__name__}: {wrong}"
    return "\n".join([*world.trace, end, "", f"    {written(schedule)}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    next(quietly())
    began, count, seed = time.monotonic(), 0, arguments.seed * 1_000_000
    while (passed := time.monotonic() - began) < arguments.seconds:
        schedule = generate(random.Random(seed + count))
        count += 1
        if what := failure(schedule):
            print(f"schedule {seed + count - 1} after {passed:.1f} s: {what}\n")
            print(told(shrink(schedule, lambda smaller, what=what: failure(smaller)[:LIKE] == what[:LIKE])))
            return 1
    processor = count / time.process_time()
    print(f"{count} schedules, {count / arguments.seconds:.0f} a second, {processor:.0f} a second of processor time; nothing is broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
