"""`reelworks jobs list|show|wait|cancel|retry|timeline`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, get_args

import click
from rich.table import Table
from rich.text import Text

from schemas.api import JobView
from schemas.events import State
from services.cli import following
from services.cli.client import Gateway, gateway_option
from services.cli.exits import Exit, Missing
from services.cli.output import console, json_option, notes, plain, print_json
from services.runtime import settings as settings_module

T = TypeVar("T")
job_argument = click.argument("job_id", metavar="JOB")


@click.group()
def jobs() -> None:
    """List, show, wait for, cancel and retry jobs, by a running gateway; show their timelines, from Kafka."""


@jobs.command("list")
@click.option("--state", type=click.Choice(get_args(State)), default=None, help="Only jobs in this state.")
@click.option("--type", "kind", default="", help="Only jobs of this type, e.g. UploadReceived.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many, newest first.")
@gateway_option
@json_option
def list_jobs(state: str | None, kind: str, limit: int, gateway: str, as_json: bool) -> None:
    """The newest jobs; with --json one job a line."""
    found = _with(gateway, lambda g: _collect(g, state or "", kind, limit))
    if as_json:
        for job in found:
            print_json(job)
        return
    if not found:
        click.echo("There are no such jobs.")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "kind", "state", "progress", "created", "title"):
        table.add_column(heading, no_wrap=heading != "title")
    for job in found:
        table.add_row(job.job_id, job.kind, job.state, f"{job.progress:.0%}", job.created_at[:19].replace("T", " "), Text(plain(job.title)))
    console().print(table)


@jobs.command()
@job_argument
@gateway_option
@json_option
def show(job_id: str, gateway: str, as_json: bool) -> None:
    """All that is known of a job."""
    job = _with(gateway, lambda g: g.job(job_id))
    if as_json:
        print_json(job)
        return
    lines = [following.verdict(job), f"  job       {job.job_id}", f"  kind      {job.kind} ({job.type})", f"  created   {job.created_at}"]
    if job.finished_at:
        lines.append(f"  finished  {job.finished_at}")
    lines.append(f"  tasks     {job.tasks.done} of {job.tasks.total} done, {job.tasks.running} running")
    lines += [f"  attempt   {a.at} {a.task} no. {a.attempt}: {a.failure_class}, {a.message}" for a in job.attempts]
    lines += [f"  {o.role:<9} {o.name:<8} {o.bucket}/{o.key} ({o.size} bytes)" for o in job.outputs]
    click.echo("\n".join(map(plain, lines)))


@jobs.command()
@job_argument
@click.option("--timeout", type=float, help="Seconds to wait at most; exit code 4 after that.")
@gateway_option
@json_option
def wait(job_id: str, timeout: float | None, gateway: str, as_json: bool) -> None:
    """Wait until a job has ended; exit code 1 when it did not succeed."""
    job = _with(gateway, lambda g: _wait(g, job_id, timeout, as_json))
    print_json(job) if as_json else click.echo(following.verdict(job))
    raise SystemExit(following.exit_code(job))


@jobs.command()
@job_argument
@click.option("--reason", default="", help="For the job's record.")
@gateway_option
@json_option
def cancel(job_id: str, reason: str, gateway: str, as_json: bool) -> None:
    """End a job. Asking is done when this returns; `jobs wait` says when it has ended."""
    _with(gateway, lambda g: g.cancel(job_id, reason))
    _asked(job_id, "cancel", as_json)


@jobs.command()
@job_argument
@gateway_option
@json_option
def retry(job_id: str, gateway: str, as_json: bool) -> None:
    """Begin a failed or cancelled job again where it stopped."""
    _with(gateway, lambda g: g.retry(job_id))
    _asked(job_id, "retry", as_json)


@jobs.command("timeline")
@job_argument
@click.option("--children", is_flag=True, help="The jobs that it asked for, too: `then`, `otherwise`, what had to come first.")
@json_option
def show_timeline(job_id: str, children: bool, as_json: bool) -> None:
    """What happened to a job, on all services, from the topics alone: no gateway is needed. With --json one event a line.

    A line has the time, the seconds since the first, who, what, and topic/partition/offset. What the topics are known to have
    forgotten is said on stderr.
    """
    from services.cli import timeline  # Kafka's client takes its time
    from services.cli.topics import connected

    entries = timeline.of(connected(settings_module.load()), job_id, children=children)
    if not entries:
        raise Missing(f"no topic has a record of a job {job_id!r}; `reelworks jobs list` shows the jobs that there are")
    if as_json:
        for entry in entries:
            print_json(entry)
    else:
        click.echo(timeline.render(entries))
    for words in timeline.missing(entries, int(time.time() * 1000)):
        notes().print(words, markup=False)


def _with(url: str, act: Callable[[Gateway], Awaitable[T]]) -> T:
    async def run() -> T:
        async with Gateway(url, settings_module.load().api_token) as gateway:
            return await act(gateway)

    return asyncio.run(run())


async def _collect(gateway: Gateway, state: str, kind: str, limit: int) -> list[JobView]:
    found: list[JobView] = []
    cursor = ""
    while len(found) < limit:
        page = await gateway.jobs(state=state, kind=kind, cursor=cursor)
        found += page.jobs
        if not page.next_cursor:
            break
        cursor = page.next_cursor
    return found[:limit]


async def _wait(gateway: Gateway, job_id: str, timeout: float | None, as_json: bool) -> JobView:
    updates = gateway.follow(job_id, seconds=timeout)
    if as_json:
        return [job async for job in updates][-1]
    with following.bars(notes()) as progress:
        last = await following.show(updates, progress)
    assert last is not None
    return last


def _asked(job_id: str, what: str, as_json: bool) -> None:
    if as_json:
        print_json({"job_id": job_id, "asked": what, "exit_code": int(Exit.OK)})
    else:
        click.echo(f"asked to {what} job {job_id}")
