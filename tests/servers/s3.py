"""The S3 server of the tests: one that the environment names, else versitygw, else moto.

- Named: `AWS_ENDPOINT_URL_S3`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` (and `AWS_REGION`) with `S3_TEST_BUCKETS=one,two`,
  two buckets in which the tests may write; every test keeps to a prefix of its own.
- versitygw v1.8.0 from PATH or from the cache folder (`$XDG_CACHE_HOME/reelworks/bin`), or built into it where there is Go.
- moto; what it cannot test (`MOTO_LACKS`) is skipped there, each with its reason.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import boto3
import pytest
from botocore.config import Config

from services.runtime.children import ReservedPort
from services.runtime.settings import Settings

VERSION = "v1.8.0"
_START_SECONDS = 30


MOTO_LACKS = {
    "signatures": "moto accepts any signature and expiry",
    "copy conditions": "moto ignores conditions on the source of a copy, and ranges beyond its end",
    "ended uploads": "moto answers 500 to a part of an upload that is over, and does not tie an upload to its key",
    "upload dates": "moto dates every upload to the same day of 2010",
    "cut bodies": "moto answers a bare 400 to a body that was cut",
    "gaps over pages": "moto ends a list of parts after its first page when their numbers have gaps",
    "part checksums": "moto keeps no checksum of a part, and gives that of an object of parts without its type",
    "cross-origin rules": "moto lets pages of every origin read",
}
NAMED_LACKS = {"cross-origin rules": "the rules of a named bucket are its owner's"}


@dataclass(frozen=True)
class S3Server:
    """A server that answers."""

    kind: Literal["named", "versitygw", "moto"]
    endpoint: str
    key: str
    secret: str
    region: str = "us-east-1"
    named_buckets: tuple[str, ...] = ()

    @property
    def lacks(self) -> Mapping[str, str]:
        """What it does not do, with words for the test that is skipped."""
        match self.kind:
            case "named":
                return NAMED_LACKS
            case "moto":
                return MOTO_LACKS
            case "versitygw":
                return {}

    def make_bucket(self) -> str:
        """A new, empty bucket; on a named server the first of its buckets."""
        if self.named_buckets:
            return self.named_buckets[0]
        name = f"test-{uuid.uuid4().hex[:12]}"
        with closing(self.client()) as client:
            client.create_bucket(Bucket=name)
        return name

    def let_read(self, bucket: str, origin: str) -> None:
        """Replace the bucket's CORS rules by the one that docs/operations.md asks for: pages of this origin may read."""
        rule = {"AllowedOrigins": [origin], "AllowedMethods": ["GET", "HEAD"], "AllowedHeaders": ["Range"]}
        with closing(self.client()) as client:
            client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})

    def client(self) -> Any:  # boto3 has no types
        """boto3, for looking from outside of our own code."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            config=Config(s3={"addressing_style": "path"}),
        )

    def settings(self, bucket: str, *others: str) -> Settings:
        """Settings of a process that uses these buckets."""
        return Settings(
            storage_url=f"s3://{bucket}",
            buckets=others,
            s3_endpoint=self.endpoint,
            s3_region=self.region,
            s3_app_key=self.key,
            s3_app_secret=self.secret,
        )


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """The best server that can be had here; what is started is ended."""
    if named := _named():
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="reelworks-s3-") as folder:
        if binary := versitygw():
            yield from _started("versitygw", Path(folder), binary)
        else:
            yield from _started("moto", Path(folder), None)


def versitygw() -> Path | None:
    """The binary, built once where there is Go."""
    if found := shutil.which("versitygw"):
        return Path(found)
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reelworks" / "bin" / "versitygw"
    if cached.exists():
        return cached
    go = shutil.which("go")
    if go is None:
        return None
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=cached.parent) as place:
        built = subprocess.run(
            [go, "install", "-trimpath", "-ldflags", "-s -w", f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"],
            env={**os.environ, "GOBIN": place},
            capture_output=True,
            timeout=900,
        )
        if built.returncode:
            return None
        os.replace(Path(place) / "versitygw", cached)
    return cached


def _named() -> S3Server | None:
    buckets = tuple(b for b in os.environ.get("S3_TEST_BUCKETS", "").split(",") if b)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3", "")
    if not buckets or not endpoint:
        return None
    return S3Server(
        "named",
        endpoint,
        os.environ["AWS_ACCESS_KEY_ID"],
        os.environ["AWS_SECRET_ACCESS_KEY"],
        os.environ.get("AWS_REGION", "us-east-1"),
        buckets,
    )


def _started(kind: Literal["versitygw", "moto"], folder: Path, binary: Path | None) -> Iterator[S3Server]:
    held = ReservedPort()
    port = held.number
    key, secret = "testing-key", "testing-secret"
    if binary is not None:
        for name in ("iam", "versions", "data"):
            (folder / name).mkdir()
        command = [str(binary), "--port", f"127.0.0.1:{port}", "--region", "us-east-1", "--quiet", "--keep-alive", "--health", "/_health"]
        command += ["--iam-dir", str(folder / "iam"), "posix", "--versioning-dir", str(folder / "versions"), str(folder / "data")]
        environment = {**os.environ, "ROOT_ACCESS_KEY": key, "ROOT_SECRET_KEY": secret}
    else:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        environment = dict(os.environ)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            server = S3Server(kind, f"http://127.0.0.1:{port}", key, secret)
            _wait(process, server.endpoint + ("/_health" if binary else "/moto-api/"), folder / "log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            held.close()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except (OSError, http.client.HTTPException):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} did not start: {log.read_text(errors='replace')[-2000:]}") from None
            time.sleep(0.05)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server for the session."""
    with running_s3() as server:
        yield server
