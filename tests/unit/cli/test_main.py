"""The command line as a whole: exit codes, errors as sentences, JSON."""

import json
from functools import partial

import click
import pytest

from services.cli import program
from services.cli.exits import Exit, Missing
from services.cli.program import COMMANDS, run
from services.runtime.kafka import admin
from services.runtime.settings import SettingsError


def test_help_lists_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]):
    assert run(["--help"]) == Exit.OK
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if f"  {name} " not in shown] == []
    assert "Exit codes: 0 done; 1 the job failed" in shown.replace("\n ", "").replace("  ", " ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]):
    assert run([command, "--help"]) == Exit.OK
    assert "Usage: reelworks" in capsys.readouterr().out


def walk(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        found: list[tuple[str, click.Command]] = []
        for name in command.list_commands(click.Context(command)):
            child = command.get_command(click.Context(command), name)
            assert child is not None
            found += walk(child, f"{path} {name}")
        return found
    return [(path, command)]


def test_every_command_that_answers_something_has_json():
    without = [path for path, command in walk(program.reelworks, "reelworks") if not any("--json" in p.opts for p in command.params)]
    assert without == ["reelworks serve"]  # its output is its log: REELWORKS_LOG_FORMAT=json


def test_an_unknown_command_is_a_wrong_usage(capsys: pytest.CaptureFixture[str]):
    assert run(["dance"]) == Exit.USAGE
    assert "No such command 'dance'" in capsys.readouterr().err


def test_a_wrong_setting_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REELWORKS_PROT", "80")
    assert run(["check"]) == Exit.USAGE
    assert capsys.readouterr().err == "reelworks: unknown setting REELWORKS_PROT; docs/operations.md lists all of them\n"


def test_without_a_broker_the_topics_commands_say_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr(admin, "unreachable", partial(admin.unreachable, timeout=0.2))  # the client asks again until then
    assert run(["topics", "diff", "--json"]) == Exit.UNREACHABLE
    told = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert told["exit_code"] == 3
    assert told["error"].startswith("no Kafka broker answers at 127.0.0.1:1")


def test_without_a_gateway_the_jobs_commands_say_so(capsys: pytest.CaptureFixture[str]):
    assert run(["jobs", "list", "--gateway", "http://127.0.0.1:1"]) == Exit.UNREACHABLE
    assert "no gateway answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]):
    assert run(["submit", "nowhere.mp4"]) == Exit.NOT_FOUND
    assert "there is no file 'nowhere.mp4'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["dancer=1", "transcoder", "transcoder=many", "transcoder=-1", "transcoder=65"])
def test_a_wrong_count_of_workers_is_refused(text: str, capsys: pytest.CaptureFixture[str]):
    assert run(["up", "--workers", text]) == Exit.USAGE
    assert f"--workers {text!r}: accepted is SERVICE=COUNT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (Missing("not there"), 5, "reelworks: not there\n"),
        (SettingsError("no"), 2, "reelworks: no\n"),
        (KeyboardInterrupt(), 130, "reelworks: interrupted\n"),
        (
            ZeroDivisionError("by nought"),
            1,
            "reelworks: this is a defect of Reelworks: ZeroDivisionError: by nought (REELWORKS_LOG_LEVEL=debug shows where)\n",
        ),
    ],
)
def test_errors_are_sentences_and_never_tracebacks(
    wrong: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def fails(**_: object) -> None:
        raise wrong

    monkeypatch.setattr(program.reelworks, "main", fails)
    assert run([]) == code
    assert capsys.readouterr().err == words
