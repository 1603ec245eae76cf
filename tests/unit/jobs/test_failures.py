"""What is said of an exception that left a handler, and whether it is tried again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from schemas.events import FailureClass
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent, ScratchFull, classify
from services.runtime.settings import Settings
from services.runtime.storage.base import NotFound, PreconditionFailed, Refused, StorageError, StorageFull
from services.runtime.storage.factory import open_storage


@pytest.mark.parametrize(
    ("error", "failure_class", "code", "words"),
    [
        (Permanent("not-a-video", "no"), "permanent", "not-a-video", "no"),
        (NotFound("gone"), "permanent", "object-missing", "gone"),
        (PreconditionFailed("another"), "permanent", "object-changed", "another"),
        (Refused("no right"), "permanent", "storage-refused", "no right"),
        (StorageFull("no room"), "transient", "storage-full", "no room"),
        (StorageError("503"), "transient", "storage", "503"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/a"), "transient", "disk-full", "/scratch/a"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "transient", "disk-full", "no space is left"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "transient", "machine", "Input/output error"),
        (MemoryError(), "transient", "machine", "MemoryError"),
    ],
)
def test_each_error_has_its_class_and_its_words(error: BaseException, failure_class: FailureClass, code: str, words: str) -> None:
    said = classify(error)
    assert (said.failure_class, said.code) == (failure_class, code)
    assert words in said.message


async def nothing(event: object, key: str) -> None:
    """Events are not looked at."""


async def test_a_task_that_uses_more_scratch_than_its_quota_is_told_so_and_leaves_nothing(tmp_path: Path) -> None:
    settings = Settings(storage_url=(tmp_path / "bucket").as_uri(), scratch_dir=str(tmp_path / "scratch"), scratch_quota_bytes=1000)
    storage = open_storage(settings)
    context = TaskContext(storage=storage, settings=settings, emit=nothing, job_id="j", attempt=1, label="encode-1")
    (context.scratch() / "chunk").write_bytes(bytes(1000))
    context.check_scratch()
    (context.scratch() / "more").write_bytes(b"x")
    with pytest.raises(ScratchFull) as full:
        context.check_scratch()
    said = classify(full.value)
    assert (said.code, said.failure_class) == ("scratch-quota", "transient")
    assert "1001 bytes" in said.message
    assert "REELWORKS_SCRATCH_QUOTA_BYTES" in said.hint
    context.close()
    assert [p for p in (tmp_path / "scratch").rglob("*") if p.is_file()] == []
    await storage.close()
