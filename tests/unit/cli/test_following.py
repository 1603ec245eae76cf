"""A job in words."""

from typing import Any

import pytest

from schemas.api import JobView, Problem, TaskCounts
from services.cli import following
from services.cli.exits import Exit
from services.cli.program import run


def job(**fields: Any) -> JobView:
    known: dict[str, Any] = {
        "job_id": "j1", "kind": "transcode", "type": "UploadReceived", "state": "running", "progress": 0.5, "eta_seconds": None,
        "waiting_for": None, "note": "", "title": "Film", "subject": "a1", "owner": "", "tasks": TaskCounts(total=4, done=2, running=1),
        "attempt_count": 0, "attempts": [], "outputs": [], "error": None, "data": {}, "runs": 1, "created_at": "", "updated_at": "",
        "started_at": None, "finished_at": None, "deadline_at": None,
    }  # fmt: skip
    return JobView(**(known | fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "running, 2 of 4 tasks"),
        ({"note": "encoding", "eta_seconds": 12}, "encoding, 2 of 4 tasks, about 12 s to go"),
        ({"waiting_for": "third in line"}, "third in line"),
        ({"attempt_count": 1}, "running, 2 of 4 tasks, 1 failed attempt so far"),
        ({"attempt_count": 2}, "running, 2 of 4 tasks, 2 failed attempts so far"),
    ],
)
def test_what_it_is_doing(fields: dict[str, Any], words: str):
    assert following.describe(job(**fields)) == words


@pytest.mark.parametrize(
    ("fields", "words", "code"),
    [
        ({"state": "succeeded"}, "Film: done", 0),
        ({"state": "cancelled", "title": ""}, "j1: cancelled", 1),
        (
            {"state": "failed", "error": Problem(code="c", message="It is no film.", hint="Send one.")},
            "Film: failed. It is no film. Send one.",
            1,
        ),
        ({"state": "cancelled", "title": "a\x1b[2J\nb\u202e"}, "a [2J b : cancelled", 1),
    ],
)
def test_how_it_ended(fields: dict[str, Any], words: str, code: int):
    assert (following.verdict(job(**fields)), following.exit_code(job(**fields))) == (words, code)


def test_a_title_that_a_terminal_would_obey_is_only_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Neither control characters nor what our own library takes for markup."""
    named = job(title="film [/b] [red]x\x1b[2J\x07.mp4", state="succeeded")

    def answer(gateway: str, ask: object) -> list[JobView]:
        return [named]

    monkeypatch.setattr("services.cli.jobs._with", answer)
    assert run(["jobs", "list"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "film [/b] [red]x" in shown
    assert not set(shown) & {"\x1b", "\x07"}
