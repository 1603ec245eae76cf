"""`python -m benchmarks [--keep] [NAME …]`: run the benchmarks, or all, and print their tables; `--keep` writes them into
benchmarks/results.md, each when it has ended, in the place of what it said before."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import structlog

NAMES = ("ladder", "streaming", "archives", "polls", "watching", "loop", "rebuild", "pressure", "drain", "memory")
RESULTS = Path(__file__).with_name("results.md")
HEAD = "# Figures\n\nWritten by `make bench`, or `make bench ONLY=loop`. Absolute times belong to the machine and its load.\n"


def table(rows: list[dict[str, Any]]) -> str:
    """Rows {what, value, goal, command, note} as Markdown."""
    lines = ["| figure | measured | goal | command |", "|---|---|---|---|"]
    lines += [f"| {r['what']} | {r['value']} | {r.get('goal', '')} | `{r['command']}` |" for r in rows]
    notes = [f"- {r['what']}: {r['note']}" for r in rows if r.get("note")]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def keep(results: str, name: str, made: str) -> str:
    """The text of results.md with what one benchmark has measured in its section."""
    sections = {title: text for title, _, text in (part.partition("\n") for part in results.split("\n## ")[1:])}
    sections[name] = f"\n{time.strftime('%Y-%m-%d')}, {_machine()}\n\n{made}"
    return HEAD + "".join(f"\n## {title}\n{sections[title].rstrip()}\n" for title in NAMES if title in sections)


def _machine() -> str:
    return (
        f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}, load at the end {os.getloadavg()[0]:.1f}."
    )


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, or all."""
    names = [name for name in arguments if name != "--keep"]
    unknown = [n for n in names if n not in NAMES]
    if unknown:
        sys.stderr.write(f"no benchmark is called {unknown[0]!r}; there are {', '.join(NAMES)}\n")
        return 2
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for name in names or NAMES:
        sys.stderr.write(f"── {name}\n")
        made = table(importlib.import_module(f"benchmarks.{name}").run())
        sys.stdout.write(made)
        if "--keep" in arguments:
            RESULTS.write_text(keep(RESULTS.read_text(), name, made))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
