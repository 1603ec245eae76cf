"""Leftovers of dead processes go, others stay."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from services.runtime.jobs import scratch


def test_only_folders_of_dead_processes_of_this_machine_are_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    mine = scratch.own(tmp_path)
    (mine / "task").mkdir()
    others = [f"{host}-{os.getppid()}-abcdef", "elsewhere-1-abcdef", f"{host}-notes"]
    # In a container every start of a process has the same id.
    for name in (f"{host}-{gone.pid}-abcdef", f"{host}-{os.getpid()}-abcdef", *others):
        (tmp_path / name / "task").mkdir(parents=True)
    assert scratch.sweep(tmp_path) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([mine.name, *others])
    assert (mine / "task").is_dir()
    scratch.remove_own(tmp_path)
    assert not mine.exists()


def test_a_folder_that_is_not_there_has_nothing_to_remove(tmp_path: Path) -> None:
    assert scratch.sweep(tmp_path / "none") == 0
