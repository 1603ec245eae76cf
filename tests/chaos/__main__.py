"""`python -m tests.chaos --seed 7 --minutes 3 [--brokers 3]`. Exit code 1 when a promise was not kept."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos import report
from tests.chaos.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs even when nothing was found")
    parser.add_argument("--record", type=Path, help="append the result to this file, one JSON line a run")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{given.seed}-"))
    result = asyncio.run(run(given.seed, given.minutes, folder, brokers=given.brokers))
    print(report.words(result))
    if given.record is not None:
        with given.record.open("a") as file:
            file.write(result.json() + "\n")
    if result.findings or given.keep:
        print(f"logs and diary: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if result.findings else 0


if __name__ == "__main__":
    sys.exit(main())
