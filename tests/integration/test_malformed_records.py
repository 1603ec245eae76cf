"""A thousand records that nobody should have written, on a real broker, under services that have work to do meanwhile."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec
import pytest

from schemas import topics
from schemas.dead_letters import HEADERS
from schemas.events import Segment, SegmentsReady
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import Record, record
from services.runtime.kafka.reader import Received
from services.runtime.media.presentation import folder_of, init_key, segment_key
from tests.poison import MARK, foreign, poison
from tests.servers.processes import Cluster, cluster, script

pytestmark = pytest.mark.kafka
SEED = 2026
POISON, FOREIGN = 700, 1000
ODD = 40
WAIT_SECONDS = 180.0
BETWEEN = 100
"""Records between two jobs."""
T = TypeVar("T")
Print = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
"""Key, value and headers."""


@pytest.fixture
def services(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Cluster]:
    """What reads those topics: coordinator with its intake, a worker, a gateway, the live app."""
    with cluster(broker.bootstrap_servers, tmp_path, REELWORKS_SLOTS="2", REELWORKS_PORT="0") as made:
        made.coordinator()
        made.scripted()
        made.service("gateway")
        made.service("streamer-live")
        yield made


def gateway_url(services: Cluster) -> str:
    return str(services.processes[2].said("ready", seconds=WAIT_SECONDS)["url"])


def until(look: Callable[[], T], condition: Callable[[T], bool], services: Cluster, seconds: float = WAIT_SECONDS) -> T:
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if condition(found):
            return found
        assert time.monotonic() < deadline, f"it still is {found}\n{services.tails()}"
        time.sleep(0.1)


def as_sent(record: Record) -> Print:
    key = record.key.encode() if isinstance(record.key, str) else record.key
    return key, record.value, tuple((name, value.encode() if isinstance(value, str) else value) for name, value in record.headers)


def as_kept(letter: Received) -> Print:
    return letter.key, letter.value, tuple((name, value) for name, value in letter.headers if name not in HEADERS)


def letters_from(services: Cluster, topic: str) -> list[Received]:
    return [r for r in services.read(topics.DEAD_LETTERS) if dict(r.headers)["reelworks-origin-topic"] == topic.encode()]


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as wrong:
        return wrong.code, wrong.read()


def test_every_poisoned_record_is_set_aside_once_and_the_jobs_between_them_end(services: Cluster) -> None:
    url = gateway_url(services)
    sent: list[Record] = []
    wanted: list[str] = []
    for number, made in enumerate(itertools.islice(poison(SEED), POISON)):
        if number % BETWEEN == 0:
            wanted.append(services.send(script(f"between-{number}", tasks=2), f"between-{number}"))
        services.producer.send(made).result(60)
        sent.append(made)
    wanted.append(services.send(script("behind", tasks=2), "behind"))
    assert [services.end(job, WAIT_SECONDS).state for job in wanted] == ["succeeded"] * len(wanted)

    letters = until(lambda: letters_from(services, topics.REQUESTS), lambda found: len(found) >= POISON, services)
    assert Counter(map(as_kept, letters)) == Counter(map(as_sent, sent))
    assert all(len(dict(letter.headers)["reelworks-reason"].split()) >= 3 for letter in letters)
    origins = {tuple(dict(letter.headers)[f"reelworks-origin-{what}"] for what in ("partition", "offset")) for letter in letters}
    assert len(origins) == POISON
    assert services.processes[0].process.poll() is None
    until(
        lambda: {job["job_id"] for job in json.loads(get(f"{url}/v1/jobs?limit=200")[1])["jobs"]},
        lambda shown: shown >= set(wanted),
        services,
    )


def test_what_a_foreign_hand_writes_anywhere_stops_nobody(services: Cluster) -> None:
    url = gateway_url(services)
    wanted: list[str] = []
    on_job_events = 0
    for number, made in enumerate(itertools.islice(foreign(SEED), FOREIGN)):
        if number % BETWEEN == 0:
            wanted.append(services.send(script(f"among-{number}", tasks=2), f"among-{number}"))
        services.producer.send(made).result(60)
        on_job_events += made.topic == topics.JOB_EVENTS
    wanted.append(services.send(script("after", tasks=2), "after"))
    assert [services.end(job, WAIT_SECONDS).state for job in wanted] == ["succeeded"] * len(wanted)
    letters = letters_from(services, topics.JOB_EVENTS)
    marks = Counter(dict(letter.headers)[MARK] for letter in letters)
    assert 0.4 * on_job_events < len(letters) <= on_job_events
    assert set(marks.values()) == {1}

    until(lambda: json.loads(get(f"{url}/v1/jobs/{wanted[-1]}")[1]), lambda job: job.get("state") == "succeeded", services)
    for path in ("/v1/jobs?limit=200", "/v1/assets?limit=200", "/", "/readyz", "/metrics"):
        assert get(url + path)[0] == 200, path
    for asset in json.loads(get(f"{url}/v1/assets?limit=200")[1])["assets"]:
        for path in ("/v1/assets/", "/watch/"):
            assert get(url + path + quote(asset["asset_id"], safe=""))[0] in (200, 404), asset
    assert [p.process.poll() for p in services.processes] == [None] * 4, services.tails()
    for partition in range(6):  # a record that stops a reader stops it in its own partition
        assert_grows(services, f"film-behind-{partition}", partition)


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed, and no other client here writes such headers")
def test_a_header_whose_name_is_no_text_stops_nobody(services: Cluster) -> None:
    gateway_url(services)
    for topic in (topics.REQUESTS, topics.JOB_EVENTS, topics.SEGMENTS, topics.COMPLETIONS, topics.ASSETS, topics.WORKERS, topics.CONTROL):
        # Many of each: the client's fault shows where the interpreter has made its calls quick.
        command = ["kcat", "-P", "-b", services.settings.bootstrap_servers, "-t", topic, "-p", "0", "-k", "odd", "-H", b"\xff\xfe=x"]
        subprocess.run(command, input=b"an odd header\n" * ODD, check=True, timeout=30)
    for partition in range(6):
        assert_grows(services, f"film-behind-header-{partition}", partition)
    jobs = [services.send(script(f"behind-header-{n}", tasks=1), f"behind-header-{n}") for n in range(12)]
    assert [services.end(job, WAIT_SECONDS).state for job in jobs] == ["succeeded"] * 12
    letters = [r for r in services.read(topics.DEAD_LETTERS) if r.key == b"odd"]
    assert {r.value for r in letters} == {b"an odd header"}
    origins = Counter(dict(letter.headers)["reelworks-origin-topic"] for letter in letters)
    assert origins == {topics.JOB_EVENTS.encode(): ODD, topics.REQUESTS.encode(): ODD}
    assert [p.process.poll() for p in services.processes] == [None] * 4, services.tails()


def assert_grows(services: Cluster, asset: str, partition: int) -> None:
    """The live app writes the playlists of a film of which it hears behind all that."""
    folder = folder_of(asset, "r1")
    keys = init_key(folder, "video-360"), segment_key(folder, "video-360", 0)
    for key in keys:
        (services.library / key).parent.mkdir(parents=True, exist_ok=True)
        (services.library / key).write_bytes(b"x")
    told = SegmentsReady(
        asset_id=asset, job_id="live", bucket="library", recipe="r1", rendition="video-360", init_key=keys[0], codecs="avc1.64001e",
        renditions=("video-360",), width=640, height=360, segments=(Segment(number=0, key=keys[1], duration_seconds=4.0, size=1),),
    )  # fmt: skip
    services.send_raw(msgspec.structs.replace(record(told, asset, source="test"), partition=partition))
    until(lambda: (services.library / folder / "master.m3u8").is_file(), bool, services)
