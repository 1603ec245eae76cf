"""Results of a job's tasks, read back from storage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from services.runtime.jobs.plan import StoredPlan, job_prefix, result_key
from services.runtime.storage.base import ObjectStore
from services.runtime.together import together

RESULT_LIMIT = 64 * 1024**2
READERS = 16
"""Results that are read at once."""
R = TypeVar("R")


class StoredResults:
    """What the tasks of earlier stages answered."""

    def __init__(self, store: ObjectStore, stored: StoredPlan) -> None:
        self._store, self._plan = store, stored

    async def of(self, stage: str, kind: type[R] = dict, *, numbers: Iterable[int] | None = None) -> list[R]:
        """Results of a stage as `kind`, in the order of `numbers` (all of them when None); [] for a stage that the plan does not have."""
        index = next((i for i, s in enumerate(self._plan.stages, start=1) if s.name == stage), 0)
        if not index:
            return []
        wanted = range(len(self._plan.stages[index - 1].tasks)) if numbers is None else numbers
        return [msgspec.convert(answer, kind) for answer in await self._read([(index, n) for n in wanted])]

    async def all(self) -> dict[str, list[Any]]:
        """By stage, decoded JSON; None of a task that answered nothing."""
        prefix = job_prefix(self._plan.job_id) + "results/"
        there = {info.key async for info in self._store.list(prefix)}
        by_stage: dict[str, list[Any]] = {}
        for index, stage in enumerate(self._plan.stages, start=1):
            wanted = [(index, n) for n in range(len(stage.tasks)) if result_key(self._plan.job_id, index, n) in there]
            found = dict(zip(wanted, await self._read(wanted), strict=True))
            by_stage[stage.name] = [found.get((index, n)) for n in range(len(stage.tasks))]
        return by_stage

    async def _read(self, wanted: list[tuple[int, int]]) -> list[Any]:
        turn = asyncio.Semaphore(READERS)

        async def one(index: int, number: int) -> Any:
            async with turn:
                return msgspec.json.decode(await self._store.read(result_key(self._plan.job_id, index, number), limit=RESULT_LIMIT))

        return await together(*(one(index, number) for index, number in wanted))
