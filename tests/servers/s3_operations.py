"""Which operation of S3 a request is, by the names of the Amazon S3 API reference. Pure; for paths of the form /bucket/key."""

from __future__ import annotations

from collections.abc import Container
from urllib.parse import parse_qsl, urlsplit


def operation_of(method: str, target: str, headers: Container[str]) -> str:
    """`headers`: their names in small letters. What is no operation that is known here is named by its method."""
    url = urlsplit(target)
    query = {name for name, _ in parse_qsl(url.query, keep_blank_values=True)}
    has_key = bool(url.path.strip("/").partition("/")[2])
    return (_of_object if has_key else _of_bucket)(method, query, "x-amz-copy-source" in headers)


def _of_object(method: str, query: set[str], copy: bool) -> str:
    match method:
        case "GET":
            return "GetObjectAttributes" if "attributes" in query else "ListParts" if "uploadId" in query else "GetObject"
        case "HEAD":
            return "HeadObject"
        case "PUT" if "uploadId" in query:
            return "UploadPartCopy" if copy else "UploadPart"
        case "PUT":
            return "CopyObject" if copy else "PutObject"
        case "POST":
            return "CompleteMultipartUpload" if "uploadId" in query else "CreateMultipartUpload"
        case "DELETE":
            return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
        case _:
            return method


def _of_bucket(method: str, query: set[str], copy: bool) -> str:
    match method:
        case "GET":
            return "ListMultipartUploads" if "uploads" in query else "ListObjectsV2" if "list-type" in query else method
        case "HEAD":
            return "HeadBucket"
        case "PUT":
            return "CreateBucket"
        case "POST" if "delete" in query:
            return "DeleteObjects"
        case _:
            return method
