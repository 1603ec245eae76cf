"""`docs/operations.md` lists every setting and exit code as the program has them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from schemas.markers import MarkerMissing
from services.cli import docs
from services.cli.exits import Exit
from services.runtime.settings import SECRETS, Settings, variable


def rows(table: str) -> dict[str, list[str]]:
    """First cell, without its quotes, to the others."""
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in found}


def test_every_setting_is_there_once_with_words() -> None:
    table = rows(docs.settings_table())
    assert list(table) == [variable(field.name) for field in msgspec.structs.fields(Settings)]
    assert all(cells[-1] for cells in table.values())


def test_secrets_are_marked() -> None:
    table = rows(docs.settings_table())
    assert {name for name, cells in table.items() if "Secret" in cells[-1]} == {variable(name) for name in SECRETS}


def test_defaults_and_limits_are_those_of_the_settings() -> None:
    table = rows(docs.settings_table())
    assert table["REELWORKS_PORT"][:2] == ["`8080`", "whole number ≥ 0, ≤ 65535"]
    assert table["REELWORKS_GROUP_PROTOCOL"][:2] == ["`consumer`", "`consumer`, `classic`"]
    assert table["REELWORKS_CALLBACK_ALLOW_PRIVATE"][:2] == ["`false`", "`true`, `false`"]
    assert table["REELWORKS_BUCKETS"][:2] == ["", "list, with commas"]
    assert table["REELWORKS_IDLE_TIMEOUT_SECONDS"][:2] == ["`60.0`", "number > 0"]


def test_every_exit_code_has_its_meaning() -> None:
    for code in Exit:
        assert f"| {code.value} | " in docs.exit_table()


def test_the_committed_document_is_up_to_date() -> None:
    text = docs.DOCUMENT.read_text(encoding="utf-8")
    assert docs.render(text) == text


def test_the_check_fails_on_an_edited_table_and_says_what_mends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    copy = tmp_path / "operations.md"
    copy.write_text(docs.DOCUMENT.read_text(encoding="utf-8").replace("| `8080` |", "| `80` |"), encoding="utf-8")
    monkeypatch.setattr(docs, "DOCUMENT", copy)
    assert docs.main(["--check"]) == 1
    assert "run `make generate`" in capsys.readouterr().err
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0


def test_a_document_without_the_marks_is_an_error() -> None:
    with pytest.raises(MarkerMissing, match="end of settings"):
        docs.render("# Operations\n")
