"""Leftovers of dead processes go, others stay."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_files_that_a_program_removes_meanwhile_count_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("film.mp4", "a/b/pass.log"):
        (tmp_path / name).write_bytes(bytes(100))
    assert scratch.used(tmp_path) == 200
    look = os.stat

    def late(path: str | Path, **how: bool) -> os.stat_result:
        if str(path).endswith("pass.log"):
            os.remove(path)
        return look(path, **how)

    monkeypatch.setattr(scratch.os, "stat", late)
    assert scratch.used(tmp_path) == 100
