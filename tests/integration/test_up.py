"""`reelworks up` as a person or a program uses it: everything real, on this machine."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from services.runtime.media import binaries
from services.runtime.media.process import output_of
from services.runtime.settings import Settings, child_environment

pytestmark = pytest.mark.kafka
START_SECONDS = 120.0
JOB_SECONDS = 120.0


@dataclass
class Up:
    """A running `reelworks up --json`."""

    process: Any
    line: dict[str, Any]
    data: Path

    def run(self, *arguments: str, code: int = 0) -> list[Any]:
        """A command against it, with --json. Answers what it printed; with another code than 0, its error too."""
        environment = child_environment(Settings(bootstrap_servers=self.line["bootstrap_servers"]))
        if arguments[0] in ("submit", "jobs"):
            arguments = (*arguments, "--gateway", self.line["gateway"])
        command = [sys.executable, "-m", "services.cli.main", *arguments, "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=JOB_SECONDS + 30, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return [json.loads(line) for line in (done.stdout + (done.stderr if code else "")).splitlines()]

    def processes(self) -> list[int]:
        """Everything that was started for this data folder, by its command line and environment."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                    alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                except OSError:
                    continue
                if str(self.data).encode() in text and alive:
                    found.append(int(entry.name))
        return found

    def service(self, name: str) -> int:
        """Process id of a service."""
        wanted = ("services.cli.main", "serve", name)
        return next(p for p in self.processes() if all(w in Path(f"/proc/{p}/cmdline").read_text().split("\0") for w in wanted))

    def jvm(self) -> int:
        return next(p for p in self.processes() if "kafka.Kafka" in Path(f"/proc/{p}/cmdline").read_text())

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.line["gateway"] + "/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """Its first answer that counts; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.1)
    return found


def other_than(find: Callable[[], int], former: int) -> int:
    try:
        found = find()
    except (StopIteration, OSError):
        return 0
    return found if found != former else 0


SETTINGS = Settings(callback_allow=("127.0.0.1",), callback_allow_private=True, webhook_secret="any text as a secret")


def start(data: Path) -> Up:
    command = [sys.executable, "-m", "services.cli.main", "up", "--json", "--port", "0", "--data", str(data)]
    with (data.parent / "up.err").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=child_environment(SETTINGS))
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (data.parent / "up.err").read_text()
    return Up(process, json.loads(line), data)


