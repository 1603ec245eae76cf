"""What S3's answers mean."""

from __future__ import annotations

import pytest

from services.runtime.storage.base import NotFound, PreconditionFailed, Refused, StorageError, StorageFull
from services.runtime.storage.s3_errors import InvalidCredentials, NoBucket, from_body, retriable, translate


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "NoSuchKey", NotFound),
        (404, "", NotFound),
        (404, "NoSuchBucket", NoBucket),
        (404, "NoSuchUpload", NotFound),
        (412, "PreconditionFailed", PreconditionFailed),
        (412, "", PreconditionFailed),
        (409, "ConditionalRequestConflict", PreconditionFailed),
        (400, "InvalidPart", PreconditionFailed),
        (403, "QuotaExceeded", StorageFull),
        (400, "XMinioAdminBucketQuotaExceeded", StorageFull),
        (507, "XMinioStorageFull", StorageFull),
        (507, "", StorageFull),
        (403, "AccessDenied", Refused),
        (403, "", Refused),
        (403, "SignatureDoesNotMatch", InvalidCredentials),
        (403, "InvalidAccessKeyId", InvalidCredentials),
        (400, "ExpiredToken", InvalidCredentials),
        (403, "RequestTimeTooSkewed", Refused),
        (400, "EntityTooSmall", Refused),
        (416, "InvalidRange", Refused),
        (501, "NotImplemented", Refused),
        (409, "ObjectParentIsFile", Refused),
        (409, "OperationAborted", StorageError),
        (400, "BadDigest", StorageError),
        (400, "RequestTimeout", StorageError),
        (429, "", StorageError),
        (500, "InternalError", StorageError),
        (503, "SlowDown", StorageError),
        (0, "", StorageError),
    ],
)
def test_an_answer_has_one_meaning(status: int, code: str, expected: type[StorageError]) -> None:
    made = translate(status, code, "Words of the store.", operation="put_object", bucket="media", key="a/b", role="app", upload="u1")
    assert type(made) is expected
    assert "media" in str(made)


def test_a_refusal_names_bucket_operation_role_and_variables() -> None:
    made = translate(403, "AccessDenied", "Access Denied.", operation="put_object", bucket="media", key="a", role="ingest")
    assert str(made) == (
        "'a' in bucket 'media': put_object was refused, the credentials of the role 'ingest' have no right to it "
        "(AccessDenied: Access Denied); see REELWORKS_S3_INGEST_KEY and REELWORKS_S3_INGEST_SECRET"
    )


def test_only_what_may_pass_is_repeated() -> None:
    assert [retriable(status, "") for status in (500, 502, 503, 504, 429, 501, 400, 403, 404, 409, 412)] == [True] * 5 + [False] * 6
    assert retriable(400, "BadDigest")


def test_code_and_message_are_read_from_the_document() -> None:
    assert from_body(b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message> gone </Message></Error>") == ("NoSuchKey", "gone")
    assert from_body(b"\xff not xml") == ("", "")
