"""The gateway under requests made from its own OpenAPI document: sound ones, wrong ones, without a token, with other methods.

The same in each run, and few; services/gateway/README.md has the command for a long one. And what no document can describe: bytes that
are no text, numbers beyond every limit.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from schemas import openapi
from services.runtime.kafka import admin
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.settings import Settings
from tests.servers.processes import Cluster, cluster

pytestmark = pytest.mark.kafka
CONFIG = Path(__file__).with_name("schemathesis.toml")
ROOT = Path(__file__).parents[3]
TOKEN, ZIP_SECRET = "fuzz-token", "fuzz-secret"
EXAMPLES = 4
"""Of each operation, beside those at the limits of each parameter."""
SECONDS = 280


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A gateway with everything that it can be asked for turned on, and a coordinator, so that jobs can be cancelled."""
    folder = tmp_path_factory.mktemp("fuzz")
    with EmbeddedKafka(folder / "kafka", cache=Settings().cache_path()) as broker:
        admin.apply(Settings(bootstrap_servers=broker.bootstrap_servers))
        environment = {
            "REELWORKS_PORT": "0", "REELWORKS_API_TOKEN": TOKEN, "REELWORKS_ZIP_SECRET": ZIP_SECRET,
            "REELWORKS_ARCHIVE_MAX_JOBS": "1000000", "REELWORKS_CALLBACK_ALLOW": "example.org", "REELWORKS_WEBHOOK_SECRET": "fuzz",
        }  # fmt: skip
        with cluster(broker.bootstrap_servers, folder, **environment) as made:
            for key in ("Films/One.hls/output.m3u8", "Films/One.hls/0.ts", "Films/two.mp4"):
                (made.library / key).parent.mkdir(parents=True, exist_ok=True)
                (made.library / key).write_bytes(b"#EXTM3U\n#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n")
            made.coordinator()
            made.service("gateway")
            yield made


@pytest.fixture(scope="module")
def url(services: Cluster) -> str:
    return str(services.processes[1].said("ready", seconds=SECONDS)["url"])


