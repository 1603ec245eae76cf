"""`python -m benchmarks [NAME …]`: run the benchmarks, print the table and write benchmarks/results.md (all of them only)."""

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


def table(rows: list[dict[str, Any]]) -> str:
    """Rows {what, value, goal, command, note} as Markdown."""
    lines = ["| figure | measured | goal | command |", "|---|---|---|---|"]
    lines += [f"| {r['what']} | {r['value']} | {r.get('goal', '')} | `{r['command']}` |" for r in rows]
    notes = [f"- {r['what']}: {r['note']}" for r in rows if r.get("note")]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    unknown = [n for n in names if n not in NAMES]
    if unknown:
        sys.stderr.write(f"no benchmark is called {unknown[0]!r}; there are {', '.join(NAMES)}\n")
        return 2
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows: list[dict[str, Any]] = []
    for name in names or NAMES:
        sys.stderr.write(f"── {name}\n")
        rows += importlib.import_module(f"benchmarks.{name}").run()
    made = table(rows)
    sys.stdout.write(made)
    if not names:
        head = (
            "# Figures\n\nWritten by `make bench`. Absolute times belong to the machine: "
            f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}, "
            f"load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}.\n\n"
        )
        RESULTS.write_text(head + made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
