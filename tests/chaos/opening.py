"""Opens what was made, with the programs that people open it with: archives by unzip, films by a strict decode."""

from __future__ import annotations

import asyncio
import zipfile
from collections import Counter
from pathlib import Path
from typing import Final

from tests import clips, hls, streams
from tests.chaos.auditor import Finding, History, Verdict
from tests.chaos.evidence import Evidence
from tests.chaos.orders import Ledger
from tests.chaos.sources import Sources

AT_ONCE: Final = 2


async def check(found: Evidence, ledger: Ledger, stock: Sources, jobs: dict[str, History], verdict: Verdict) -> list[Finding]:
    """What cannot be opened, or is not what it should be."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(path: Path, job_id: str, how: str) -> list[Finding]:
        async with gate:
            try:
                await asyncio.to_thread(_OPEN[how], path)
            except Exception as wrong:
                return [
                    Finding(
                        "objects", f"{path.relative_to(found.folder)} does not open: {type(wrong).__name__}: {str(wrong)[:500]}", job_id
                    )
                ]
            verdict.checked[f"{how}s that open"] += 1
            return []

    wanted: dict[Path, tuple[str, str]] = {}
    for history in jobs.values():
        if not history.statuses or history.last.state != "succeeded":
            continue
        for output in history.last.outputs:
            if output.role in _ROLES:
                wanted[found.folder / output.key] = (history.job_id, _ROLES[output.role])
    done = await asyncio.gather(*(one(path, job_id, how) for path, (job_id, how) in wanted.items()))
    return [finding for several in done for finding in several] + _contents(found, ledger, stock, jobs, verdict)


def _contents(found: Evidence, ledger: Ledger, stock: Sources, jobs: dict[str, History], verdict: Verdict) -> list[Finding]:
    """Archives of one job alone hold exactly what was ordered."""
    findings: list[Finding] = []
    zips = [p for p in ledger.jobs.values() if p.entries and p.job_id in jobs and jobs[p.job_id].last.state == "succeeded"]
    targets = Counter(jobs[p.job_id].last.outputs[0].key for p in zips)
    for placed in zips:
        key = jobs[placed.job_id].last.outputs[0].key
        if targets[key] > 1 or not (found.folder / key).exists():
            continue
        with zipfile.ZipFile(found.folder / key) as archive:
            names = archive.namelist()
            verdict.checked["archives with exactly what was ordered"] += 1
            if sorted(names) != sorted(placed.entries):
                findings.append(Finding("objects", f"{key} has {names} and should have {sorted(placed.entries)}", placed.job_id))
                continue
            for name, source in placed.entries.items():
                if archive.read(name) != stock.bodies[source]:
                    findings.append(Finding("objects", f"{name} in {key} is not {source}", placed.job_id))
    return findings


def _archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
        assert bad is None, f"{bad} is damaged"


def _film(path: Path) -> None:
    clips.ffmpeg("-xerror", "-err_detect", "explode", "-i", str(path), "-map", "0", "-fps_mode", "passthrough", "-f", "null", "-")


def _picture(path: Path) -> None:
    clips.ffmpeg("-xerror", "-i", str(path), "-f", "null", "-")


def _presentation(path: Path) -> None:
    hls.check_folder(path)
    streams.decode(path)


_ROLES: Final = {"archive": "archive", "rendition": "film", "poster": "picture", "thumbnail": "picture", "playlist": "presentation"}
_OPEN: Final = {"archive": _archive, "film": _film, "picture": _picture, "presentation": _presentation}
