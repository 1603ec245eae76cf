"""Callbacks: tells another system by HTTP POST how a job ended.

One attempt a task. Retries, back-off, the deadline and the dead letter are the coordinator's, as for all work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from schemas.events import CallbackRequested
from services.notifier import delivery, message
from services.runtime import callbacks
from services.runtime.jobs.context import TaskContext
from services.runtime.jobs.failures import Permanent, Transient
from services.runtime.jobs.handler import Finished, Job, JobHandler, Results, Task
from services.runtime.jobs.plan import Plan, Stage

STAGE = "deliver"
USER_AGENT = "Reelworks-Notifier (+Standard-Webhooks)"
WORTH_ANOTHER_TRY = frozenset({408, 429})


class Notifier(JobHandler):
    """`look_up` and `clock` are the world outside, for tests to replace."""

    service = "notifier"
    slots = 16
    """Unless the settings say otherwise. A callback waits for somebody else's server and costs nothing meanwhile."""

    def __init__(self, *, look_up: delivery.Lookup = delivery.lookup, clock: Callable[[], float] = time.time) -> None:
        self._look_up = look_up
        self._clock = clock

    async def plan(self, job: Job, ctx: TaskContext) -> Plan:
        """One task. A request that can never be delivered fails here."""
        request = job.typed(CallbackRequested)
        if request.cause is None:
            raise Permanent(
                "callback-without-cause",
                "the callback has nothing to tell: it does not say how which job ended",
                "Put CallbackRequested into `then` and `otherwise` of another request; the coordinator adds the outcome.",
            )
        _require_allowed(request.url, ctx)
        return Plan(stages=[Stage(name=STAGE, service=self.service, tasks=[{}])])

    async def run(self, task: Task, ctx: TaskContext) -> dict[str, Any]:
        """One POST. Receivers tell a repetition by `webhook-id`, which is the callback's job id at every attempt."""
        request = task.job.typed(CallbackRequested)
        if request.cause is None:
            raise Permanent("callback-without-cause", "the callback has nothing to tell")
        _require_allowed(request.url, ctx)  # again: the settings may have changed since
        sent = message.body(request, request.cause)
        timestamp = int(self._clock())
        headers = {
            "Accept": "*/*",
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": task.job.job_id,
            "webhook-timestamp": str(timestamp),
        }
        if ctx.settings.webhook_secret:
            headers["webhook-signature"] = message.signature(ctx.settings.webhook_secret, task.job.job_id, timestamp, sent)
        ctx.raise_if_cancelled()
        status = await delivery.post(
            request.url,
            sent,
            headers,
            timeout=ctx.settings.callback_timeout_seconds,
            allow_private=ctx.settings.callback_allow_private,
            look_up=self._look_up,
        )
        _judge(status)
        return {"url": request.url, "http_status": status, "tries": ctx.attempt}

    async def finish(self, job: Job, data: Any, results: Results[Any], ctx: TaskContext) -> Finished:
        """The fields of CallbackDelivered."""
        [delivered] = results.of(STAGE, dict)
        return Finished(data={name: delivered[name] for name in ("url", "http_status", "tries")})

    async def cleanup(self, job: Job, ctx: TaskContext) -> None:
        """Nothing is left behind."""


def handler() -> JobHandler:
    """The service."""
    return Notifier()


def _require_allowed(url: str, ctx: TaskContext) -> None:
    try:
        callbacks.check(url, ctx.settings)
    except callbacks.CallbackRefused as wrong:
        raise Permanent("callback-refused", str(wrong)) from None


def _judge(status: int) -> None:
    """A 4xx is the receiver's last word (an older receiver answers 400 to every failure); 5xx, 408 and 429 are not."""
    if status in WORTH_ANOTHER_TRY or status >= 500:
        raise Transient("callback-answer", f"the callback's receiver answered {status}")
    if 300 <= status < 400:
        raise Permanent(
            "callback-redirected",
            f"the callback's receiver answered {status}; redirects are not followed",
            "Give the address at which the receiver really is.",
        )
