"""The three functions that a service consists of."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import msgspec

from schemas.events import BY_NAME, Output
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.plan import Plan
from services.runtime.jobs.results import StoredResults

R = TypeVar("R")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler knows of a job."""

    job_id: str
    kind: str
    subject: str
    request_type: str
    request: dict[str, Any]
    outcome: str = ""
    """In `cleanup`: the state in which the job ended."""

    def typed(self, kind: type[R]) -> R:
        """The request as the struct it was sent as."""
        return msgspec.convert(self.request, kind)

    def request_struct(self) -> Any:
        """The request as the struct its type names."""
        return msgspec.convert(self.request, BY_NAME[self.request_type])


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a plan."""

    job: Job
    stage: str
    """Name of its stage."""
    number: int
    """From 0, within the stage."""
    parameters: Any
    """As they stand in the plan, decoded JSON."""
    data: Any
    """`Plan.data`, decoded JSON."""
    earlier: StoredResults
    """What the tasks of the stages before have answered; read when it is asked for."""

    def typed(self, kind: type[R]) -> R:
        """The parameters as `kind`."""
        return msgspec.convert(self.parameters, kind)


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What `finish` answers: the job's outputs and the other fields of its completion event."""

    outputs: tuple[Output, ...] = ()
    data: dict[str, Any] = {}


class Results(Generic[R]):
    """Results of the tasks, by stage, in the order of their numbers: decoded JSON."""

    def __init__(self, by_stage: dict[str, list[Any]]) -> None:
        self._by_stage = by_stage

    def of(self, stage: str, kind: type[R] = dict) -> list[R]:
        """Results of a stage as `kind`; [] for a stage that the plan does not have."""
        return [msgspec.convert(r, kind) for r in self._by_stage.get(stage, [])]


class JobHandler(Protocol):
    """A service. Every function may be called again, on another machine, after any crash: the same call must leave the
    same objects. Failures are raised as `failures.Permanent` or `failures.Transient`."""

    service: str

    async def plan(self, job: Job, ctx: TaskContext) -> Plan:
        """Look at the input, decide, list the tasks. Writes nothing itself."""
        ...

    async def run(self, task: Task, ctx: TaskContext) -> Any:
        """Do one task. What it returns (anything that msgspec can write) is kept for `finish`; None is not stored."""
        ...

    async def finish(self, job: Job, data: Any, results: Results[Any], ctx: TaskContext) -> Finished:
        """Verify and publish. `data` is `Plan.data`."""
        ...

    async def cleanup(self, job: Job, ctx: TaskContext) -> None:
        """After the end, good or bad: remove what only this job's tasks needed. `jobs/{job}/` is removed by the runtime.

        Called before the plan is removed and again after it, so that nothing is left of a task that woke late: such a task begins
        nothing when it finds no plan any more, and when it finds so at its end it calls this itself, not knowing the outcome ("").
        """
        ...
