"""`python -m tests.tooling.audit`: are there known vulnerabilities in what the lock files name? Part of `make check`.

pip-audit asks a public database (OSV) for each package. Where nobody answers, this says so in a line and is content: a check must not
fail for lack of a network. A vulnerability fails it, unless it is among `ACCEPTED`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parents[2]
LOCKS: Final = ("lock/run.txt", "lock/dev.txt", "lock/uv.txt")
ACCEPTED: Final[Mapping[str, str]] = {}
"""Ids of vulnerabilities that do not concern us → why."""
PROBE_SECONDS: Final = 5.0
"""For one package: a database that is there answers in a fraction of a second, and without a network nobody wants to wait."""
AUDIT_SECONDS: Final = 120.0
"""For all of them, at a few a second."""


class Vulnerability(msgspec.Struct):
    """As pip-audit tells of it."""

    id: str
    fix_versions: list[str] = []


class Package(msgspec.Struct):
    name: str
    version: str = ""
    vulns: list[Vulnerability] = []


class Report(msgspec.Struct):
    dependencies: list[Package] = []


def pinned(lock: str) -> list[str]:
    """`name==version` of each line that pins one, without markers and hashes. Pure."""
    return [line.split(" ")[0].rstrip(";") for line in lock.splitlines() if "==" in line and not line.startswith((" ", "#", "-"))]


def audit(requirements: list[str], seconds: float) -> Report | None:
    """What the database knows of them; None when it did not answer in time."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(requirements))
        listed.flush()
        command = [
            sys.executable, "-m", "pip_audit", "--requirement", listed.name, "--no-deps", "--disable-pip", "--vulnerability-service", "osv",
            "--format", "json", "--progress-spinner", "off", "--timeout", "5",
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
    try:
        return msgspec.json.decode(done.stdout, type=Report)
    except msgspec.MsgspecError:  # it ended with a traceback: no network, no such host
        return None


def faults(report: Report, accepted: Mapping[str, str] = ACCEPTED) -> list[str]:
    """A sentence for each vulnerability that nobody has accepted. Pure."""
    return [
        f"{package.name} {package.version}: {known.id}, mended in {', '.join(known.fix_versions) or 'no version yet'}"
        for package in report.dependencies
        for known in package.vulns
        if known.id not in accepted
    ]


def main() -> int:
    """Answers the exit code."""
    requirements = sorted({line for lock in LOCKS for line in pinned((ROOT / lock).read_text())})
    if audit(requirements[:1], PROBE_SECONDS) is None:
        print("audit: the database of vulnerabilities cannot be reached from here; nothing was looked up")
        return 0
    report = audit(requirements, AUDIT_SECONDS)
    if report is None:
        print("audit: the database of vulnerabilities did not answer in time; nothing was looked up")
        return 0
    found = faults(report)
    for line in found:
        print(line)
    print(f"audit: {len(report.dependencies)} packages, {len(found)} vulnerabilities that are not accepted (tests/tooling/audit.py)")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
