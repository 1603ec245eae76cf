"""What S3 answers, as errors of storage. Pure; the codes are those of the Amazon S3 API reference, "List of error codes"."""

from __future__ import annotations

import re

from services.runtime.storage.base import NotFound, PreconditionFailed, Refused, StorageError, StorageFull

REPEATED = "an earlier attempt had no answer"
"""Note on an error: that attempt may have succeeded."""


class NoBucket(NotFound):
    """The bucket itself is missing."""


class InvalidCredentials(Refused):
    """The key or its secret is wrong, or their time is over."""


_CREDENTIALS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidSecurity", "TokenRefreshRequired"}
)
_CHANGED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "InvalidPart"})
# versitygw keeps objects as files; no object can lie below another there.
_SIDE_BY_SIDE = frozenset({"ObjectParentIsFile", "ExistingObjectIsDirectory", "DirectoryObjectContainsData"})
# Damaged or slow on the way: the next attempt may arrive whole.
_AGAIN = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "RequestTimeout",
        "SlowDown",
        "OperationAborted",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
    }
)
# Ceph, MinIO of a bucket, MinIO of its disks. Amazon's has neither quota nor end.
_FULL = frozenset({"QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "InsufficientCapacity"})
_TAG = r"<{0}>\s*([^<]*?)\s*</{0}>"


def retriable(status: int, code: str) -> bool:
    """Whether the same request may succeed in a moment."""
    return (status >= 500 and status not in (501, 507)) or status == 429 or code in _AGAIN


def from_body(body: bytes) -> tuple[str, str]:
    """Code and message of an error document; empty where there is none."""
    text = body.decode("utf-8", "replace")
    code, message = (re.search(_TAG.format(tag), text) for tag in ("Code", "Message"))
    return (code.group(1) if code else ""), (message.group(1) if message else "")


def translate(
    status: int, code: str, message: str, *, operation: str, bucket: str, key: str = "", role: str = "app", upload: str = ""
) -> StorageError:
    """The error that stands for an answer. `role` is the one whose credentials were used."""
    where = f"{key!r} in bucket {bucket!r}" if key else f"bucket {bucket!r}"
    said = f"{code or f'HTTP {status}'}{': ' + message.rstrip('.') if message else ''}"
    if code == "NoSuchBucket":
        return NoBucket(f"there is no bucket {bucket!r} ({operation})")
    if code == "NoSuchUpload":
        return NotFound(f"no multipart upload {upload!r} of {key!r} is under way in bucket {bucket!r}")
    if code in _CHANGED or status == 412:
        return PreconditionFailed(f"{where}: {said} ({operation}); it exists already or is not the one that was meant")
    if code == "RequestTimeTooSkewed":
        return Refused(f"{where}: {operation} was refused, this machine's clock is wrong ({said})")
    if code in _FULL or status == 507:
        return StorageFull(f"{where} could not be stored: the store has no room for it ({said}; {operation})")
    if code in _CREDENTIALS or status == 401:
        return InvalidCredentials(
            f"{where}: {operation} was refused, the credentials of the role {role!r} are not valid ({said}); {_variables(role)}"
        )
    if status == 403:
        return Refused(
            f"{where}: {operation} was refused, the credentials of the role {role!r} have no right to it ({said}); {_variables(role)}"
        )
    if status == 404:
        return NotFound(f"no object {where}") if key else NoBucket(f"there is no bucket {bucket!r} ({operation})")
    if code in _SIDE_BY_SIDE:
        return Refused(f"{where} cannot be stored: this store cannot hold an object and objects below it ('a' and 'a/b') side by side")
    if retriable(status, code) or status == 409:
        return StorageError(f"{where}: {operation} failed ({said})")
    if 400 <= status < 500 or status == 501:
        return Refused(f"{where}: {operation} was refused ({said})")
    return StorageError(f"{where}: {operation} failed ({said})")


def _variables(role: str) -> str:
    match role:
        case "ingest" | "delivery":
            return f"see REELWORKS_S3_{role.upper()}_KEY and REELWORKS_S3_{role.upper()}_SECRET"
        case _:
            return "see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
