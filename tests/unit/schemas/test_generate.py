"""`python -m schemas.generate`: what it says of drift, and that it finds the last release in git."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from schemas import generate
from schemas.markers import MarkerMissing, between
from schemas.releases import contract_of, last_release

README = "# x\n<!-- topics: made -->\n<!-- end of topics -->\n"


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module", autouse=True)
def _made_once() -> Iterator[None]:
    """The same version and README give the same files, which take a third of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "files", cache(generate.files))
        yield


@pytest.fixture(scope="module")
def wanted() -> dict[str, str]:
    return generate.files("0.1", README)


@pytest.fixture
def repository(tmp_path: Path, wanted: dict[str, str]) -> Path:
    """One commit with the generated files of today."""
    git(tmp_path, "init", "--quiet")
    generate.write(wanted, tmp_path / "schemas")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_what_was_written_does_not_differ(tmp_path: Path, wanted: dict[str, str]) -> None:
    assert sorted(wanted) == sorted(generate.write(wanted, tmp_path))
    assert generate.differences(wanted, tmp_path) == []
    assert generate.write(wanted, tmp_path) == []


def test_a_file_that_was_edited_is_missing_or_is_left_over_is_named(tmp_path: Path, wanted: dict[str, str]) -> None:
    generate.write(wanted, tmp_path)
    (tmp_path / "asyncapi.yaml").write_text("edited")
    (tmp_path / "generated/json/JobStatus.json").unlink()
    (tmp_path / "generated/json/Gone.json").write_text("{}")
    assert generate.differences(wanted, tmp_path) == [
        "schemas/generated/json/JobStatus.json is missing",
        "schemas/asyncapi.yaml is not what the sources make now",
        "schemas/generated/json/Gone.json is not made from anything any more",
    ]
    generate.write(wanted, tmp_path)
    assert generate.differences(wanted, tmp_path) == []


def test_the_check_fails_on_drift_and_says_what_mends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    (schemas / "README.md").write_text(README)
    monkeypatch.setattr(generate, "ROOT", schemas)
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (schemas / "openapi.yaml").write_text("edited")
    capsys.readouterr()
    assert generate.main(["--check"]) == 1
    assert (
        "schemas/openapi.yaml is not what the sources make now: run `make generate` and commit what it changes" in capsys.readouterr().err
    )


def test_without_a_release_there_is_nothing_to_break(repository: Path) -> None:
    words, broken = generate.incompatible(repository)
    assert broken == []
    assert words == "there is no release (no tag v*), so there is nothing to be compatible with yet"


def test_a_folder_without_git_or_without_a_commit_has_no_release(tmp_path: Path) -> None:
    assert last_release(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    assert last_release(tmp_path) is None


def test_a_shallow_clone_that_may_hide_the_release_is_said_so(repository: Path, tmp_path: Path) -> None:
    git(repository, "tag", "v0.1.0")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "second")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--no-tags", "--depth=1", f"file://{repository}", str(clone))
    words, broken = generate.incompatible(clone)
    assert broken == []
    assert words.startswith("NOT compared with the last release: the clone is shallow")


def test_tags_that_are_no_releases_do_not_count(repository: Path) -> None:
    git(repository, "tag", "nightly")
    assert last_release(repository) is None


def test_the_release_is_read_from_git_and_today_is_compatible_with_itself(repository: Path) -> None:
    git(repository, "tag", "v0.1.0")
    generate.write({}, repository / "schemas")  # what lies in the folder does not matter
    assert contract_of(repository, "v0.1.0") == generate.contract()
    assert generate.incompatible(repository) == ("compared with the release v0.1.0", [])


def test_the_check_fails_when_the_release_had_a_field_that_is_gone(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = repository / "schemas/generated/json/CancelRequested.json"
    schema = json.loads(path.read_text())
    schema["properties"]["urgency"] = {"type": "string", "default": ""}
    path.write_text(json.dumps(schema))
    git(repository, "commit", "--quiet", "-am", "urgency")
    git(repository, "tag", "v1.0.0")
    (repository / "schemas/README.md").write_text(README)
    monkeypatch.setattr(generate, "ROOT", repository / "schemas")
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "incompatible: CancelRequested.urgency: removed or renamed" in said
    assert "compared with the release v1.0.0: add a field, a type or a topic beside the old one instead" in said


def test_a_release_from_before_there_were_generated_files_is_said_so(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "x").write_text("x")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    git(tmp_path, "tag", "v0.0.1")
    assert generate.incompatible(tmp_path) == ("the release v0.0.1 has no generated contract to compare with", [])


def test_the_generated_part_of_a_document_is_replaced_and_the_rest_is_kept() -> None:
    text = "before\n<!-- part: made -->\nold\n<!-- end of part -->\nafter\n"
    assert between(text, "part", "new\n") == "before\n<!-- part: made -->\nnew\n<!-- end of part -->\nafter\n"
    assert between(between(text, "part", "new"), "part", "old") == text


def test_a_document_without_a_place_for_it_is_an_error_that_shows_the_lines() -> None:
    with pytest.raises(MarkerMissing, match="<!-- end of part -->"):
        between("nothing here\n", "part", "new")
