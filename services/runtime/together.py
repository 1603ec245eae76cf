"""Pieces of work that end together, and work that a cancel does not end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
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


async def to_the_end(work: Awaitable[T]) -> T:
    """What `work` answers or raises. When cancelled, its end is waited for first: what it works on may be closed only then."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue
        if not running.cancelled():
            running.exception()  # seen, so that it is not reported as lost
        raise
