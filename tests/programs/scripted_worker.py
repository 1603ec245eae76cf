"""A worker whose handler does what the request's title says: tests and benchmarks script its behaviour.

The title is JSON: {"tasks": 10, "seconds": 0.5, "exit": [3], "fail": {"4": ["transient", 2]}, "hang": [5]}.
`exit`, `oom`, `block` and `hang` list task numbers; `fail` says how often a task fails and how; `lack`, as {"4": ["permanent", "in/key"]},
of which object's absence it fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import Any

from schemas.events import Output
from services.runtime.jobs import worker
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent, Transient
from services.runtime.jobs.handler import Finished, Job, Results, Task
from services.runtime.jobs.plan import Plan, Stage
from services.runtime.settings import load
from services.runtime.storage.base import NotFound
from services.runtime.telemetry import logging


class Scripted:
    """Plays the transcoder."""

    service = "transcoder"

    async def plan(self, job: Job, ctx: TaskContext) -> Plan:
        script: dict[str, Any] = json.loads(job.request.get("title") or "{}")
        if script.get("plan") == "permanent":
            raise Permanent("bad-input", "the script wants it so")
        stages = [Stage(name="work", service=self.service, tasks=[{"n": n} for n in range(script.get("tasks", 1))])]
        if script.get("second"):
            stages.append(Stage(name="second", service=self.service, tasks=[{"n": n} for n in range(script["second"])]))
        return Plan(stages=stages, data=script)

    async def run(self, task: Task, ctx: TaskContext) -> Any:
        script = task.data
        if task.stage == "work" and task.number in script.get("exit", []):
            os._exit(9)
        if task.stage == "work" and task.number in script.get("oom", []):
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel ends whoever has taken too much memory
        if task.stage == "work" and task.number in script.get("block", []):
            time.sleep(3600)
        if task.number in script.get("hang", []):
            await asyncio.sleep(3600)
        how, times = script.get("fail", {}).get(str(task.number), ["", 0])
        if ctx.attempt <= times:
            raise {"transient": Transient, "permanent": Permanent}[how]("scripted", f"attempt {ctx.attempt} fails as scripted")
        how, key = script.get("lack", {}).get(str(task.number), ["", ""])
        if how and not await _there(ctx, key):
            raise {"transient": Transient, "permanent": Permanent}[how]("scripted", f"{key} is not there")
        steps = 20 if script.get("seconds", 0) > 1 else 1
        for step in range(steps):
            ctx.raise_if_cancelled()
            if seconds := script.get("seconds", 0):
                await asyncio.sleep(seconds / steps)
            ctx.progress((step + 1) / steps, "working")
        if script.get("empty"):
            return None
        return {"n": task.number, "attempt": ctx.attempt, "pid": os.getpid()}

    async def finish(self, job: Job, data: Any, results: Results[Any], ctx: TaskContext) -> Finished:
        if data.get("empty"):
            return Finished(data={"asset_id": job.subject})
        await asyncio.sleep(data.get("finish_seconds", 0))
        numbers = [r["n"] for r in results.of("work")]
        assert numbers == list(range(data.get("tasks", 1))), numbers
        body = json.dumps(numbers).encode()
        key = f"assets/{job.subject}/numbers.json"
        await ctx.storage.bucket().put(key, body)
        return Finished(outputs=(Output(role="numbers", bucket="", key=key, size=len(body)),), data={"asset_id": job.subject})

    async def cleanup(self, job: Job, ctx: TaskContext) -> None:
        return None


async def _there(ctx: TaskContext, key: str) -> bool:
    try:
        await ctx.storage.bucket().head(key)
    except NotFound:
        return False
    return True


if __name__ == "__main__":
    worker.HANG_SECONDS = float(os.environ.get("HANG_SECONDS", worker.HANG_SECONDS))
    settings = load()
    logging.configure(settings, "transcoder")
    sys.exit(worker.serve(Scripted(), settings))
