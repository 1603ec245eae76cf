"""What a handler is given beside its task."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from services.runtime.jobs import plan as plans
from services.runtime.jobs import scratch
from services.runtime.jobs.failures import Cancelled, ScratchFull
from services.runtime.settings import Settings
from services.runtime.storage.base import NotFound, Storage

Emit = Callable[[msgspec.Struct, str], Awaitable[None]]
"""Publishes an event under a key and returns when the broker has acknowledged it."""


class TaskContext:
    """Storage, scratch space, progress and cancellation of one running task."""

    def __init__(self, *, storage: Storage, settings: Settings, emit: Emit, job_id: str, attempt: int, label: str) -> None:
        self.storage = storage
        self.settings = settings
        self.job_id = job_id
        self.attempt = attempt
        """1, 2, … since the request, or since the last retry by hand."""
        self.label = label
        """`plan`, `encode-12`: for logs and names of temporary folders."""
        self.fraction = 0.0
        self.note = ""
        self._emit = emit
        self._cancelled = asyncio.Event()
        self._scratch: Path | None = None

    def progress(self, fraction: float, note: str = "") -> None:
        """How far this task is, 0 to 1, and what it is doing. Cheap: it travels with the next heartbeat."""
        self.fraction = min(1.0, max(0.0, fraction))
        self.note = note or self.note

    def cancel(self) -> None:
        """Called by the runtime."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises failures.Cancelled once the job was cancelled or the task must end."""
        if self._cancelled.is_set():
            raise Cancelled()

    async def over(self) -> bool:
        """Whether the job is over and tidied up: its plan is gone. So it is for a process that slept past its lease; what it leaves then
        nobody else removes. The cleanup looks again when it has removed the plan: either it finds what we left, or we find no plan."""
        try:
            await self.storage.bucket("").head(plans.plan_key(self.job_id))
        except NotFound:
            return True
        return False

    async def emit(self, event: msgspec.Struct, key: str) -> None:
        """Publish an event (`SegmentsReady`) on its topic; returns when the broker has it."""
        await self._emit(event, key)

    def scratch(self) -> Path:
        """A folder of this task's own, removed when the task ends. Its quota: `REELWORKS_SCRATCH_QUOTA_BYTES`."""
        if self._scratch is None:
            parent = scratch.own(self.settings.scratch_path())
            self._scratch = Path(tempfile.mkdtemp(prefix=f"{self.job_id}-{self.label}-", dir=parent))
        return self._scratch

    @property
    def scratch_in_use(self) -> Path | None:
        """That folder; None while nobody asked for it."""
        return self._scratch

    def check_scratch(self) -> None:
        """Raises ScratchFull when the folder holds more than the quota or the disk is nearly full. Call it between writes."""
        if self._scratch is None:
            return
        used = scratch.used(self._scratch)
        quota = self.settings.scratch_quota_bytes
        if used > quota:
            raise ScratchFull(
                "scratch-quota",
                f"the task used {used} bytes of scratch space; its quota is {quota}",
                "Raise REELWORKS_SCRATCH_QUOTA_BYTES.",
            )
        if shutil.disk_usage(self._scratch).free < 64 * 1024**2:
            raise ScratchFull(
                "disk-full",
                f"less than 64 MiB are free in {self._scratch.parent}",
                "Free some space, or set REELWORKS_SCRATCH_DIR.",
            )

    def close(self) -> None:
        """Remove the scratch folder. Called by the runtime."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
