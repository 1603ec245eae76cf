"""Blocking calls beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

from services.runtime.together import to_the_end

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(executor: Executor | None, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call in a thread. When cancelled, the call's end is waited for: what it works on may be closed only then."""
    return await to_the_end(asyncio.get_running_loop().run_in_executor(executor, partial(call, *args, **kwargs)))


async def acquired(executor: Executor | None, call: Callable[[], T], release: Callable[[T], object]) -> T:
    """`in_thread` for a call that opens something: when cancelled, what it opened is released."""
    got: list[T] = []

    def acquire() -> T:
        got.append(call())
        return got[0]

    try:
        return await in_thread(executor, acquire)
    except asyncio.CancelledError:
        for resource in got:
            release(resource)
        raise
