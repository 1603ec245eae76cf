"""What this package raises."""

from __future__ import annotations


class MediaError(Exception):
    """Root. `code` is for programs, `message` and `hint` for people."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


class BadMedia(MediaError):
    """The input is at fault: the same call would end the same way everywhere."""


class MediaTrouble(MediaError):
    """The machine, the network or a limit of time is at fault: another attempt may succeed."""


class BinaryMissing(MediaError):
    """A program that is needed is not there, or lacks what is needed of it."""


class StreamBroken(Exception):
    """A program's output ended in the middle of something: how the program ended says why."""
