"""What is made of a copy that is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.runtime.storage.base import MIN_PART_BYTES, NotFound, ObjectInfo, Part, PreconditionFailed, Refused, StorageError
from services.runtime.storage.copies import SECONDS, Copies, probe
from services.runtime.storage.local import LocalStore


class Told(LocalStore):
    """A folder that does with copies of parts what a test says; afterwards what a folder does."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        super().__init__(root, signing_key=b"")
        self.outcomes: list[Exception | Part] = []
        self.copies = 0

    async def copy_part(self, *args: Any, **more: Any) -> Part:
        self.copies += 1
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        return await super().copy_part(*args, **more)


PART = Part(number=1, etag="e", size=1)


@pytest.fixture
def target(tmp_path: Path) -> Told:
    return Told(tmp_path / "target")


@pytest.fixture
def source(tmp_path: Path) -> Told:
    return Told(tmp_path / "source")


@pytest.fixture
async def info(source: Told) -> ObjectInfo:
    return await source.put("film.mp4", bytes(MIN_PART_BYTES + 1))


async def test_a_copy_that_works_and_one_that_must_not_are_remembered_for_an_hour(source: Told, target: Told, info: ObjectInfo) -> None:
    now = 1000.0
    for passed, copies in ((0.0, 2), (SECONDS - 1, 2), (SECONDS, 4)):
        assert await probe(source, info, target, clock=lambda passed=passed: now + passed) == Copies(possible=True, pinned=True)
        assert target.copies == copies
    await probe(target, await target.put("a", bytes(MIN_PART_BYTES + 1)), source)
    assert source.copies == 2  # the other way is another question
    assert list(await target.list_uploads()) == []


async def test_a_store_that_takes_no_notice_of_the_etag_is_not_pinned(source: Told, target: Told, info: ObjectInfo) -> None:
    target.outcomes = [PART, PART]
    found = await probe(source, info, target)
    assert (found.possible, found.pinned) == (True, False)
    assert "a changed source is not noticed" in found.reason


async def test_another_refusal_of_a_wrong_etag_is_not_taken_for_a_condition(source: Told, target: Told, info: ObjectInfo) -> None:
    target.outcomes = [PART, Refused("InvalidArgument")]
    found = await probe(source, info, target)
    assert (found.possible, found.pinned, "InvalidArgument" in found.reason) == (True, False, True)


async def test_copies_that_are_refused_are_said_why_and_not_tried_again(source: Told, target: Told, info: ObjectInfo) -> None:
    target.outcomes = [Refused("UploadPartCopy is not implemented")]
    for _ in range(2):
        assert await probe(source, info, target) == Copies(possible=False, reason="UploadPartCopy is not implemented")
    assert target.copies == 1
    assert list(await target.list_uploads()) == []


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ([], StorageError("503")),
        ([], NotFound("gone")),
        ([], PreconditionFailed("changed")),
        ([PART], StorageError("503")),
        ([PART], NotFound("gone")),
    ],
)
async def test_what_passes_is_raised_and_tried_again(
    source: Told, target: Told, info: ObjectInfo, before: list[Part], wrong: StorageError
) -> None:
    target.outcomes = [*before, wrong]
    with pytest.raises(type(wrong), match=str(wrong)):
        await probe(source, info, target)
    assert list(await target.list_uploads()) == []
    assert await probe(source, info, target) == Copies(possible=True, pinned=True)


async def test_an_object_that_amazon_copies_no_ranges_of_is_refused(source: Told, target: Told) -> None:
    small = await source.put("small", bytes(MIN_PART_BYTES))
    with pytest.raises(Refused, match="more than 5242880"):
        await probe(source, small, target)
    assert target.copies == 0


async def test_an_object_that_was_replaced_is_said_so(source: Told, target: Told, info: ObjectInfo) -> None:
    await source.put("film.mp4", bytes(MIN_PART_BYTES + 2))
    with pytest.raises(PreconditionFailed):
        await probe(source, info, target)
