"""The command line: its commands, and how errors become exit codes and sentences."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any

import click
import msgspec

from services.cli.exits import MEANINGS, CommandError, Exit
from services.runtime import settings as settings_module

COMMANDS = {
    "up": ("services.cli.up", "up", "run everything on this machine"),
    "demo": ("services.cli.demo", "demo", "run everything, take a film in, show where it plays"),
    "serve": ("services.cli.serve", "serve", "run one service"),
    "submit": ("services.cli.submit", "submit", "take a film in"),
    "stream": ("services.cli.stream", "stream", "make HLS of a film in storage"),
    "zip": ("services.cli.archive", "make_archive", "make an archive of objects in storage"),
    "jobs": ("services.cli.jobs", "jobs", "list, show, wait for, cancel, retry jobs; their timelines"),
    "topics": ("services.cli.topics", "topics", "compare and make the topics"),
    "dead-letters": ("services.cli.dead_letters", "dead_letters", "list, show, replay what could not be read"),
    "check": ("services.cli.check", "check", "what is configured, what is missing, what to do"),
    "broker": ("services.cli.broker", "broker", "run the embedded Kafka"),
}
"""Module, attribute and help of each command. A module is imported when its command is used: Kafka's client and boto3 take their time."""

EPILOG = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in COMMANDS.items()])


@click.command(cls=_Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="reelworks")
def reelworks() -> None:
    """Turns a bucket of video into a library that people can watch, search and take away.

    Settings come from the environment; docs/operations.md lists them. Every command has --json and --help.
    """
    from services.runtime.telemetry import logging as telemetry

    settings = settings_module.load()
    level = "debug" if settings.log_level == "debug" else "warning"  # a command's output is for people; services set their own
    telemetry.configure(msgspec.structs.replace(settings, log_level=level, log_format="console"), "reelworks")


def run(arguments: list[str]) -> int:
    """Run the command line. Answers the exit code; what went wrong is on stderr."""
    try:
        code: Any = reelworks.main(args=arguments, prog_name="reelworks", standalone_mode=False)
        return code if isinstance(code, int) else Exit.OK
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as wrong:
        if "--json" in arguments:
            return _say(wrong.format_message(), Exit.USAGE, arguments)
        wrong.show()
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", Exit.INTERRUPTED, arguments)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has enough
        return Exit.OK
    except CommandError as wrong:
        return _say(str(wrong), wrong.code, arguments)
    except settings_module.SettingsError as wrong:
        return _say(str(wrong), Exit.USAGE, arguments)
    except Exception as wrong:
        return _unexpected(wrong, arguments)


def _unexpected(wrong: Exception, arguments: list[str]) -> int:
    """Errors of modules that are imported only when they are used, by name; then the defects."""
    known = {
        "KafkaUnavailable": Exit.UNREACHABLE,
        "BrokerUnavailable": Exit.UNREACHABLE,
        "Denied": Exit.USAGE,
        "TopicError": Exit.FAILED,
        "KafkaException": Exit.UNREACHABLE,
    }
    code = known.get(type(wrong).__name__)
    if code is not None:
        error = wrong.args[0] if type(wrong).__name__ == "KafkaException" and wrong.args else None
        # The client's own error is no sentence.
        return _say(str(wrong) if error is None else f"no Kafka broker answers, or not as it should: {error.str()}", code, arguments)
    try:
        debugging = settings_module.load().log_level == "debug"
    except settings_module.SettingsError:
        debugging = False
    if debugging:
        traceback.print_exception(wrong)
    advice = "" if debugging else " (REELWORKS_LOG_LEVEL=debug shows where)"
    return _say(f"this is a defect of Reelworks: {type(wrong).__name__}: {wrong}{advice}", Exit.FAILED, arguments)


def _say(message: str, code: int, arguments: list[str]) -> int:
    if "--json" in arguments:
        sys.stderr.write(msgspec.json.encode({"error": message, "exit_code": int(code)}).decode() + "\n")
    else:
        sys.stderr.write(f"reelworks: {message}\n")
    return int(code)
