"""Scratch folders: below a folder named after the process, so that a killed process's leftovers can be told and removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path

from services.runtime.settings import START


def own(parent: Path) -> Path:
    """This process's folder for temporary files; made when it is first asked for."""
    folder = parent / _name()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def remove_own(parent: Path) -> None:
    """At a clean end: nothing stays behind."""
    shutil.rmtree(parent / _name(), ignore_errors=True)


def sweep(parent: Path) -> int:
    """Remove the folders of processes of this machine that are gone. Answers how many."""
    removed = 0
    for folder in parent.glob(f"{socket.gethostname()}-*") if parent.is_dir() else ():
        number, _, start = folder.name.removeprefix(f"{socket.gethostname()}-").partition("-")
        if number.isdigit() and start != START and (int(number) == os.getpid() or not _alive(int(number))):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def used(folder: Path) -> int:
    """Bytes in the files below a folder. One that its program removes meanwhile counts for nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{START}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
