"""The promises of docs/architecture.md, checked on what lies there after a run. Pure.

Four groups, as docs/reliability.md counts them: `outcomes`, `counts`, `objects`, `agreement`.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from schemas import envelope, topics
from schemas.events import TERMINAL, CallbackRequested, JobStatus, TaskFinished
from services.cli.replaying import OURS
from tests.chaos.evidence import Evidence, event_of
from tests.chaos.orders import Ledger, Placed
from tests.chaos.sources import Sources
from tests.servers.processes import status_of

_SIGNATURE: Final = re.compile(rb'[?&]X-Amz-Algorithm=[^"]*')


@dataclass(frozen=True)
class Finding:
    """A promise that was not kept."""

    group: str
    words: str
    job_id: str = ""


@dataclass
class Verdict:
    """`checked` counts what was looked at, by invariant."""

    findings: list[Finding] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    """What is allowed and worth knowing."""


class History:
    """What the log says of a job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.statuses: list[JobStatus] = []
        self.outcomes: list[tuple[str, dict[str, Any]]] = []
        """Type and content of its completions."""
        self.finished: dict[int, set[int]] = defaultdict(set)
        """Stage to the numbers of tasks that some worker said were finished."""

    @property
    def last(self) -> JobStatus:
        return self.statuses[-1]

    @property
    def endings(self) -> int:
        """How often it came to an end. A status may be missing between two: an owner writes the last of those it decided at once."""
        return self.last.runs - 1 + (self.last.state in TERMINAL)


def histories(evidence: Evidence) -> dict[str, History]:
    """By job."""
    found: dict[str, History] = {}

    def of(job_id: str) -> History:
        return found.setdefault(job_id, History(job_id))

    for received in evidence.records[topics.JOBS]:
        if (status := status_of(received)) is not None:
            of(status.job_id).statuses.append(status)
    for received in evidence.records[topics.COMPLETIONS]:
        sent = envelope.read(received.headers, received.value)
        data = json.loads(sent.data)
        if not data.get("progressive"):  # a word of the live app, before the end
            of(data["job_id"]).outcomes.append((sent.type, data))
    for received in evidence.records[topics.JOB_EVENTS]:
        event = event_of(received)
        if isinstance(event, TaskFinished) and event.needs is None:
            of(event.job_id).finished[event.stage].add(event.number)
    return found


def audit(ledger: Ledger, evidence: Evidence, stock: Sources) -> Verdict:
    """Everything that can be checked without opening a file."""
    verdict = Verdict()
    jobs = histories(evidence)
    checks = {
        "outcomes": _outcomes(ledger, evidence, jobs, verdict),
        "counts": _counts(jobs, verdict),
        "objects": _objects(evidence, jobs, verdict),
        "agreement": _agreement(ledger, evidence, stock, jobs, verdict),
    }
    for group, check in checks.items():
        verdict.findings += [Finding(group, words, job_id) for job_id, words in check]
    return verdict


Found = Iterator[tuple[str, str]]
"""Job, or "", and what is wrong."""

# ── 1: every accepted request has one end, and everybody is told of it once ────────────────────────────────────────


def _outcomes(ledger: Ledger, evidence: Evidence, jobs: dict[str, History], verdict: Verdict) -> Found:
    for job_id, placed in ledger.jobs.items():
        verdict.checked["accepted requests that ended"] += 1
        if job_id not in jobs or not jobs[job_id].statuses:
            yield job_id, f"order {placed.order.number} ({placed.order.kind}) was accepted, and no job is known"
        else:
            yield from _expected(placed, jobs[job_id].last)
    for history in jobs.values():
        if not history.statuses:
            yield history.job_id, "has outcomes or events, and no status"
            continue
        if history.last.state not in TERMINAL:
            yield history.job_id, f"has not ended: {history.last.kind} is {history.last.state}"
        verdict.checked["endings with one outcome"] += history.endings
        if history.endings != len(history.outcomes):
            outcomes = [f"{name} of {told['finished_ms']}" for name, told in history.outcomes]
            yield history.job_id, f"ended {history.endings} times and has {len(history.outcomes)} outcomes: {outcomes}"
    yield from _callbacks(ledger, evidence, jobs, verdict)


def _expected(placed: Placed, last: JobStatus) -> Found:
    allowed = {placed.expected}
    if placed.order.cancel_after is not None:
        allowed |= {"cancelled"}
    if placed.order.kind == "zip-missing" and not placed.retried:
        allowed |= {"failed"}
    if last.state not in allowed:
        why = f": {last.error.failure_class} {last.error.code}: {last.error.message}" if last.error else ""
        yield (
            placed.job_id,
            f"order {placed.order.number} ({placed.order.kind}) {last.state} instead of {' or '.join(sorted(allowed))}{why}",
        )


