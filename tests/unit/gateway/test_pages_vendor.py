"""The scripts of others are those that the manifest lists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from services.gateway.vendor.__main__ import FILES, FOR_TESTS, LOCK, MANIFEST, ROOT, SHIPPED, main, problems

HLS = f"{SHIPPED}/hls.min.js"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is in the tree."""
    for name in (*(copied.to for copied in FILES), MANIFEST, LOCK):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return tmp_path


def test_what_is_in_the_tree_is_what_the_manifest_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert problems() == []
    assert main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_each_package_comes_with_its_licence() -> None:
    for package in {copied.package for copied in FILES}:
        assert any(copied.package == package and copied.path.startswith("LICENSE") for copied in FILES)


def test_a_file_that_was_changed_is_named(tree: Path) -> None:
    with (tree / HLS).open("ab") as file:
        file.write(b"\n")
    [problem] = problems(tree)
    assert problem.startswith(f"{HLS} is not the one of hls.js ")


def test_files_that_are_missing_or_too_many_are_named(tree: Path) -> None:
    (tree / HLS).unlink()
    (tree / FOR_TESTS / "more.js").write_text("1")
    assert problems(tree) == [f"{HLS} is missing", f"{FOR_TESTS}/more.js is not in the manifest"]


def test_a_lock_that_pins_another_version_is_named(tree: Path) -> None:
    lock = json.loads((tree / LOCK).read_text())
    lock["packages"]["node_modules/axe-core"]["version"] = "9.9.9"
    (tree / LOCK).write_text(json.dumps(lock))
    assert {problem.partition(",")[0] for problem in problems(tree)} == {f"{LOCK} pins axe-core 9.9.9"}


def test_a_manifest_that_cannot_be_read_is_told(tree: Path) -> None:
    (tree / MANIFEST).write_text("{")
    [problem] = problems(tree)
    assert problem.startswith(f"{MANIFEST} cannot be read: ")


def test_the_lock_holds_no_registry_address() -> None:
    lock = (ROOT / LOCK).read_text()
    assert "resolved" not in lock
    assert "http" not in lock
    assert "omit-lockfile-registry-resolved=true" in (ROOT / LOCK).with_name(".npmrc").read_text()
