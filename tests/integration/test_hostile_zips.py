"""Archives that somebody asks for who means no good, by HTTP and by topic: words, or an archive that anybody may unpack."""

from __future__ import annotations

import hashlib
import io
import json
import time
import unicodedata
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from schemas import envelope, topics
from schemas.events import JobStatus
from services.runtime.archives import names
from services.runtime.kafka import admin
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import Record
from services.runtime.settings import Settings
from tests import trees
from tests.servers.processes import Cluster, cluster

pytestmark = pytest.mark.kafka
CONTENT = {
    "in/a.txt": b"a",
    "in/b.txt": b"b" * 5000,
    "in/caf\u00e9.txt": b"composed",
    "in/cafe\u0301.txt": b"decomposed",
    "in/A.TXT": b"capital",
}
START_SECONDS = 180.0
SECRET = b"nobody may read this"
HOME = "library"
ENTRY = {"key": "in/a.txt"}
DEEP: dict[str, Any] = {"url": "https://example.org/x"}
for _ in range(60):
    DEEP = {"url": "https://example.org/x", "then": [{"type": "CallbackRequested", "data": DEEP}]}


@dataclass
class Case:
    """`http`: the answer to POST /v1/jobs; 202 leaves it to the job. `letter`: the intake refuses it, too.

    `words` are in whatever refuses it; with `names` there is an archive of these instead.
    """

    name: str
    body: dict[str, Any]
    http: int = 202
    letter: bool = False
    words: str = ""
    names: list[str] = field(default_factory=list)


def named(*wanted: str) -> dict[str, Any]:
    return {"entries": [{"key": "in/a.txt", "name": name} for name in wanted]}


