"""Work side by side: answers in order, and one failure for all."""

from __future__ import annotations

import asyncio

import pytest

from services.runtime.together import together


class OnlyThis(Exception):
    pass


async def test_answers_come_in_the_order_of_the_work() -> None:
    begun = asyncio.Event()
    ran: list[str] = []

    async def slow() -> str:
        await begun.wait()
        return "slow"

    async def quick() -> str:
        begun.set()
        return "quick"

    async def beside() -> None:
        ran.append("beside")

    assert await together(slow(), quick(), beside=beside()) == ["slow", "quick"]
    assert ran == ["beside"]


async def test_nothing_to_do_is_no_answers() -> None:
    assert await together() == []


@pytest.mark.parametrize("failing", ["work", "beside"])
async def test_a_failure_ends_the_others_and_comes_as_it_is(failing: str) -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("waits")
            raise

    async def fails() -> None:
        raise OnlyThis

    with pytest.raises(OnlyThis):
        await (together(waits(), fails()) if failing == "work" else together(waits(), beside=fails()))
    assert ended == ["waits"]