def end(up: Up) -> None:
    if up.process.poll() is None:
        up.process.terminate()
        try:
            up.process.wait(60)
        except subprocess.TimeoutExpired:
            up.process.kill()
            up.process.wait()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    made = start(tmp_path_factory.mktemp("up") / "data")
    yield made
    end(made)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds that move."""
    path = tmp_path_factory.mktemp("clip") / "Ein kurzer Film – ünï.mp4"

    async def make() -> None:
        ffmpeg = (await binaries.find(Settings())).ffmpeg
        source = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=2", "-pix_fmt", "yuv420p"]
        await output_of([ffmpeg, "-loglevel", "error", "-y", *source, str(path)], within=None, timeout=60)

    asyncio.run(make())
    return path


def test_one_line_says_where_everything_is(up: Up):
    assert sorted(up.line) == ["bootstrap_servers", "data", "gateway", "ready"]
    assert (up.line["ready"], up.line["data"]) == (True, str(up.data))
    assert up.line["gateway"].startswith("http://127.0.0.1:")
    assert up.ready()
    assert up.run("topics", "diff") == [[]]


def test_a_file_is_taken_in_and_can_be_played(up: Up, clip: Path):
    accepted, job = up.run("submit", str(clip), "--title", "A short film", "--wait", "--timeout", str(JOB_SECONDS))
    assert (job["job_id"], job["state"], job["title"]) == (accepted["job_id"], "succeeded", "A short film")
    with urllib.request.urlopen(f"{up.line['gateway']}/v1/assets/{accepted['asset_id']}", timeout=10) as answer:
        asset = json.load(answer)
    with urllib.request.urlopen(asset["renditions"][0]["url"], timeout=10) as film:
        assert film.read(8)[4:] == b"ftyp"
    assert accepted["job_id"] in [job["job_id"] for job in up.run("jobs", "list")]
    assert up.run("jobs", "show", accepted["job_id"])[0]["state"] == "succeeded"
    assert up.run("jobs", "wait", accepted["job_id"])[0]["state"] == "succeeded"


def test_a_film_is_taken_in_from_the_web(up: Up, clip: Path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: _Quiet(*given, directory=str(clip.parent)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/{urllib.request.pathname2url(clip.name)}"
        _, job = up.run("submit", url, "--wait", "--timeout", str(JOB_SECONDS))
        assert (job["state"], job["title"]) == ("succeeded", clip.stem)
        [refused] = up.run("submit", url + ".missing", code=3)
        assert "answered 404" in refused["error"]
    finally:
        server.shutdown()
        server.server_close()


def test_an_object_that_is_there_is_taken_in_where_it_is(up: Up, clip: Path):
    (up.data / "library" / "found.mp4").write_bytes(clip.read_bytes())
    _, job = up.run("submit", "s3://library/found.mp4", "--wait", "--timeout", str(JOB_SECONDS))
    assert job["state"] == "succeeded"
    [refused] = up.run("submit", "s3://elsewhere/found.mp4", code=2)
    assert "elsewhere" in refused["error"]


def test_a_file_that_is_no_film_fails_with_words_and_can_be_retried(up: Up, tmp_path: Path):
    text = tmp_path / "notes.mp4"
    text.write_text("these are words\n" * 100)
    accepted, job, *_ = up.run("submit", str(text), "--wait", "--timeout", str(JOB_SECONDS), code=1)
    assert job["state"] == "failed"
    assert job["error"]["message"]
    up.run("jobs", "retry", accepted["job_id"])
    until(lambda: up.run("jobs", "show", accepted["job_id"])[0]["runs"] == 2, 30)
    assert up.run("jobs", "wait", accepted["job_id"], code=1)[0]["state"] == "failed"


def test_an_unknown_job_is_not_found(up: Up):
    [error] = up.run("jobs", "show", "no-such-job", code=5)
    assert error["error"] == "there is no such job; statuses are kept for 30 days (it was 'no-such-job')"


def test_what_cannot_be_read_is_set_aside_and_replayed_once_byte_for_byte(up: Up):
    value, key, headers = b"\xff\x00 not json", b"\x00k", [("ce_type", b"reelworks.UploadReceived"), ("x-raw", b"\xfe")]
    producer = Producer({"bootstrap.servers": up.line["bootstrap_servers"]})
    producer.produce("media.requests", value, key, headers=headers)
    assert producer.flush(30) == 0
    [letter] = until(lambda: up.run("dead-letters", "list"), 30)
    assert (letter["topic"], letter["size"]) == ("media.requests", len(value))
    assert "CloudEvents attribute" in letter["reason"]
    [replayed] = up.run("dead-letters", "replay", letter["id"])
    assert replayed["topic"] == "media.requests"
    [again] = up.run("dead-letters", "replay", letter["id"], code=2)
    assert "was replayed at" in again["error"]
    found = [record for record in _records(up, "media.requests") if record[1] == value]
    assert [record[:2] for record in found] == [(key, value)] * 2
    assert found[0][2] == headers
    assert found[1][2][:2] == headers
    assert dict(found[1][2])["reelworks-replayed-from"] == f"media.dead-letters/{letter['id']}".encode()
    [once_more] = until(lambda: up.run("dead-letters", "list"), 30)  # it is no better the second time
    assert once_more["id"] != letter["id"]


def test_the_old_wire_is_called_back_and_a_busy_receiver_again(up: Up, clip: Path):
    (up.data / "library" / "media" / "private").mkdir(parents=True, exist_ok=True)
    (up.data / "library" / "media" / "private" / "ünï.mov").write_bytes(clip.read_bytes())
    with receiver([503, 204]) as (url, received):
        body = json.dumps({"inputObject": "media/private/ünï.mov", "webhook": url}).encode()
        request = urllib.request.Request(up.line["gateway"] + "/videos", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert (answer.status, json.load(answer)) == (200, {"status": "transcoding"})
        until(lambda: len(received) == 2, JOB_SECONDS)
    (first, one), (second, other) = received
    told = json.loads(one)
    assert sorted(told) == ["inputObject", "outputObject", "status", "thumbnail"]
    assert (told["status"], told["inputObject"]) == ("success", "media/private/ünï.mov")
    # Beside the input, and never the input itself.
    for name, ending, magic in (("outputObject", ".mp4", b"ftyp"), ("thumbnail", ".jpg", b"\xff\xd8")):
        assert told[name].startswith("media/private/ünï")
        assert told[name].endswith(ending)
        assert magic in (up.data / "library" / told[name]).read_bytes()[:8]
    assert (first["webhook-id"], one) == (second["webhook-id"], other)
    signed = f"{second['webhook-id']}.{second['webhook-timestamp']}.".encode() + other
    expected = base64.b64encode(hmac.new(b"any text as a secret", signed, hashlib.sha256).digest()).decode()
    assert second["webhook-signature"] == f"v1,{expected}"
    [job] = until(lambda: [j for j in up.run("jobs", "list", "--type", "CallbackRequested") if j["state"] == "succeeded"], 30)
    assert (job["data"]["http_status"], job["attempt_count"]) == (204, 1)


def test_a_killed_service_is_started_again(up: Up, clip: Path):
    for name in ("gateway", "transcoder"):
        former = up.service(name)
        os.kill(former, signal.SIGKILL)
        until(lambda name=name, former=former: other_than(lambda: up.service(name), former), 30)
    until(up.ready, 60)
    _, job = up.run("submit", str(clip), "--wait", "--timeout", str(JOB_SECONDS))
    assert job["state"] == "succeeded"


def test_a_killed_broker_is_started_again_on_its_port_and_nothing_is_lost(up: Up, clip: Path):
    before = {job["job_id"] for job in up.run("jobs", "list", "--limit", "100")}
    former = up.jvm()
    os.kill(former, signal.SIGKILL)
    until(lambda: other_than(up.jvm, former), 60)

    def taken() -> Any:
        command = [sys.executable, "-m", "services.cli.main", "submit", str(clip), "--json", "--gateway", up.line["gateway"]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    accepted = until(taken, 90)
    assert up.run("jobs", "wait", accepted["job_id"], "--timeout", str(JOB_SECONDS))[0]["state"] == "succeeded"
    assert before <= {job["job_id"] for job in up.run("jobs", "list", "--limit", "100")}


def test_a_second_one_on_the_same_folder_is_refused(up: Up):
    command = [sys.executable, "-m", "services.cli.main", "up", "--port", "0", "--data", str(up.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "another `reelworks up` or `demo` uses" in done.stderr


def test_a_wrong_setting_ends_the_start_with_its_words(tmp_path: Path):
    command = [sys.executable, "-m", "services.cli.main", "up", "--json", "--port", "0", "--data", str(tmp_path / "data")]
    environment = child_environment(Settings(storage_url="ftp://films"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot start: REELWORKS_STORAGE_URL='ftp://films' is not understood" in json.loads(done.stderr.splitlines()[-1])["error"]


def test_the_demo_ends_as_soon_as_its_film_can_be_played(tmp_path: Path):
    command = [sys.executable, "-m", "services.cli.main", "demo", "--once", "--json", "--port", "0", "--data", str(tmp_path / "data")]
    done = subprocess.run(command, env=child_environment(Settings()), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    [shown] = [json.loads(line) for line in done.stdout.splitlines()]
    assert shown["playable"]
    assert shown["watch_url"].startswith(shown["gateway"])
    assert shown["job_seconds"] <= shown["seconds"]
    until(lambda: not Up(None, {}, tmp_path / "data").processes(), 10)  # a grandchild dies a moment after its parent


def test_sigterm_ends_everything_and_the_next_start_knows_what_was(up: Up):
    jobs = {job["job_id"] for job in up.run("jobs", "list", "--limit", "100")}
    assert len(up.processes()) >= 6  # itself, the broker, the gateway, the coordinator, two workers
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0
    assert up.process.stdout is not None
    assert up.process.stdout.read() == ""  # exactly one line was printed
    until(lambda: not up.processes(), 10)
    again = start(up.data)
    try:
        assert {job["job_id"] for job in again.run("jobs", "list", "--limit", "100")} == jobs
        # Killed outright, it takes everything with it, too.
        again.process.kill()
        again.process.wait()
        until(lambda: not again.processes(), 10)
    finally:
        end(again)


def _records(up: Up, topic: str) -> list[tuple[bytes | None, bytes | None, list[Any]]]:
    """Everything on a topic, oldest first."""
    consumer = Consumer({"bootstrap.servers": up.line["bootstrap_servers"], "group.id": "test", "enable.auto.commit": False})
    try:
        places = [TopicPartition(topic, p) for p in consumer.list_topics(topic, timeout=10).topics[topic].partitions]
        ends = {p.partition: consumer.get_watermark_offsets(p, timeout=10) for p in places}
        consumer.assign([TopicPartition(topic, p, low) for p, (low, _) in ends.items()])
        wanted = sum(high - low for low, high in ends.values())
        found = until(lambda: _read(consumer, wanted), 30)
    finally:
        consumer.close()
    return [(m.key(), m.value(), m.headers() or []) for m in sorted(found, key=lambda m: m.timestamp()[1])]


def _read(consumer: Consumer, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count and (message := consumer.poll(5)) is not None:
        if message.error() is None:
            found.append(message)
    return found


@contextmanager
def receiver(answers: list[int]) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A server that answers these, and what it was sent."""
    received: list[tuple[dict[str, str], bytes]] = []

    class Handler(_Quiet):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(answers.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", received
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...
