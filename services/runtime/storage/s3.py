"""S3's control calls and presigned URLs, by boto3 in threads; the only place that knows it. Bytes go by `s3_bytes.py`."""

from __future__ import annotations

import base64
import hashlib
import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import boto3.session
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSHTTPConnection, AWSHTTPSConnection, AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from services.runtime.settings import Settings
from services.runtime.storage.base import Refused, StorageError
from services.runtime.storage.roles import Role
from services.runtime.storage.s3_errors import REPEATED, translate
from services.runtime.storage.threads import in_thread

# Control calls are short; more threads than this would only wait for the same store.
_THREADS = 16
# What a request that succeeded is told when it is repeated because its answer was lost.
_AFTER_SUCCESS = ("NoSuchUpload", "PreconditionFailed")
_BACKBLAZE = "before-sign.s3.DeleteObjects"


class _WholeHead(http.client.HTTPResponse):
    """An answer whose connection ended within its head is no answer.

    http.client takes the end of the stream for the end of the head, and what there is of it for all: a HEAD that was cut would
    be an object without a date, or of a size of which the last digits are missing.
    """

    def begin(self) -> None:
        lines = _LastLine(self.fp)
        self.fp = lines  # type: ignore[assignment]  (all that `begin` does with it is to read lines)
        try:
            super().begin()
        finally:
            if not self.isclosed():
                self.fp = lines.stream
        if lines.last == b"":
            self.close()
            raise http.client.RemoteDisconnected("the connection ended within the head of the answer")


