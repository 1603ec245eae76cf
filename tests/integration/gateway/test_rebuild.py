"""A gateway's view is lost, broken, old, or of another log: its answers become those of the log again, byte for byte."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient

from schemas import envelope, topics
from schemas.events import AssetChanged, Completion, JobFailed, JobStatus, Output
from services.gateway.uploads.archives import saved_as
from services.gateway.views import fold
from services.gateway.views.catalogue import absolute, asset_view, film_of
from services.gateway.views.projection import job_view, waiting_service
from services.gateway.views.queue import explain
from services.gateway.views.statuses import ARCHIVE
from services.gateway.views.store import StoredAsset, StoredCompletion
from services.gateway.views.urls import OutputUrls
from services.runtime.kafka import admin, client
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import EventProducer
from services.runtime.kafka.reader import LogReader
from services.runtime.settings import Settings
from tests.lives import history
from tests.servers.gateway import RunningGateway, run_gateway, settings_for

pytestmark = pytest.mark.kafka
JOBS = 2_000
SAMPLE = 31
"""Every so many of the jobs, and of the assets, are looked at by themselves; lists show all of them."""
ORIGIN = "https://films.example.org"


def fill(bootstrap_servers: str, jobs: int, *, seed: int = 0) -> None:
    producer = EventProducer(Settings(bootstrap_servers=bootstrap_servers))
    try:
        for made in history(jobs, now_s=int(time.time()), seed=seed):
            producer.send(made)
        assert producer.flush(60) == 0
    finally:
        producer.close()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker with a long history, which the tests of this module only read."""
    with EmbeddedKafka(tmp_path_factory.mktemp("history"), cache=Settings().cache_path()) as broker:
        admin.apply(Settings(bootstrap_servers=broker.bootstrap_servers))
        fill(broker.bootstrap_servers, JOBS)
        yield broker


def same_for_all(kafka: str, folder: Path) -> Settings:
    """Settings under which every gateway answers with the same addresses and signatures."""
    return settings_for(
        kafka,
        folder,
        storage_url=f"file://{folder.parent}/media",
        public_url=ORIGIN,
        signing_key="k" * 32,
        signed_url_seconds=7 * 86400,
        playback_seconds=30 * 86400,
    )


class NotNow(Exception):
    """503: the view is being filled."""


async def body(gateway: RunningGateway, path: str) -> bytes:
    async with gateway.http.get(path) as answer:
        text = await answer.text()
        if answer.status == 503 and "this gateway's view of the log" in text:
            raise NotNow
        assert answer.status == 200, (path, text)
        return text.encode()


async def pages(gateway: RunningGateway, what: str) -> list[bytes]:
    found, cursor = list[bytes](), ""
    while True:
        found.append(await body(gateway, f"/v1/{what}?limit=200{cursor}"))
        following = msgspec.json.decode(found[-1])["next_cursor"]
        if following is None:
            return found
        cursor = f"&cursor={following}"


async def answers(gateway: RunningGateway) -> dict[str, bytes]:
    """Everything that is asked for: all jobs and the whole library page by page, and some of each by themselves."""
    found: dict[str, bytes] = {}
    for what, key in (("jobs", "job_id"), ("assets", "asset_id")):
        listed = await pages(gateway, what)
        found |= {f"{what} {number}": page for number, page in enumerate(listed)}
        names = [item[key] for page in listed for item in msgspec.json.decode(page)[what]]
        for name in names[::SAMPLE]:
            found[f"/v1/{what}/{name}"] = await body(gateway, f"/v1/{what}/{name}")
    return found


class Folded:
    """The log, folded here in the simplest way: everything in memory, the last record of a key is what counts."""

    def __init__(self, settings: Settings) -> None:
        self.jobs: dict[str, tuple[JobStatus, int, bytes]] = {}
        self.assets: dict[str, AssetChanged] = {}
        self.completions: dict[str, tuple[str, int, StoredCompletion]] = {}
        reader = LogReader(settings, [topics.JOBS, topics.ASSETS, topics.COMPLETIONS])
        try:
            for received in reader:
                key, value = (received.key or b"").decode(), received.value or b""
                if key.startswith("@"):
                    continue
                if received.topic == topics.JOBS:
                    self.jobs[key] = (envelope.decode(value, JobStatus), received.timestamp_ms, value)
                elif received.topic == topics.ASSETS:
                    self.assets[key] = envelope.decode(value, AssetChanged)
                else:
                    name = envelope.read(received.headers, value).type
                    done = envelope.decode(value, JobFailed if name == "JobFailed" else Completion)
                    self.completions[key] = (done.subject, done.finished_ms, StoredCompletion(name, value))
        finally:
            reader.close()

    def job(self, job_id: str, urls: OutputUrls) -> bytes:
        """As `GET /v1/jobs/{id}` is to answer."""
        waiting = sorted((waiting_service(j), j.created_ms, j.job_id) for j, _, _ in self.jobs.values() if waiting_service(j))
        said = explain(((service, name) for service, _, name in waiting), {})
        status, recorded_ms, _ = self.jobs[job_id]

        def sign(output: Output) -> str:
            return absolute(urls.of(output, filename=saved_as(status.title, output.key) if output.role == ARCHIVE else ""), ORIGIN)

        return msgspec.json.encode(job_view(status, recorded_ms=recorded_ms, sign=sign, waiting_for=said.get(job_id)))

    def asset(self, asset_id: str, urls: OutputUrls, token: Callable[[str], str]) -> bytes:
        """As `GET /v1/assets/{id}` is to answer."""
        decided = self.assets.get(asset_id)
        about = [j for j, _, _ in self.jobs.values() if j.subject == asset_id]
        newest = max((j for j in about if j.kind == "transcode"), key=lambda j: j.created_ms, default=None)
        newest = newest or max((j for j in about if j.kind == "stream"), key=lambda j: j.created_ms, default=None)
        outcomes = sorted((o for o in self.completions.values() if o[0] == asset_id), key=lambda o: o[1])
        created_ms = decided.created_ms if decided else min(j.created_ms for j in about)
        row = StoredAsset(asset_id, created_ms, True, envelope.encode_value(decided) if decided else None)
        film = film_of(row, newest, [o[2] for o in outcomes])
        shown = asset_view(
            film,
            lambda output: absolute(urls.of(output), ORIGIN),
            ORIGIN,
            token=token(asset_id) if film.stream is not None else "",
        )
        return msgspec.json.encode(shown)