CASES = [
    # Names that a reader would unpack somewhere else.
    Case("traversal", named("../../evil"), 400, words="it has the segment '..'"),
    Case("traversal inside", named("a/../../evil"), 400, words="it has the segment '..'"),
    Case("absolute", named("/etc/cron.d/evil"), 400, words="it begins with a slash"),
    Case("drive letter", named("C:evil.exe"), 400, words="it begins with a drive letter"),
    Case("backslashes", named("a\\..\\..\\evil"), 400, words="it holds a backslash"),
    Case("NUL", named("evil.exe\x00.txt"), 400, words="it holds a control character"),
    Case("line feed", named("a\nb"), 400, words="it holds a control character"),
    Case("a folder's name", named("a/"), 400, words="which makes it a folder"),
    Case("an empty segment", named("a//b"), 400, words="it has the segment ''"),
    Case("overlong", named("ü" * 40_000), 400, words="it is 80000 bytes long"),
    Case("overlong, as the contract says", named("x" * 65_536), 400, letter=True, words="`str` of length <= 65535"),
    Case("right to left", named("\u202egpj.exe"), names=["\u202egpj.exe"]),
    # Names that would end up in one file.
    Case("the same twice", named("x.txt", "x.txt", "x (2).txt"), names=["x.txt", "x (3).txt", "x (2).txt"]),
    Case("case", named("readme", "README", "ReadMe"), names=["readme", "README (2)", "ReadMe (3)"]),
    Case("normalisation", {"prefix": "in/caf"}, names=["in/cafe\u0301.txt", "in/caf\u00e9 (2).txt"]),
    Case("a file where a folder is", named("a", "a/b"), names=["a (2)", "a/b"]),
    # Targets.
    Case("target outside", {"target": {"key": "../outside.zip"}, "entries": [ENTRY]}, 400, words="it has the segment '..'"),
    Case("target absolute", {"target": {"key": "/tmp/outside.zip"}, "entries": [ENTRY]}, 400, words="it begins with a slash"),
    Case("target's bucket", {"target": {"key": "x.zip", "bucket": "secrets"}, "entries": [ENTRY]}, 403, words="secrets"),
    Case("target's bucket is a path", {"target": {"key": "x.zip", "bucket": "../.."}, "entries": [ENTRY]}, 403, words="'../..'"),
    Case("an entry itself", {"target": {"key": "in/a.txt"}, "entries": [ENTRY], "if_exists": "replace"}, 400, words="is the "),
    Case(
        "an entry itself, spelt otherwise",
        {"target": {"key": "in/a.txt", "bucket": HOME}, "entries": [ENTRY], "if_exists": "replace"},
        400,
        words="is the ",
    ),
    Case("somebody's object", {"target": {"key": "in/b.txt"}, "entries": [ENTRY]}, 409, words="already"),
    Case(
        "our plans", {"target": {"key": "jobs/x/plan.json"}, "entries": [ENTRY], "if_exists": "replace"}, words="keeps objects of its own"
    ),
    Case("a film", {"target": {"key": "assets/a/x.zip"}, "entries": [ENTRY], "if_exists": "replace"}, words="keeps objects of its own"),
    Case("our checksums", {"target": {"key": "checksums/x"}, "entries": [ENTRY], "if_exists": "replace"}, words="keeps objects of its own"),
    Case(
        "our manifests",
        {"target": {"key": "archives/manifests/x"}, "entries": [ENTRY], "if_exists": "replace"},
        words="keeps objects of its own",
    ),
    Case(
        "its own manifest",
        {"target": {"key": "lists/own.json"}, "manifest": {"key": "lists/own.json"}, "if_exists": "replace"},
        words="the manifest",
    ),
    # What is to go in.
    Case("another bucket", {"entries": [{"key": "secret.txt", "bucket": "secrets"}]}, 403, words="secrets"),
    Case("another bucket's prefix", {"prefix": "s", "bucket": "secrets"}, 403, words="secrets"),
    Case("a key outside", {"entries": [{"key": "../secrets/secret.txt"}]}, 400, words="it has the segment '..'"),
    Case("an encoded key outside", {"entries": [{"key": "%2e%2e/secrets/secret.txt"}]}, words="does not exist"),
    Case("what is not there", {"entries": [ENTRY, {"key": "in/nothing.txt"}]}, words="'in/nothing.txt' in bucket 'library'"),
    Case("what has changed", {"entries": [{"key": "in/a.txt", "etag": "other"}]}, words="its ETag is"),
    Case("a size that is none", {"entries": [{"key": "in/a.txt", "size": -5, "crc32": -1}]}, names=["in/a.txt"]),
    Case("nothing", {}, 400, words=""),
    Case("nothing by a prefix", {"prefix": "no/such/"}, words="begins with 'no/such/'"),
    Case("two ways", {"entries": [ENTRY], "prefix": "in/"}, 400, words="by"),
    Case("all of the bucket", {"prefix": "i"}, names=["in/A.TXT", "in/a (2).txt", "in/b.txt", "in/cafe\u0301.txt", "in/caf\u00e9 (2).txt"]),
    # Lists.
    Case("a million entries", {"manifest": {"key": "lists/million.json"}}, words="1,000,000 objects were selected"),
    Case("a list that is too large", {"manifest": {"key": "lists/large.json"}}, words="has more than 67108864 bytes"),
    Case("a list without an end", {"manifest": {"key": "lists/deep.json"}}, words="cannot be read"),
    Case("a list that is none", {"manifest": {"key": "in/b.txt"}}, words="cannot be read"),
    Case("a list of itself", {"manifest": {"key": "lists/own.json"}}, names=["lists/own.json"]),
    Case("a list that names what is outside", {"manifest": {"key": "lists/outside.json"}}, words="cannot be used"),
    Case("a list that is not there", {"manifest": {"key": "lists/none.json"}}, words="is not there"),
    Case("a list elsewhere", {"manifest": {"key": "list.json", "bucket": "secrets"}}, 403, words="secrets"),
    # What follows.
    Case(
        "sixty that follow upon each other",
        {"entries": [ENTRY], "then": [{"type": "CallbackRequested", "data": DEEP}]},
        400,
        letter=True,
        words="lie within each other",
    ),
    Case(
        "one that follows and is none",
        {"entries": [ENTRY], "then": [{"type": "CancelRequested", "data": {"job_id": "x"}}]},
        400,
        letter=True,
        words="CancelRequested",
    ),
    Case("a method that is none", {"entries": [ENTRY], "method": "rot13"}, 400, letter=True, words="'rot13'"),
    Case("if it exists, perhaps", {"entries": [ENTRY], "if_exists": "append"}, 400, letter=True, words="'append'"),
]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("hostile")
    with EmbeddedKafka(folder / "kafka", cache=Settings().cache_path()) as broker:
        admin.apply(Settings(bootstrap_servers=broker.bootstrap_servers))
        with cluster(broker.bootstrap_servers, folder, REELWORKS_PORT="0", REELWORKS_CALLBACK_ALLOW="example.org") as made:
            fill(made)
            made.coordinator()
            made.service("gateway")
            made.service("zipper", REELWORKS_SLOTS="2")
            made.service("notifier")
            yield made


