"""A stream becomes parts none of which is too short; what is too little for one comes back."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.storage.base import MIN_PART_BYTES, StorageError
from services.zipper.archive import Stored
from services.zipper.parts import AT_ONCE, PartWriter

PART = 2 * MIN_PART_BYTES


class Store:
    """Keeps the lengths of the parts only."""

    def __init__(self) -> None:
        self.parts: dict[int, int] = {}
        self.most = self.now = 0

    async def send(self, number: int, data: bytes) -> Stored:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        self.parts[number] = len(data)
        return Stored(number=number, etag=str(len(data)), size=len(data))


@given(sizes=st.lists(st.integers(0, 3 * MIN_PART_BYTES), max_size=12), front=st.sampled_from([0, 60]), hold=st.booleans())
@settings(max_examples=80, deadline=None)
def test_parts_of_a_stream(sizes: list[int], front: int, hold: bool):
    async def write() -> None:
        store, total = Store(), sum(sizes) + front
        count = max(1, -(-total // PART))
        async with PartWriter(store.send, first=7, count=count, part_bytes=PART, hold=hold) as writer:
            for size in sizes:
                await writer.write(bytes(size))
            made, left = await writer.finish(bytes(front))
        assert {part.number: part.size for part in made} == store.parts
        assert sum(store.parts.values()) + len(left) == total == writer.written
        assert sorted(store.parts) == list(range(7, 7 + len(store.parts)))
        assert all(size >= MIN_PART_BYTES for size in store.parts.values())
        assert (len(left) < MIN_PART_BYTES and not made) or left == b""
        assert store.most <= AT_ONCE + 1

    asyncio.run(write())


def test_the_front_stands_before_the_first_part_that_was_held_back():
    async def write() -> dict[int, bytes]:
        sent: dict[int, bytes] = {}

        async def send(number: int, data: bytes) -> Stored:
            sent[number] = data
            return Stored(number=number, etag="", size=len(data))

        async with PartWriter(send, first=1, count=3, part_bytes=PART, hold=True) as writer:
            await writer.write(b"a" * PART)
            await writer.write(b"b" * PART)
            assert sent == {}
            await writer.finish(b"front")
        return sent

    sent = asyncio.run(write())
    assert sorted(sent) == [1, 2]
    assert sent[1].startswith(b"fronta")
    assert b"".join(sent[n] for n in sorted(sent)) == b"front" + b"a" * PART + b"b" * PART


def test_a_part_that_cannot_be_sent_ends_the_stream():
    async def write() -> None:
        async def send(number: int, data: bytes) -> Stored:
            raise StorageError("no")

        async with PartWriter(send, first=1, count=9, part_bytes=PART) as writer:
            for _ in range(9):
                await writer.write(bytes(PART))
            await writer.finish()

    with pytest.raises(StorageError, match="no"):
        asyncio.run(write())
