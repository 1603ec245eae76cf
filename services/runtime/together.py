"""Several pieces of work side by side, which end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def together(*work: Coroutine[Any, Any, T], beside: Coroutine[Any, Any, None] | None = None) -> list[T]:
    """What each of them answers, in order; `beside` only runs along.

    When one raises, the others are cancelled, and its exception is raised as it is: callers tell failures apart by their type.
    """
    try:
        async with asyncio.TaskGroup() as group:
            if beside is not None:
                group.create_task(beside)
            running = [group.create_task(one) for one in work]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in running]
