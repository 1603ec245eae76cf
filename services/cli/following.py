"""A job on the terminal: a bar while it runs, words when it has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from schemas.api import JobView
from services.cli.exits import Exit
from services.cli.output import plain


def describe(job: JobView) -> str:
    """One line on what a job is doing."""
    if job.waiting_for:
        return job.waiting_for
    parts = [job.note or job.state]
    if job.tasks.total:
        parts.append(f"{job.tasks.done} of {job.tasks.total} tasks")
    if job.eta_seconds is not None:
        parts.append(f"about {job.eta_seconds} s to go")
    if job.attempt_count:
        parts.append(f"{job.attempt_count} failed attempt{'s' if job.attempt_count > 1 else ''} so far")
    return ", ".join(parts)


def verdict(job: JobView) -> str:
    """How it ended, in words."""
    name = plain(job.title) or job.job_id
    match job.state:
        case "succeeded":
            return f"{name}: done"
        case "cancelled":
            return f"{name}: cancelled"
        case "failed":
            why = f"{job.error.message} {job.error.hint}".strip() if job.error else "no reason was given"
            return f"{name}: failed. {plain(why)}"
        case _:
            return f"{name}: {job.state}, {plain(describe(job))}"


def exit_code(job: JobView) -> Exit:
    """0 for a job that succeeded."""
    return Exit.OK if job.state == "succeeded" else Exit.FAILED


def bars(console: Console) -> Progress:
    """Progress as all commands show it."""
    return Progress(
        TextColumn("{task.fields[label]}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}", style="dim", markup=False),
        console=console,
    )


async def show(jobs: AsyncIterator[JobView], progress: Progress) -> JobView | None:
    """Follow a job to its end on a bar. Answers its last status."""
    bar: TaskID = progress.add_task("", total=1.0, label=f"{'job':<10}", words="")
    last: JobView | None = None
    async for job in jobs:
        last = job
        progress.update(bar, label=f"{job.kind:<10}", completed=job.progress, words="" if job.state == "succeeded" else describe(job))
    return last