def _callbacks(ledger: Ledger, evidence: Evidence, jobs: dict[str, History], verdict: Verdict) -> Found:
    said: dict[str, set[bytes]] = defaultdict(set)
    taken: Counter[str] = Counter()
    for callback in evidence.callbacks:
        if not callback.genuine():
            yield "", f"a callback has no genuine signature: {callback.headers}"
        said[callback.headers["webhook-id"]].add(callback.body)
        taken[callback.headers["webhook-id"]] += callback.answered == 200
        verdict.noted["callbacks delivered" if callback.answered == 200 else "callbacks that their receiver refused or did not answer"] += 1
    asked = {job_id: h.last for job_id, h in jobs.items() if h.statuses and h.last.request_type == "CallbackRequested"}
    about: Counter[str] = Counter()
    for job_id, job in asked.items():
        verdict.checked["callbacks with one outcome"] += 1
        cause = msgspec.convert(job.request, CallbackRequested).cause
        assert cause is not None
        about[cause.job_id] += 1
        if job.state != "succeeded":
            yield job_id, f"a callback {job.state}: {job.error}"
        elif len(said[job_id]) != 1:
            yield job_id, f"a callback that succeeded told {len(said[job_id])} different things"
        elif not taken[job_id]:
            yield job_id, "a callback succeeded that its receiver has not taken"
    for webhook_id in said.keys() - asked.keys():
        yield webhook_id, "a callback came for no job of that id"
    for placed in ledger.jobs.values():
        if placed.order.callback and placed.order.kind != "zip-old" and placed.job_id in jobs:
            ends = jobs[placed.job_id].endings
            if about[placed.job_id] != ends:
                yield placed.job_id, f"ended {ends} times, and {about[placed.job_id]} callbacks were asked for"


# ── 2: a job's counts are those of its plan, and its end is an end ─────────────────────────────────────────────────


def _counts(jobs: dict[str, History], verdict: Verdict) -> Found:
    for history in jobs.values():
        before: JobStatus | None = None
        for now in history.statuses:
            verdict.checked["statuses that follow from the one before"] += 1
            for words in _step(before, now):
                yield history.job_id, words
            before = now
        if history.statuses:
            for words in _whole(history):
                yield history.job_id, words


def _step(before: JobStatus | None, now: JobStatus) -> Iterator[str]:
    stage = now.stages[now.stage]
    done = int.from_bytes(base64.b64decode(now.finished), "little").bit_count()
    if now.state not in TERMINAL and stage.done != done:
        yield f"stage {stage.name} counts {stage.done} finished tasks, and {done} are marked"
    for stage in now.stages:
        if stage.done > stage.total:
            yield f"stage {stage.name} has {stage.done} of {stage.total} tasks done"
    if before is None:
        return
    if before.state in TERMINAL and now.state not in TERMINAL and now.runs <= before.runs:
        yield f"went from {before.state} to {now.state} without a retry"
    if before.state in TERMINAL and now.state in TERMINAL and before.state != now.state and now.runs == before.runs:
        yield f"was {before.state} and is {now.state}"
    if now.runs == before.runs and now.progress < before.progress:
        yield f"progress fell from {before.progress} to {now.progress}"
    if now.runs < before.runs:
        yield f"run {before.runs} is followed by run {now.runs}"


def _whole(history: History) -> Iterator[str]:
    last = history.last
    if last.state == "succeeded":
        for number, stage in enumerate(last.stages):
            if stage.done != stage.total:
                yield f"succeeded with {stage.done} of {stage.total} tasks of {stage.name}"
            if len(history.finished[number] & set(range(stage.total))) != stage.total:
                yield f"succeeded, and not all {stage.total} tasks of {stage.name} were finished by anybody"
    if last.state in TERMINAL and history.outcomes:
        name, told = history.outcomes[-1]
        state = told.get("state", "succeeded") if name == "JobFailed" else "succeeded"
        if state != last.state or told["finished_ms"] != last.finished_ms:
            yield f"is {last.state} since {last.finished_ms}, and its outcome says {state} since {told['finished_ms']}"
        if name != "JobFailed" and told.get("outputs", []) != msgspec.to_builtins(list(last.outputs)):
            yield "its status and its outcome list different outputs"


# ── 3: what is listed is there, and nothing else is ────────────────────────────────────────────────────────────────