def fill(services: Cluster) -> None:
    lists: dict[str, Any] = {
        "lists/million.json": [{"key": "in/a.txt"}] * 1_000_000,
        "lists/own.json": [{"key": "lists/own.json"}],
        "lists/outside.json": [{"key": "../secrets/secret.txt"}, {"key": "in/a.txt", "name": "../x"}],
    }
    written = CONTENT | {key: json.dumps(found).encode() for key, found in lists.items()}
    written["lists/deep.json"] = b"[" * 100_000 + b"]" * 100_000
    for key, data in written.items():
        path = services.library / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with (services.library / "lists/large.json").open("wb") as large:
        large.truncate(64 * 1024**2 + 1)
    secrets = services.library.parent / "secrets"
    secrets.mkdir()
    (secrets / "secret.txt").write_bytes(SECRET)


def kept(services: Cluster) -> dict[str, str]:
    """Everything that no archive may change: the objects, and what lies beside the bucket."""
    found: dict[str, str] = {}
    for folder in (services.library / "in", services.library / "lists", services.library.parent / "secrets"):
        for path in trees.files(folder):
            if path.stat().st_size < 32 * 1024**2:
                found[str(path.relative_to(services.folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def outside(services: Cluster) -> set[str]:
    """Files that are neither an archive nor in a folder of ours."""
    own = ("out", "jobs", "archives", "checksums", "in", "lists", "uploads")
    beside = {p.name for p in services.library.parent.iterdir()}
    inside = {p.name for p in services.library.iterdir() if not p.name.startswith(".")} - set(own)
    return inside | {name for name in beside if name not in (HOME, "secrets", "data", "scratch", "kafka") and not name.endswith(".log")}


def gateway_url(services: Cluster) -> str:
    return str(services.processes[1].said("ready", seconds=START_SECONDS)["url"])


def post(url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """What the gateway says of a request; it is sent again when the broker was not quick enough."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    made = urllib.request.Request(f"{url}/v1/jobs", json.dumps(body).encode(), headers)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(made, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as wrong:
            said = json.loads(wrong.read())
            if wrong.code != 503 or time.monotonic() > deadline:
                return wrong.code, said
        time.sleep(1)


def letter_of(services: Cluster, event_id: str) -> str:
    """The reason for which the intake set a request aside."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for letter in services.read(topics.DEAD_LETTERS):
            headers = dict(letter.headers)
            if headers.get("ce_id") == event_id.encode():
                return (headers["reelworks-reason"] or b"").decode()
        time.sleep(0.1)
    raise AssertionError(f"no dead letter of {event_id}\n{services.tails()}")


def check(services: Cluster, case: Case, job: JobStatus, target: str) -> None:
    """The job ended in words, or in an archive that anybody may unpack."""
    archive = services.library / target
    if not case.names:
        assert job.state == "failed", job
        assert job.error is not None
        assert case.words in job.error.message + job.error.hint, job.error
        assert job.error.failure_class == "permanent", job.error
        assert "Traceback" not in job.error.message
        return
    assert (job.state, job.error) == ("succeeded", None)
    body = archive.read_bytes()
    assert SECRET not in body
    opened = zipfile.ZipFile(io.BytesIO(body))
    found = opened.namelist()
    assert sorted(found) == sorted(case.names)
    assert [names.fault(name) for name in found] == [""] * len(found)
    assert len({unicodedata.normalize("NFC", name).casefold() for name in found}) == len(found)
    assert opened.testzip() is None


def body_of(case: Case, way: str) -> tuple[dict[str, Any], str]:
    target = f"out/{way}-{CASES.index(case)}.zip"
    return {"target": {"key": target}} | case.body, target


def test_there_are_at_least_twenty_of_them() -> None:
    assert len({case.name for case in CASES}) >= 40


def test_by_http(services: Cluster) -> None:
    url, before = gateway_url(services), kept(services)
    for case in CASES:
        body, target = body_of(case, "http")
        status, answer = post(url, {"type": "ZipRequested", "data": body})
        assert status == case.http, (case.name, answer)
        if status == 202:
            check(services, case, services.end(answer["job_id"], START_SECONDS), target)
        else:
            assert case.words in answer["detail"] + str(answer.get("value")), (case.name, answer)
            assert len(answer["detail"].split()) >= 4
        assert (services.library / target).exists() == bool(case.names), case.name
    assert kept(services) == before
    assert outside(services) == set()


def test_by_topic(services: Cluster) -> None:
    before = kept(services)
    sent: list[tuple[Case, str, str]] = []
    for number, case in enumerate(CASES):
        body, target = body_of(case, "topic")
        event_id = f"hostile-{number}"
        headers = envelope.headers_for("ZipRequested", source="test", event_id=event_id)
        services.send_raw(Record(topic=topics.REQUESTS, key=None, value=json.dumps(body).encode(), headers=headers))
        sent.append((case, event_id, target))
    for case, event_id, target in sent:
        if case.letter:
            assert case.words in letter_of(services, event_id), case.name
        else:
            check(services, case, services.end(envelope.derived_id("test", event_id), START_SECONDS), target)
        assert (services.library / target).exists() == bool(case.names), case.name
    assert kept(services) == before
    assert outside(services) == set()


def test_more_entries_than_an_event_may_have(services: Cluster) -> None:
    body = {"target": {"key": "out/many.zip"}, "entries": [{"key": f"in/{n}.txt"} for n in range(40_000)]}
    headers = envelope.headers_for("ZipRequested", source="test", event_id="many")
    services.send_raw(Record(topic=topics.REQUESTS, key=None, value=json.dumps(body).encode(), headers=headers))
    assert "store a long list as an object and send its key" in letter_of(services, "many")
    entries = [{"key": "in/a.txt", "name": str(n)} for n in range(200_000)]
    status, answer = post(gateway_url(services), {"type": "ZipRequested", "data": body | {"entries": entries}})
    assert status in (400, 413)
    assert len(answer["detail"].split()) >= 4


INTERNAL = (
    "https://169.254.169.254/latest/meta-data/", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "http://example.org/",
    "file:///etc/passwd", "https://example.org@127.0.0.1/", "https://example.org.evil.test/", "gopher://127.0.0.1:9092/_x",
    "https://2130706433/", "https://0x7f.1/", "https://example.org:99999/",
)  # fmt: skip


def test_nobody_inside_is_called_when_it_has_ended(services: Cluster) -> None:
    url = gateway_url(services)
    for number, internal in enumerate(INTERNAL):
        body = {"target": {"key": f"out/callback-{number}.zip"}, "entries": [ENTRY]}
        status, answer = post(url, {"type": "ZipRequested", "data": body, "callback": {"url": internal}})
        assert (status, bool(answer["detail"])) == (403, True), internal
        follow = {"type": "CallbackRequested", "data": {"url": internal}}
        status, _ = post(url, {"type": "ZipRequested", "data": body | {"then": [follow]}})
        assert status == 403, internal
        headers = envelope.headers_for("ZipRequested", source="test", event_id=f"callback-{number}")
        value = json.dumps(body | {"then": [follow]}).encode()
        services.send_raw(Record(topic=topics.REQUESTS, key=None, value=value, headers=headers))
    for number, internal in enumerate(INTERNAL):
        job_id = envelope.derived_id("test", f"callback-{number}")
        assert services.end(job_id, START_SECONDS).state == "succeeded"
        callback = services.end(envelope.derived_id("reelworks/coordinator", f"{job_id}/1/then/0"), START_SECONDS)
        assert callback.state == "failed", internal
        assert callback.error is not None
        assert callback.error.failure_class == "permanent", (internal, callback.error)
