"""What runs have shown: words for a terminal, and docs/reliability.md, which `make chaos` writes of all runs on record."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.chaos.run import Result

ROOT: Final = Path(__file__).parents[2]
RECORD: Final = ROOT / "tests" / "chaos" / "runs.jsonl"
"""One line a run, as it was written by `--record`."""
DOCUMENT: Final = ROOT / "docs" / "reliability.md"
PREFACE: Final = ROOT / "tests" / "chaos" / "reliability.md"
"""The part of the document that people write; the figures come where it says `{figures}`."""
GOAL_SECONDS: Final = 15.0


def words(result: Result) -> str:
    """Of one run."""
    lines = [
        f"seed {result.seed}, {result.minutes:g} min, {result.brokers} broker{'s' if result.brokers > 1 else ''}: "
        f"{result.orders} orders, {result.jobs} jobs, {sum(result.troubles.values())} troubles, {len(result.findings)} findings",
        f"  jobs       {_counts(result.states)}",
        f"  troubles   {_counts(result.troubles)}",
        f"  answers    {_counts(result.answers)}",
        f"  checked    {_counts(result.checked)}",
        f"  noted      {_counts(result.noted)}",
        f"  takeover   {', '.join(f'{s} {max(t):.1f} s (of {len(t)})' for s, t in result.taken_over.items())}",
        f"  drain      {', '.join(f'{s} {max(t):.1f} s (of {len(t)})' for s, t in result.drains.items())}",
        f"  quiet      {result.quiet_seconds} s after healing; {result.retried_by_hand} jobs retried by hand",
    ]
    return "\n".join(lines + [f"  ! {f.group}: {f.words[:600]}{f' [job {f.job_id}]' if f.job_id else ''}" for f in result.findings])


def document(preface: str, runs: list[dict[str, Any]]) -> str:
    """docs/reliability.md."""
    return preface.replace("{figures}", "\n".join(_figures(runs)))


def _figures(runs: list[dict[str, Any]]) -> Iterable[str]:
    green = [run for run in runs if not run["findings"]]
    clusters = sum(run["brokers"] > 1 for run in runs)
    yield f"{len(runs)} runs on record, of {sum(run['minutes'] for run in runs):g} minutes of trouble, {clusters} of them on three brokers;"
    yield f"{len(green)} without a finding, the last {_in_a_row(runs)} of them in a row. Seeds: {_ranges([run['seed'] for run in runs])}."
    yield ""
    yield from _table("fault", "times", _sum(runs, "troubles"))
    yield from _table("jobs, by kind and end", "times", _sum(runs, "states"))
    yield from _table("checked", "times", _sum(runs, "checked"))
    yield from _table("allowed, and noted", "times", _sum(runs, "noted"))
    yield "| service | takeovers | median | worst | goal |"
    yield "|---|---|---|---|---|"
    for service, seconds in sorted(_lists(runs, "taken_over").items()):
        yield f"| {service} | {len(seconds)} | {statistics.median(seconds):.1f} s | {max(seconds):.1f} s | < {GOAL_SECONDS:.0f} s |"
    yield ""
    yield "| service | ended by SIGTERM | median | worst | goal |"
    yield "|---|---|---|---|---|"
    for service, seconds in sorted(_lists(runs, "drains").items()):
        yield f"| {service} | {len(seconds)} | {statistics.median(seconds):.1f} s | {max(seconds):.1f} s | ≤ 45 s |"
    yield ""
    quiet = [run["quiet_seconds"] for run in runs]
    if quiet:
        yield f"From healing to the end of the last job: median {statistics.median(quiet):.0f} s, worst {max(quiet):.0f} s."


def _ranges(seeds: Sequence[int]) -> str:
    """Those that follow each other, as "1–13"; in the order in which they were run. Pure."""
    told: list[list[int]] = []
    for seed in seeds:
        if told and seed == told[-1][-1] + 1:
            told[-1].append(seed)
        else:
            told.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in told)


def _in_a_row(runs: list[dict[str, Any]]) -> int:
    count = 0
    for run in reversed(runs):
        if run["findings"]:
            break
        count += 1
    return count


def _sum(runs: list[dict[str, Any]], field: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for run in runs:
        total.update(run[field])
    return total


def _lists(runs: list[dict[str, Any]], field: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, seconds in run.get(field, {}).items():
            found.setdefault(name, []).extend(seconds)
    return found


def _table(what: str, how_many: str, counted: Counter[str]) -> Iterable[str]:
    yield f"| {what} | {how_many} |"
    yield "|---|---|"
    yield from (f"| {name} | {count:,} |" for name, count in sorted(counted.items()))
    yield ""


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.report", description="Write docs/reliability.md of the runs on record.")
    parser.add_argument("--check", action="store_true", help="only say whether it is as it would be written")
    given = parser.parse_args()
    runs = [json.loads(line) for line in RECORD.read_text().splitlines()] if RECORD.exists() else []
    made = document(PREFACE.read_text(), runs)
    if given.check:
        if not DOCUMENT.exists() or DOCUMENT.read_text() != made:
            print("docs/reliability.md is not what its runs and its preface give; run: python -m tests.chaos.report")
            return 1
        return 0
    DOCUMENT.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
