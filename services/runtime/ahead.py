"""Work for things in a row that is begun before their turn comes: it hides the latency of a store."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def ahead(
    items: Iterable[T],
    begin: Callable[[T], Coroutine[Any, Any, R] | None],
    *,
    cost: Callable[[T], int],
    most_items: int,
    most_cost: int,
) -> AsyncGenerator[tuple[T, R | None]]:
    """Each item, in order, with what the work on it answers; None for those on which `begin` says that there is none.

    At most `most_items` are under way or done and waiting, or being used by the caller, of at most `most_cost` together; a single one may
    cost more. An exception of the work is raised when the item's turn comes. When the caller ends, all work is cancelled.
    """
    following = iter(items)
    waiting: deque[tuple[T, asyncio.Task[R] | None, int]] = deque()
    spent = 0
    item = next(following, None)
    try:
        while waiting or item is not None:
            while item is not None and len(waiting) < most_items and (spent + (price := cost(item)) <= most_cost or not waiting):
                work = begin(item)
                waiting.append((item, None if work is None else asyncio.create_task(work), price))
                spent += price
                item = next(following, None)
            first, task, price = waiting[0]
            answer = None if task is None else await task
            yield first, answer
            # Only now: the caller had it until here.
            waiting.popleft()
            spent -= price
    finally:
        tasks = [task for _, task, _ in waiting if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
