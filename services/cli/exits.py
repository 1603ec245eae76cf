"""How the program ends, and the errors that decide it. Every error is a sentence."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes. `docs/operations.md` and `reelworks --help` list them."""

    OK = 0
    FAILED = 1
    """The job failed, a check found a fault, topics differ from their declaration."""
    USAGE = 2
    """The command line or a setting is wrong, or what was asked for is refused."""
    UNREACHABLE = 3
    """The gateway, the broker or a download cannot be reached."""
    TIMED_OUT = 4
    """What was waited for did not happen in time; it goes on."""
    NOT_FOUND = 5
    """No such job, file or record."""
    INTERRUPTED = 130
    """Ctrl-C."""


MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "the job failed, a check found a fault, or topics differ",
    Exit.USAGE: "the command line or a setting is wrong, or the request was refused",
    Exit.UNREACHABLE: "the gateway, the broker or a download cannot be reached",
    Exit.TIMED_OUT: "what was waited for did not happen in time (it goes on)",
    Exit.NOT_FOUND: "no such job, file or record",
    Exit.INTERRUPTED: "interrupted",
}


class CommandError(Exception):
    """Ends the program with `code` and this message."""

    code = Exit.FAILED

    def __init__(self, message: str, code: Exit | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class Unreachable(CommandError):
    """Nobody answers."""

    code = Exit.UNREACHABLE


class Refused(CommandError):
    """It was understood and not accepted."""

    code = Exit.USAGE


class TimedOut(CommandError):
    """Waited long enough."""

    code = Exit.TIMED_OUT


class Missing(CommandError):
    """Not there."""

    code = Exit.NOT_FOUND