def test_every_operation_answers_as_its_document_says(services: Cluster, url: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/v1/openapi.json",
        "--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-color",
    ]  # fmt: skip
    environment = {**os.environ, "FUZZ_TOKEN": TOKEN, "FUZZ_ZIP_SECRET": ZIP_SECRET, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr + services.tails()
    assert f"{len(openapi.ROUTES) - 1} selected" in done.stdout  # all but the one from which the document came
    assert [p.process.poll() for p in services.processes] == [None, None]


def ask(url: str, method: str, path: str, headers: dict[str, bytes], body: bytes = b"") -> tuple[int, bytes]:
    """A request whose headers are any bytes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in ({"Host": parts.netloc.encode(), "Authorization": f"Bearer {TOKEN}".encode()} | headers).items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


NO_TEXT = b"\xff\xfeab\xc3"
HEADERS = (
    "Host", "Authorization", "Cookie", "Origin", "Idempotency-Key", "X-Title", "Content-Type", "Expect", "Range", "If-Range",
    "If-None-Match", "Last-Event-ID", "Accept", "Accept-Encoding", "traceparent", "X-Forwarded-For", "User-Agent",
)  # fmt: skip
JOB = json.dumps({"type": "CallbackRequested", "data": {"url": "https://example.org/x"}}).encode()
PLACES = (
    ("GET", "/v1/jobs", b""), ("GET", "/v1/jobs/x", b""), ("GET", "/v1/jobs/x/events", b""), ("GET", "/v1/assets", b""), ("GET", "/", b""),
    ("GET", "/v1/folders/Films", b""), ("GET", "/v1/archives?prefix=Films", b""), ("GET", "/metrics", b""), ("GET", "/v1/media/a", b""),
    ("GET", "/v1/assets/x/hls/master.m3u8", b""), ("POST", "/v1/jobs", JOB), ("PUT", "/v1/uploads/a.mp4", b"abc"), ("POST", "/zip", b"{}"),
    ("POST", "/videos", b'{"inputObject":"a","webhook":"https://example.org/x"}'), ("DELETE", "/v1/assets/x", b""),
)  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_is_no_text_is_no_defect(services: Cluster, url: str, header: str) -> None:
    for method, path, body in PLACES:
        for known in (True, False):  # with the token, and as a stranger
            headers = {"Content-Type": b"application/json"} | ({} if known else {"Authorization": b""}) | {header: NO_TEXT}
            status, answer = ask(url, method, path, headers, body)
            assert status < 500, (method, path, answer)
            if status >= 400 and path != "/videos":
                assert b"Traceback" not in answer


def page(text: str) -> str:
    """A listing from a cursor that somebody made up."""
    return "?cursor=" + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


DEEP = b"[" * 5000 + b"]" * 5000
WITHIN = b"[" * 900 + b"]" * 900


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/v1/jobs" + page('[99999999999999999999999,"a"]'), b"", 400),
        ("GET", "/v1/assets" + page('[-99999999999999999999999,"a"]'), b"", 400),
        ("GET", "/v1/jobs" + page("[" * 5000), b"", 400),
        ("GET", "/v1/jobs" + page('[1,"\x00"]'), b"", 400),
        ("GET", "/v1/jobs?limit=%D9%A3", b"", 400),
        ("GET", "/v1/jobs/%00%ED%A0%80%FF", b"", 404),
        ("GET", "/v1/archives?entry=" + quote('{"key":"a","z":' + "[" * 900 + "]" * 900 + "}"), b"", 400),
        ("POST", "/videos", b'{"inputObject":"a","webhook":"https://example.org/x","z":' + DEEP + b"}", 400),
        ("POST", "/v1/jobs/query", b'{"ids":[],"z":' + DEEP + b"}", 400),
        ("POST", "/v1/jobs", b'{"type":"CallbackRequested","data":{"url":"https://example.org/x","cause":{"job_id":"a","kind":"zip",'
         b'"subject":"a","state":"failed","data":{"z":' + WITHIN + b"}}}}", 202),  # `cause` is the coordinator's: it is left out
        ("POST", "/v1/jobs", b'{"type":"UploadReceived","data":{"key":"Films/two.mp4","then":[{"type":"CallbackRequested","data":'
         b'{"url":"https://example.org/x","z":' + WITHIN + b"}}]}}", 400),
        ("POST", "/v1/jobs", JOB.replace(b"https://example.org/x", b"https://example.org/\\ud800"), 400),
        ("POST", "/v1/uploads", b'{"filename":"a","size":' + b"9" * 400 + b"}", 413),
        ("POST", "/v1/uploads", b'{"filename":"a","size":' + b"9" * 9000 + b"}", 400),
        ("PUT", "/v1/uploads/..%2f..%2f%00%E2%80%AE?title=%ED%A0%80%FF%00", b"abc", 202),
    ],
)  # fmt: skip
def test_what_is_beyond_every_limit_is_answered_in_words(
    services: Cluster, url: str, method: str, path: str, body: bytes, expected: int
) -> None:
    status, answer = ask(url, method, path, {"Content-Type": b"application/json"}, body)
    assert status == expected, answer
    if status >= 400:
        told = json.loads(answer)
        assert len((told.get("detail") or told["message"]).split()) >= 4


def test_a_wrong_idempotency_key_is_refused_before_anything_is_removed(services: Cluster, url: str) -> None:
    status, answer = ask(url, "PUT", "/v1/uploads/kept.mp4", {}, b"kept")
    assert status == 202
    asset = json.loads(answer)["asset_id"]
    for key in (b"k" * 256, NO_TEXT):
        assert ask(url, "DELETE", f"/v1/assets/{asset}", {"Idempotency-Key": key})[0] == 400
        assert ask(url, "PATCH", f"/v1/assets/{asset}", {"Idempotency-Key": key, "Content-Type": b"application/json"}, b"{}")[0] == 400
    assert (services.library / f"assets/{asset}/source/kept.mp4").read_bytes() == b"kept"


def test_another_expectation_is_417(services: Cluster, url: str) -> None:
    status, answer = ask(url, "PUT", "/v1/uploads/a.mp4", {"Expect": b"200-ok"}, b"abc")
    assert (status, json.loads(answer)["accepted"]) == (417, "100-continue")
