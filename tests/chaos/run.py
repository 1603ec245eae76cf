"""One run: start everything, trouble it, heal it, wait until all is quiet, look, end it, look again."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from schemas.events import TERMINAL
from services.cli import timeline
from tests.chaos import auditor, evidence, opening, schedule, sources, takeover
from tests.chaos.auditor import Finding, Verdict
from tests.chaos.evidence import Evidence, Follower
from tests.chaos.orders import Clients
from tests.chaos.troubles import Troubles
from tests.chaos.world import DRAIN_LIMIT, OWN_EXITS, World, start_all, world

QUIET_SECONDS: Final = 480.0
"""After healing, everything must be over by then."""
READ_SECONDS: Final = 90.0
"""After the last job's end, every group must have read everything by then: an owner of partitions that stands still has to end itself,
and somebody else to take over."""
YOUNG_SECONDS: Final = 5.0
"""A process that is told to end before it has begun ends as the system does it."""
MOST_EXPLAINED: Final = 20
EXHAUSTED: Final = ("transient", "worker-lost", "timed-out")


@dataclass
class Result:
    """What a run has shown. Times in seconds."""

    seed: int
    minutes: float
    brokers: int
    orders: int = 0
    jobs: int = 0
    states: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)
    taken_over: dict[str, list[float]] = field(default_factory=dict)
    """By service: from a kill to somebody else's next step with what was in its hands."""
    drains: dict[str, list[float]] = field(default_factory=dict)
    """By service: from SIGTERM to the end."""
    quiet_seconds: float = 0.0
    """From healing to the end of the last job."""
    retried_by_hand: int = 0
    findings: list[Finding] = field(default_factory=list)

    def json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


async def run(seed: int, minutes: float, folder: Path, *, brokers: int = 1) -> Result:
    """Raises nothing for what was found: that is in the result."""
    plan = schedule.of(seed, minutes * 60)
    result = Result(seed, minutes, brokers, orders=len(plan.orders))
    async with world(folder, brokers=brokers) as made:
        stock = await asyncio.to_thread(sources.put_all, made.store, made.bucket, plan.orders)
        start_all(made)
        async with Clients(made, stock, plan) as clients:
            with closing(Follower(made.settings)) as follower:
                made.began = time.time()
                troubles = Troubles(made, clients, plan, follower)
                watching = asyncio.create_task(clients.watch())
                placing = asyncio.create_task(clients.place_all())
                await troubles.make_all()
                await troubles.heal()
                healed = time.time()
                await placing
                open_jobs = await _until_quiet(follower, clients, result, healed)
                clients.stop_watching()
                await watching
            found = await _collect(made, clients, sorted(follower.jobs))
        await made.end()
        found.scratch, found.orphans = evidence.left_in(made.scratch), [command for _, command in made.processes()]
        await _open_files(made, found, stock)
        (folder / "diary.txt").write_text("\n".join(f"{at - made.began:8.2f} {what}" for at, what in made.diary) + "\n")
        verdict = auditor.audit(clients.ledger, found, stock)
        verdict.findings += [
            Finding("outcomes", f"was not over {QUIET_SECONDS:.0f} s after healing: {job}", job.split(" ")[0]) for job in open_jobs
        ]
        verdict.findings += await opening.check(found, clients.ledger, stock, auditor.histories(found), verdict)
        verdict.findings += _exits(made)
        await asyncio.to_thread(_explain, made, verdict)
        _fill(result, verdict, made, troubles, clients, found)
    return result


async def _until_quiet(follower: Follower, clients: Clients, result: Result, healed: float) -> list[str]:
    accepted = set(clients.ledger.jobs)
    until = time.time() + QUIET_SECONDS
    while follower.unended(accepted) and time.time() < until:
        await asyncio.sleep(0.2)
    # What used up its attempts while the store was away is tried again by hand, as operators do.
    result.quiet_seconds = round(time.time() - healed, 1)
    again = [
        j.job_id for j in list(follower.jobs.values()) if j.state == "failed" and j.error is not None and j.error.failure_class in EXHAUSTED
    ]
    result.retried_by_hand = len(again)
    await clients.retry_exhausted(again)
    return await follower.quiet(accepted, max(30.0, until - time.time()))


async def _collect(made: World, clients: Clients, job_ids: list[str]) -> Evidence:
    found = Evidence()
    until = time.time() + READ_SECONDS
    while True:
        found.records = await asyncio.to_thread(evidence.read_topics, made.settings)
        found.lag = await asyncio.to_thread(evidence.lags, made.settings, found.records)
        if not any(found.lag.values()) or time.time() > until:
            break
        await asyncio.sleep(1.0)
    found.answers = await evidence.ask_gateways(made, job_ids)
    found.callbacks = made.callbacks.all()
    return found


async def _open_files(made: World, found: Evidence, stock: sources.Sources) -> None:
    found.objects, found.uploads = await asyncio.to_thread(evidence.list_objects, made)
    found.folder = made.folder / "bucket"
    keys = [key for key in found.objects if key.startswith(("assets/", "archives/", "shows/"))]
    await asyncio.to_thread(evidence.download, made, keys, found.folder)


def _explain(made: World, verdict: Verdict) -> None:
    """The timeline of every job that something was found about, in the folder."""
    folder = made.folder / "timelines"
    folder.mkdir()
    for job_id in sorted({f.job_id for f in verdict.findings if f.job_id})[:MOST_EXPLAINED]:
        (folder / f"{job_id}.txt").write_text(timeline.render(timeline.of(made.settings, job_id)) + "\n")


def _exits(made: World) -> list[Finding]:
    found: list[Finding] = []
    for service in made.services:
        for end in service.exits:
            if end.wanted == "stop" and end.code == -signal.SIGTERM and end.age < YOUNG_SECONDS:
                continue
            if end.wanted == "stop" and end.code in OWN_EXITS and made.away(end.at - DRAIN_LIMIT, end.at):
                continue  # what it had to say could not be said; its tasks are lost to it, and released again
            if end.wanted == "stop" and (end.code != 0 or end.seconds > DRAIN_LIMIT):
                found.append(Finding("outcomes", f"{end.service} ended with {end.code} {end.seconds:.1f} s after SIGTERM"))
            elif not end.wanted and end.code not in OWN_EXITS:
                found.append(Finding("outcomes", f"{end.service} ended by itself with {end.code}"))
    return found


def _fill(result: Result, verdict: Verdict, made: World, troubles: Troubles, clients: Clients, found: Evidence) -> None:
    jobs = auditor.histories(found)
    result.jobs = len(jobs)
    for history in jobs.values():
        if history.statuses and history.last.state in TERMINAL:
            result.states[f"{history.last.kind} {history.last.state}"] = (
                result.states.get(f"{history.last.kind} {history.last.state}", 0) + 1
            )
    result.troubles = dict(troubles.count)
    result.answers = {str(status): count for status, count in sorted(clients.ledger.statuses.items())}
    result.checked, result.noted = dict(verdict.checked), dict(verdict.noted)
    result.findings = verdict.findings
    result.taken_over = takeover.measure(troubles.kills, found, made.away, troubles.blows)
    for service in made.services:
        for end in service.exits:
            if end.wanted == "stop":
                result.drains.setdefault(service.kind, []).append(round(end.seconds, 2))
