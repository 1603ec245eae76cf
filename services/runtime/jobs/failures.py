"""What a handler raises. It never decides about retries: the class does, in the coordinator's policy."""

from __future__ import annotations

import asyncio
import errno

import msgspec

from schemas.events import ErrorInfo, FailureClass
from services.runtime.storage.base import NotFound, PreconditionFailed, Refused, StorageError, StorageFull


class TaskError(Exception):
    """Root. `code` is for programs, `message` and `hint` for people."""

    failure_class: FailureClass = "transient"

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint

    def info(self) -> ErrorInfo:
        """As it travels."""
        return ErrorInfo(code=self.code, message=self.message[:2000], hint=self.hint[:500], failure_class=self.failure_class)


class Permanent(TaskError):
    """The input is at fault; another attempt would end the same way."""

    failure_class: FailureClass = "permanent"


class Transient(TaskError):
    """Store, network, machine: another attempt may succeed."""

    failure_class: FailureClass = "transient"


class Cancelled(TaskError):
    """The job was cancelled while the task ran."""

    failure_class: FailureClass = "cancelled"

    def __init__(self, message: str = "the job was cancelled") -> None:
        super().__init__("cancelled", message)


class TimedOut(TaskError):
    """The task's hard deadline passed."""

    failure_class: FailureClass = "timed-out"


class ScratchFull(Transient):
    """The task wanted more scratch space than its quota, or the disk has none left."""


def classify(error: BaseException) -> ErrorInfo:
    """What to say of any exception that left a handler."""
    match error:
        case TaskError():
            return error.info()
        case NotFound():
            return Permanent("object-missing", str(error), "Was it deleted or renamed after the request?").info()
        case PreconditionFailed():
            return Permanent("object-changed", str(error), "Send the request again for the object as it is now.").info()
        case Refused():
            return Permanent("storage-refused", str(error), "Name a bucket and a key that the services may use.").info()
        case StorageFull():
            return Transient("storage-full", str(error), "Make room in the store, then retry the job.").info()
        case StorageError():
            return Transient("storage", str(error)).info()
        case TimeoutError() | asyncio.CancelledError():
            return TimedOut("timed-out", str(error) or "it took too long").info()
        case msgspec.ValidationError() | msgspec.DecodeError():
            return Permanent("malformed", str(error)).info()
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            words = f"no space is left on the disk of {error.filename}" if error.filename else "no space is left on a disk of this worker"
            return ScratchFull("disk-full", words, "Free some space, or set REELWORKS_SCRATCH_DIR.").info()
        case MemoryError() | OSError():
            return Transient("machine", f"{type(error).__name__}: {error}").info()
        case _:
            return Transient(
                "unexpected",
                f"{type(error).__name__}: {error}",
                "This is a defect of Reelworks; its log has the traceback.",
            ).info()