def view_file(settings: Settings) -> Path:
    return Path(settings.data_dir) / "gateway-0.sqlite"


def remove(path: Path) -> None:
    path.unlink()


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, and never was one. " * 5_000)


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)


def overwritten(path: Path) -> None:
    """The file begins as it should: that it is broken shows only when its rows are read."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4096 // 8 * 4096)
        file.write(b"\xa5" * (size - size // 4))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def older(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = '3' WHERE name = 'version'")
        db.execute("ALTER TABLE assets DROP COLUMN first_job_ms")
    db.close()


def ahead(path: Path) -> None:
    """As after a loss of data at the broker: the log ends before the place up to which it was read."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE offsets SET next = next + 1000000")
        db.execute("UPDATE jobs SET record = replace(record, 'succeeded', 'failed')")
    db.close()


def slept(path: Path) -> None:
    """Longer than tombstones are kept."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = '1700000000000' WHERE name = 'saved_ms'")
        db.execute("INSERT INTO completions SELECT 'gone', subject, kind, type, finished_ms, record FROM completions LIMIT 1")
    db.close()


async def test_two_gateways_answer_alike_and_as_the_log_says(log: EmbeddedKafka, tmp_path: Path) -> None:
    settings = same_for_all(log.bootstrap_servers, tmp_path / "one")
    async with run_gateway(settings) as gateway, run_gateway(same_for_all(log.bootstrap_servers, tmp_path / "two")) as other:
        answered = await answers(gateway)
        assert await answers(other) == answered
        folded, urls = Folded(settings), OutputUrls(gateway.gateway.storage, life_seconds=settings.signed_url_seconds)
        listed = [msgspec.json.decode(page) for name, page in answered.items() if name.startswith("jobs ")]
        assert {job["job_id"] for page in listed for job in page["jobs"]} == set(folded.jobs)
        for name, answer in answered.items():
            kind, _, identifier = name.rpartition("/")
            if kind == "/v1/jobs":
                assert answer == folded.job(identifier, urls)
            elif kind == "/v1/assets":
                assert answer == folded.asset(identifier, urls, gateway.gateway.catalogue._token)
    for suffix in ("-wal", "-shm"):
        assert not Path(f"{view_file(settings)}{suffix}").exists(), "a gateway that ended leaves one file"


@pytest.mark.parametrize("harm", [remove, garbage, truncated, overwritten, emptied, older, ahead, slept])
async def test_whatever_happens_to_the_view_the_answers_are_the_same_again(
    log: EmbeddedKafka, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    settings = same_for_all(log.bootstrap_servers, tmp_path / "one")
    async with run_gateway(settings) as gateway:
        expected = await answers(gateway)
    assert sum(name.startswith("/v1/jobs/") for name in expected) > JOBS // SAMPLE
    harm(view_file(settings))
    async with run_gateway(settings) as gateway:
        assert await settled(gateway) == expected


async def settled(gateway: RunningGateway) -> dict[str, bytes]:
    """The answers, once none is refused: a broken view says so and is filled again."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return await answers(gateway)
        except NotNow:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
            await gateway.until("/readyz", lambda ready: ready["ok"])


async def test_topics_that_were_made_anew_are_another_log(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    settings = same_for_all(own_kafka.bootstrap_servers, tmp_path / "one")
    fill(own_kafka.bootstrap_servers, 60)
    async with run_gateway(settings) as gateway:
        assert len((await gateway.json("/v1/jobs?limit=200"))["jobs"]) == 60
    broker = AdminClient(client.base(settings))
    for future in broker.delete_topics(list(fold.TOPICS)).values():
        future.result()
    while any(name in broker.list_topics(timeout=10).topics for name in fold.TOPICS):
        time.sleep(0.05)
    admin.apply(settings)
    fill(own_kafka.bootstrap_servers, 30, seed=1)
    async with run_gateway(settings) as gateway, run_gateway(same_for_all(own_kafka.bootstrap_servers, tmp_path / "two")) as other:
        assert await answers(gateway) == await answers(other)
        assert len((await gateway.json("/v1/jobs?limit=200"))["jobs"]) == 30


def test_a_folder_without_a_view_is_as_good_as_one_with_it(tmp_path: Path) -> None:
    """Nothing but the lock and the file lies there, so that deleting the folder is safe advice."""
    from services.gateway.views.store import View

    view = View(tmp_path)
    view.close()
    assert {p.name for p in tmp_path.iterdir()} == {"gateway-0.lock", "gateway-0.sqlite"}
    shutil.rmtree(tmp_path)
    View(tmp_path).close()