class _LastLine:
    """A stream that is read by lines, and the last of them."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.last = stream, b"\n"

    def readline(self, limit: int = -1) -> bytes:
        self.last = self.stream.readline(limit)
        return self.last

    def close(self) -> None:
        self.stream.close()


# botocore, which sends all requests of this module, has no other place to say so.
AWSHTTPConnection.response_class = AWSHTTPSConnection.response_class = _WholeHead


class S3Control:
    """Clients of each role. `role` is the one whose credentials this process's own requests use."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self.role: Role = role
        self.endpoint = settings.s3_endpoint
        self._settings = settings
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._session = boto3.session.Session()
        """Where no keys are set, it looks where boto3 always does: profile, role of the machine."""
        self._addresses: dict[str, str] = {}
        """Where the keys of a bucket begin."""
        self._making = threading.Lock()

    async def call(self, operation: str, *, bucket: str, key: str = "", role: Role | None = None, upload: str = "", **more: Any) -> Any:
        """One request, named as boto3's method; repeated by botocore on 5xx and broken connections. Raises StorageError's kinds."""
        return await in_thread(self._executor, self._call, operation, bucket, key, role or self.role, upload, more)

    async def presigned(self, operation: str, parameters: dict[str, Any], seconds: int) -> str:
        """A URL for this process's own bytes."""
        return await in_thread(self._executor, self.presign, operation, parameters, seconds)

    async def presigned_get(self, bucket: str, key: str, seconds: int) -> str:
        """As `presigned("get_object", …)`, by botocore's signer alone: who reads thousands of small objects feels the difference."""
        base = self._addresses.get(bucket)
        if base is None:
            # Where a bucket is, is decided by rules that take longer than all else; it is the same for every key.
            made = await self.presigned("get_object", {"Bucket": bucket, "Key": "key"}, seconds)
            base = self._addresses[bucket] = made.partition("?")[0].removesuffix("key")

        def sign() -> str:
            request = AWSRequest(method="GET", url=base + quote(key, safe="/~"))
            signer = S3SigV4QueryAuth(self._credentials(self.role), "s3", self._settings.s3_region, expires=seconds)
            signer.add_auth(request)
            return str(request.url)

        # Credentials of a machine's role may have to be fetched again.
        return sign() if self._keys(self.role)[0] else await in_thread(self._executor, sign)

    async def presigned_body(self, operation: str, parameters: dict[str, Any], data: bytes, seconds: int) -> tuple[str, str, str]:
        """A URL that accepts exactly these bytes, the header Content-MD5 that belongs to it, and the digest in hex.

        Without a signed digest a store may keep a body that was cut on the way. MD5 is the one that all stores verify:
        Backblaze B2 rejects the newer x-amz-checksum-* headers.
        """

        def make() -> tuple[str, str, str]:
            digest = hashlib.md5(data, usedforsecurity=False)
            md5 = base64.b64encode(digest.digest()).decode()
            return self.presign(operation, {**parameters, "ContentMD5": md5}, seconds), md5, digest.hexdigest()

        return await in_thread(self._executor, make)

    def presign(self, operation: str, parameters: dict[str, Any], seconds: int, *, role: Role | None = None, public: bool = False) -> str:
        """A presigned URL. Raises Refused where the role has no credentials."""
        try:
            return self._client(role or self.role, public).generate_presigned_url(operation, Params=parameters, ExpiresIn=seconds)
        except (NoCredentialsError, BotoCoreError, ClientError) as wrong:
            raise Refused(f"a URL for {operation} cannot be signed by the role {role or self.role!r}: {wrong}") from wrong

    def is_separate(self, role: Role) -> bool:
        """Whether a role has credentials of its own."""
        return role == "app" or self._keys(role) != self._keys("app")

    def _call(self, operation: str, bucket: str, key: str, role: Role, upload: str, more: dict[str, Any]) -> Any:
        parameters: dict[str, Any] = {"Bucket": bucket, **more}
        if key:
            parameters["Key"] = key
        if upload:
            parameters["UploadId"] = upload
        try:
            return getattr(self._client(role, public=False), operation)(**parameters)
        except ClientError as wrong:
            answer: Any = wrong.response
            meta, error = answer.get("ResponseMetadata", {}), answer.get("Error", {})
            code = str(error.get("Code", ""))
            made = translate(
                int(meta.get("HTTPStatusCode", 0)),
                "" if code.isdigit() else code,
                str(error.get("Message", "")),
                operation=operation,
                bucket=bucket,
                key=key,
                role=role,
                upload=upload,
            )
            if code in _AFTER_SUCCESS and meta.get("RetryAttempts", 0):
                made.add_note(REPEATED)
            raise made from wrong
        except NoCredentialsError:
            raise Refused(
                f"bucket {bucket!r}: there are no credentials for the role {role!r}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        except BotoCoreError as wrong:
            raise StorageError(f"bucket {bucket!r}: {operation} failed: {wrong}") from wrong

    def _keys(self, role: Role) -> tuple[str, str, str]:
        s = self._settings
        app = (s.s3_app_key, s.s3_app_secret, s.s3_session_token)
        match role:
            case "ingest":
                return (s.s3_ingest_key, s.s3_ingest_secret, "") if s.s3_ingest_key else app
            case "delivery":
                return (s.s3_delivery_key, s.s3_delivery_secret, "") if s.s3_delivery_key else app
            case "app":
                return app

    def _client(self, role: Role, public: bool) -> Any:
        key, secret, token = self._keys(role)
        endpoint = (self._settings.s3_public_endpoint if public else "") or self._settings.s3_endpoint
        with self._making:
            made = self._clients.get((key, token, endpoint))
            if made is None:
                made = self._clients[key, token, endpoint] = _make(self._session, self._settings.s3_region, endpoint, key, secret, token)
        return made

    def _credentials(self, role: Role) -> Any:
        """As they are now. Raises Refused where there are none."""
        key, secret, token = self._keys(role)
        if key:
            return Credentials(key, secret, token or None)
        found = self._session.get_credentials()
        if found is None:
            raise Refused(f"the role {role!r} has no credentials")
        return found.get_frozen_credentials()

    def close(self) -> None:
        """End the clients' connections; the next use opens new ones."""
        with self._making:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def _make(session: boto3.session.Session, region: str, endpoint: str, key: str, secret: str, token: str) -> Any:
    """A client. Without a key it has the session's credentials."""
    client = session.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint or None,
        aws_access_key_id=key or None,
        aws_secret_access_key=secret or None,
        aws_session_token=token or None,
        config=Config(
            signature_version="s3v4",
            # Names of buckets are not names of hosts anywhere but at Amazon.
            s3={"addressing_style": "path" if endpoint else "auto"},
            # B2 and others reject the newer default checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": 4},
            # A store that does not take a connection within seconds is down.
            connect_timeout=5,
            # A copy or a completion of many parts is answered late.
            read_timeout=120,
            max_pool_connections=_THREADS,
            tcp_keepalive=True,
        ),
    )
    client.meta.events.register(_BACKBLAZE, _digest_as_md5)
    return client


def _digest_as_md5(request: Any, **_: Any) -> None:
    """DeleteObjects requires a digest. Give the one that every store knows."""
    for name in [n for n in request.headers if n.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum-"))]:
        del request.headers[name]
    digest = hashlib.md5(request.data, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()