def _objects(evidence: Evidence, jobs: dict[str, History], verdict: Verdict) -> Found:
    replaced = Counter(o.key for h in jobs.values() if h.statuses for o in h.last.outputs)
    for history in jobs.values():
        if not history.statuses or history.last.state != "succeeded":
            continue
        for output in history.last.outputs:
            verdict.checked["listed outputs that are there"] += 1
            there = evidence.objects.get(output.key)
            if there is None:
                yield history.job_id, f"{output.key} is listed and not there"
            elif there.size != output.size and replaced[output.key] == 1:
                yield history.job_id, f"{output.key} is listed with {output.size} bytes and has {there.size}"
    for key in evidence.objects:
        verdict.checked["objects that belong to something"] += 1
        if not key.startswith(("in/", "files/", "late/", "assets/", "archives/", "shows/")):
            yield "", f"{key} belongs to nothing"
    yield from (("", f"a multipart upload of {key} was left") for key in evidence.uploads)
    yield from (("", f"{path} was left in the scratch folder") for path in evidence.scratch)
    yield from (("", f"a process was left: {command}") for command in evidence.orphans)
    yield from _assets(evidence, jobs, verdict)
    listed = set(replaced)
    for key in evidence.objects:
        if key.startswith("archives/") and key not in listed:
            yield "", f"{key} is no job's output"


def _assets(evidence: Evidence, jobs: dict[str, History], verdict: Verdict) -> Found:
    """Below assets/ and shows/: what belongs to no job, or to jobs that have made nothing."""
    subjects: dict[str, set[str]] = defaultdict(set)
    for history in jobs.values():
        if history.statuses:
            subjects[history.last.subject].add(history.last.state)
    for key in evidence.objects:
        if key.startswith("assets/"):
            asset = key.split("/")[1]
            if asset not in subjects:
                yield "", f"{key} belongs to no job"
            elif "succeeded" not in subjects[asset] and "/source/" not in key:
                verdict.noted["objects that wait for a retry of what failed or was cancelled"] += 1


# ── 4: everybody says the same ─────────────────────────────────────────────────────────────────────────────────────


def _agreement(ledger: Ledger, evidence: Evidence, stock: Sources, jobs: dict[str, History], verdict: Verdict) -> Found:
    for key, etag in stock.etags.items():
        verdict.checked["sources as they were"] += 1
        there = evidence.objects.get(key)
        if there is None or there.etag != etag:
            yield "", f"the source {key} was {etag} and is {there}"
    for job_id, answers in evidence.answers.items():
        verdict.checked["statuses on which the gateways agree with the log"] += 1
        # A signed URL has the time of its making in it.
        if len({_SIGNATURE.sub(b"", body) for body in answers.values()}) != 1:
            yield job_id, f"the gateways say different things: {answers}"
        said = json.loads(next(iter(answers.values())))
        if (last := jobs[job_id].last).state != said.get("state"):
            yield job_id, f"the log says {last.state}, the gateways {said.get('state', said)}"
    yield from (("", f"{unread} records of {group} were not read") for group, unread in evidence.lag.items() if unread)
    yield from _dead_letters(ledger, evidence, jobs, verdict)
    yield from (("", words) for words in ledger.oddities)
    yield from (("", f"a client had to give up: {words}") for words in ledger.given_up)


def _dead_letters(ledger: Ledger, evidence: Evidence, jobs: dict[str, History], verdict: Verdict) -> Found:
    buried: dict[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]], set[str]] = defaultdict(set)
    exhausted: Counter[str] = Counter()
    for received in evidence.records[topics.DEAD_LETTERS]:
        headers = dict(received.headers)
        if "reelworks-origin-offset" in headers:
            buried[_as_sent(received.key, received.value, received.headers)].add(
                f"{headers['reelworks-origin-partition']}/{headers['reelworks-origin-offset']}"
            )
        else:
            exhausted[(received.key or b"").decode()] += 1
    for sent in ledger.poison:
        verdict.checked["poison among the dead letters, byte for byte"] += 1
        key = sent.key.encode() if isinstance(sent.key, str) else sent.key
        places = buried.pop(_as_sent(key, sent.value, sent.headers), set())
        if len(places) != 1:
            yield "", f"poison {key!r} is among the dead letters from {len(places)} places: {places}"
    for (key, value, _), places in buried.items():
        yield "", f"a dead letter that nobody sent as poison: {key!r} {(value or b'')[:200]!r} from {places}"
    for job_id, count in exhausted.items():
        verdict.noted["jobs whose attempts were used up, among the dead letters"] += 1
        told = jobs[job_id].outcomes if job_id in jobs else []
        ends = sum(data.get("state") == "failed" and data["error"].get("failure_class", "permanent") != "permanent" for _, data in told)
        if ends != count:
            yield job_id, f"is {count} times among the dead letters, and used up its attempts {ends} times"


def _as_sent(
    key: bytes | None, value: bytes | None, headers: envelope.Headers | list[tuple[str, bytes | None]]
) -> tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]:
    kept = ((name, content.encode() if isinstance(content, str) else content) for name, content in headers if not name.startswith(OURS))
    return key, value, tuple(kept)
