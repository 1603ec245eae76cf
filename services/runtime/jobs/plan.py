"""Plans: what a job consists of. Pure.

A plan is an object in storage, `jobs/{job}/plan.json`; each task's result is another, `jobs/{job}/results/{stage}-{n}.json`.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import msgspec

from schemas.events import FollowUp, StagePlan

T = TypeVar("T")


class Stage(msgspec.Struct, kw_only=True):
    """Tasks that may run side by side. The next stage begins when all of them are done."""

    name: str
    service: str
    """Whose workers run it."""
    tasks: list[Any]
    """Parameters of each task, anything that msgspec can write; about 30 s of work each."""


class Plan(msgspec.Struct, kw_only=True):
    """What `plan` answers. No stages: only `finish` is left to do."""

    stages: list[Stage]
    data: Any = None
    """What run and finish want to know of the whole job."""
    needs: FollowUp | None = None
    """Nothing can be planned before another job has ended: the request for it. `plan` is then called again, and the job's request
    has that job's outcome, good or bad, as `cause`. Nothing else of this plan is kept."""


class StoredPlan(msgspec.Struct, kw_only=True):
    """A plan as it lies in storage, with what every task needs."""

    job_id: str
    kind: str
    subject: str
    request_type: str
    request: dict[str, Any]
    stages: list[Stage]
    data: Any = None

    def task_parameters(self, stage: int, number: int) -> Any:
        """Of a task; stage 1 is the first planned one (0 is planning itself)."""
        return self.stages[stage - 1].tasks[number]

    def summary(self) -> tuple[StagePlan, ...]:
        """What the coordinator needs. Stages without tasks count as done."""
        return tuple(StagePlan(name=s.name, service=s.service, tasks=len(s.tasks)) for s in self.stages)


def plan_key(job_id: str) -> str:
    return f"jobs/{job_id}/plan.json"


def result_key(job_id: str, stage: int, number: int) -> str:
    return f"jobs/{job_id}/results/{stage}-{number:06d}.json"


def job_prefix(job_id: str) -> str:
    return f"jobs/{job_id}/"


def encode(plan: StoredPlan) -> bytes:
    """JSON; equal plans give equal bytes."""
    return msgspec.json.encode(plan, order="deterministic")


def digest(body: bytes) -> str:
    """What tasks name the plan by: a hash of its bytes."""
    return hashlib.sha256(body).hexdigest()[:16]


def decode(body: bytes) -> StoredPlan:
    return msgspec.json.decode(body, type=StoredPlan)
