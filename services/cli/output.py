"""What commands print: results on stdout, words about them on stderr; with --json one JSON document a line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console

PIPE_COLUMNS = 200
"""Where no terminal says how wide it is, nothing is cut off."""
F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """Gives a command the flag `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document a line, for programs.")(command)


def print_json(value: Any) -> None:
    """One line of JSON on stdout, at once."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def plain(text: str) -> str:
    """Somebody's words in one line, without what a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)


def console() -> Console:
    """For people, on stdout."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def notes() -> Console:
    """For people, on stderr, so that stdout stays what was asked for."""
    return Console(stderr=True, highlight=False, soft_wrap=True)
