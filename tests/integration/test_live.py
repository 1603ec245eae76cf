"""Playlists that grow while a film is being encoded: the live app on real Kafka, killed, stopped, and overtaken."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import envelope, topics
from schemas.events import PlaylistChanged, StreamReady
from services.runtime.kafka.local import EmbeddedKafka
from services.runtime.kafka.producer import Record, record
from services.runtime.media.presentation import folder_of, init_key, segment_key
from tests import trees
from tests.servers.kafka import gone
from tests.servers.processes import SERVICE, Cluster, Process, cluster
from tests.unit.streamer.segments import ALL, HIGH, LOW, RECIPE, SOUND, listed, ready

pytestmark = pytest.mark.kafka
COUNT = 12


@pytest.fixture
def servers(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(broker.bootstrap_servers, tmp_path) as made:
        yield made


def live(servers: Cluster, **options: Any) -> Process:
    return servers.start([*SERVICE, "streamer-live"], "live", **options)


class Film:
    """A film that is being encoded, and somebody who watches its playlists all the time.

    Each version of a playlist must begin with what was in the one before, and every segment in it must be in storage.
    """

    def __init__(self, servers: Cluster, asset_id: str) -> None:
        self.servers, self.asset_id = servers, asset_id
        self.folder = servers.library / folder_of(asset_id, RECIPE)
        self.versions: dict[str, list[str]] = {}
        self.faults: list[str] = []
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Film:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watcher.join(10)
        assert self.faults == []

    def encoded(self, rendition: str, *numbers: int, **options: Any) -> None:
        """Segments are in storage, and that is told."""
        for key in (init_key(folder_of(self.asset_id, RECIPE), rendition), *(self._segment(rendition, n) for n in numbers)):
            path = self.servers.library / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"media")
        self.told(rendition, *numbers, **options)

    def told(self, rendition: str, *numbers: int, **options: Any) -> None:
        """That is told (again)."""
        event = ready(self.asset_id, rendition, numbers, total=COUNT, **options)
        self.servers.send_raw(record(event, self.asset_id, source="test", topic=topics.SEGMENTS))

    def now(self, name: str) -> str:
        """The newest version of a playlist, by its name below the film's folder."""
        return self.versions.get(name, [""])[-1]

    def segments(self, rendition: str) -> list[str]:
        return listed(self.now(f"{rendition}/index.m3u8"))

    def until(self, condition: Callable[[], bool], seconds: float = 120.0) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                shown = {name: (len(listed(texts[-1])), len(texts)) for name, texts in self.versions.items()}
                raise AssertionError(f"after {seconds} s there is {shown}\n{self.servers.tails()}")

    def until_listed(self, rendition: str, count: int, seconds: float = 120.0) -> None:
        self.until(lambda: self.segments(rendition) == names(count), seconds)

    def _segment(self, rendition: str, number: int) -> str:
        return segment_key(folder_of(self.asset_id, RECIPE), rendition, number)

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            for path in [path for path in trees.files(self.folder) if path.suffix == ".m3u8"]:
                self._see(str(path.relative_to(self.folder)), path.read_text(), path.parent)

    def _see(self, name: str, text: str, folder: Path) -> None:
        versions = self.versions.setdefault(name, [])
        if versions and versions[-1] == text:
            return
        if versions and listed(text)[: len(listed(versions[-1]))] != listed(versions[-1]):
            self.faults.append(f"{name} shrank:\n{versions[-1]}\n{text}")
        self.faults += [f"{name} lists {segment}, which is missing" for segment in listed(text) if not (folder / segment).exists()]
        with self._changed:
            versions.append(text)
            self._changed.notify_all()


@pytest.fixture
def film(servers: Cluster, request: pytest.FixtureRequest) -> Iterator[Film]:
    with Film(servers, request.node.name.replace("[", "-").strip("]")) as made:
        yield made


def names(count: int) -> list[str]:
    return [f"{n:05d}.m4s" for n in range(count)]


def told(servers: Cluster, topic: str, kind: type[Any], asset_id: str) -> list[tuple[str, Any]]:
    """Key and event of each record about an asset."""
    found: list[tuple[str, Any]] = []
    for received in servers.read(topic):
        sent = envelope.read(received.headers, received.value)
        if sent.type == kind.__name__ and envelope.decode(sent.data, kind).asset_id == asset_id:
            found.append(((received.key or b"").decode(), envelope.decode(sent.data, kind)))
    return found


def rows(servers: Cluster, asset_id: str) -> dict[str, bytes]:
    """What the table's changelog says of an asset."""
    kept: dict[str, bytes] = {}
    for received in servers.read(topics.LIVE_TABLE):
        key = (received.key or b"").decode()
        if key.startswith(f"{asset_id}/"):
            kept.pop(key, None)
            if received.value is not None:
                kept[key] = received.value
    return kept


def test_it_says_when_it_is_ready_and_ends_in_order(servers: Cluster, tmp_path: Path) -> None:
    process = live(servers, REELWORKS_METRICS_PORT="0", REELWORKS_RUN_DIR=str(tmp_path / "run"))
    _until(lambda: _answers(tmp_path, "readyz") == 200, servers)
    assert (_answers(tmp_path, "healthz"), _answers(tmp_path, "metrics")) == (200, 200)
    assert process.stop() == 0
    assert list((tmp_path / "run").iterdir()) == []


def _answers(folder: Path, path: str) -> int:
    told = [json.loads(file.read_text()) for file in (folder / "run").glob("*.json")]
    if not told:
        return 0
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{told[0]['port']}/{path}") as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_playlists_grow_in_order_whatever_the_order_of_events(servers: Cluster, film: Film) -> None:
    live(servers)
    film.encoded(SOUND, 0, 1, 2)
    film.encoded(HIGH, 3, 2)
    film.encoded(LOW, 1)
    film.until_listed(SOUND, 3)
    assert "master.m3u8" not in film.versions
    film.encoded(LOW, 0)
    film.encoded(HIGH, 0)
    film.until(lambda: film.now("master.m3u8") != "")
    assert [line for line in film.now("master.m3u8").splitlines() if not line.startswith("#")] == [
        f"{HIGH}/index.m3u8",
        f"{LOW}/index.m3u8",
    ]
    assert f'URI="{SOUND}/index.m3u8"' in film.now("master.m3u8")
    film.told(HIGH, 0)
    film.encoded(HIGH, 1)
    film.until_listed(HIGH, 4)
    film.until_listed(LOW, 2)
    film.until_listed(SOUND, 3)
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in film.now(f"{HIGH}/index.m3u8")
    assert "#EXT-X-ENDLIST" not in film.now(f"{HIGH}/index.m3u8")
    assert len(film.versions["master.m3u8"]) == 1


def test_it_is_told_what_changed_and_that_the_film_can_be_watched(servers: Cluster, film: Film) -> None:
    process = live(servers)
    for rendition in ALL:
        film.encoded(rendition, 0, iv="0123456789abcdef0123456789abcdef")
    film.until(lambda: film.now("master.m3u8") != "")
    film.encoded(HIGH, 1, iv="0123456789abcdef0123456789abcdef")
    film.until_listed(HIGH, 2)
    assert process.stop() == 0
    folder = folder_of(film.asset_id, RECIPE)
    ((key, event),) = told(servers, topics.COMPLETIONS, StreamReady, film.asset_id)
    assert key == f"{film.asset_id}:stream:progressive"
    assert (event.job_id, event.subject, event.kind, event.bucket) == ("job-1", film.asset_id, "stream", "library")
    assert (event.master, event.progressive, event.recipe, event.encrypted) == (f"{folder}/master.m3u8", True, RECIPE, True)
    assert abs(event.finished_ms / 1000 - time.time()) < 120
    changes = told(servers, topics.PLAYLISTS, PlaylistChanged, film.asset_id)
    assert {key for key, _ in changes} == {f"{folder}/master.m3u8", *(f"{folder}/{r}/index.m3u8" for r in ALL)}
    high = [change for key, change in changes if key == f"{folder}/{HIGH}/index.m3u8"]
    assert [(change.segments, change.ended) for change in high] == [(1, False), (2, False)]
    assert len({change.etag for change in high}) == 2
    assert 'METHOD=AES-128,URI="../aes.key",IV=0x0123456789abcdef0123456789abcdef' in film.now(f"{HIGH}/index.m3u8")


def test_the_master_waits_three_seconds_for_what_never_comes_and_grows_when_it_comes(servers: Cluster, film: Film) -> None:
    live(servers)
    film.encoded(HIGH, 0)
    film.until_listed(HIGH, 1)
    seen = time.monotonic()
    film.until(lambda: film.now("master.m3u8") != "")
    assert time.monotonic() - seen > 0.5  # three seconds since the picture came, less what it took to write its playlist
    assert f"{LOW}/index.m3u8" not in film.now("master.m3u8")
    film.encoded(LOW, 0)
    film.until(lambda: f"{LOW}/index.m3u8" in film.now("master.m3u8"))


def test_killed_in_the_middle_it_goes_on_where_it_was(servers: Cluster, film: Film) -> None:
    victim = live(servers)
    for number in range(4):
        for rendition in ALL:
            film.encoded(rendition, number)
    film.until_listed(HIGH, 4)
    film.until(lambda: film.now("master.m3u8") != "")
    film.encoded(HIGH, 6)  # waits for number 5; only the table knows it later
    film.encoded(LOW, 4)
    film.until_listed(LOW, 5)
    victim.kill()
    film.encoded(HIGH, 4)
    film.encoded(HIGH, 5)
    live(servers)
    film.until_listed(HIGH, 7)
    for rendition in ALL:
        film.encoded(rendition, *range(COUNT))
    for rendition in ALL:
        film.until_listed(rendition, COUNT)
    assert len(film.versions["master.m3u8"]) == 1


def test_the_final_playlists_stay_whatever_comes_later(servers: Cluster, film: Film) -> None:
    process = live(servers)
    for rendition in ALL:
        film.encoded(rendition, 0, 1)
    for rendition in ALL:
        film.until_listed(rendition, 2)
    film.until(lambda: film.now("master.m3u8") != "")
    final = "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:4.0,\n00000.m4s\n#EXTINF:4.0,\n00001.m4s\n#EXT-X-ENDLIST\n"
    for rendition in ALL:
        _replace(film.folder / rendition / "index.m3u8", final)
    _replace(film.folder / "master.m3u8", "#EXTM3U\n# the last word\n")
    film.until(lambda: film.now("master.m3u8") == "#EXTM3U\n# the last word\n")
    film.encoded(HIGH, 2, 3)
    film.encoded(LOW, 2)
    # What is over is removed from the table with the next event of the partition.
    film.servers.send_raw(_unreadable(film.asset_id))
    _until(lambda: _swept(servers, film), servers)
    assert process.stop() == 0
    assert [film.now(f"{r}/index.m3u8") for r in ALL] == [final] * 3
    assert film.now("master.m3u8") == "#EXTM3U\n# the last word\n"
    assert not any(change.ended for _, change in told(servers, topics.PLAYLISTS, PlaylistChanged, film.asset_id))


def _swept(servers: Cluster, film: Film) -> bool:
    film.told(HIGH, 0)
    return rows(servers, film.asset_id) == {}


def _unreadable(key: str) -> Record:
    return Record(topic=topics.SEGMENTS, key=key, value=b"\xff not an event", headers=[("ce_type", b"reelworks.SegmentsReady")])


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)


def _until(condition: Callable[[], bool], servers: Cluster, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, servers.tails()
        time.sleep(0.1)


def test_the_broker_dies_and_comes_back(servers: Cluster, film: Film, broker: EmbeddedKafka) -> None:
    live(servers, keep=True)
    for rendition in ALL:
        film.encoded(rendition, 0)
    film.until(lambda: film.now("master.m3u8") != "")
    broker.kill()
    broker.start()
    for rendition in ALL:
        film.encoded(rendition, *range(COUNT))
    for rendition in ALL:
        film.until_listed(rendition, COUNT)


def test_told_to_stop_while_the_broker_is_away_it_ends(servers: Cluster, film: Film, broker: EmbeddedKafka) -> None:
    process = live(servers)
    film.encoded(HIGH, 0)
    film.until_listed(HIGH, 1)
    with gone(broker):
        assert process.stop() == 0


def test_one_that_was_asleep_while_another_took_over_changes_nothing(servers: Cluster, film: Film) -> None:
    sleeper = live(servers)
    for rendition in ALL:
        film.encoded(rendition, 0)
    film.until(lambda: film.now("master.m3u8") != "")
    sleeper.signal(signal.SIGSTOP)
    film.encoded(HIGH, 1)
    live(servers)
    film.until_listed(HIGH, 2)
    for rendition in ALL:
        film.encoded(rendition, *range(4))
    for rendition in ALL:
        film.until_listed(rendition, 4)
    sleeper.signal(signal.SIGCONT)
    film.encoded(HIGH, *range(COUNT))
    film.until_listed(HIGH, COUNT)
    sleeper.stop()


def test_records_that_are_no_events_are_passed_over(servers: Cluster, film: Film) -> None:
    headers = envelope.headers_for("SegmentsReady", source="test")
    for value in (None, b"", b"\xff", b"{}", b'{"asset_id":1}', envelope.encode_value(ready("a/b", HIGH, [0]))):
        servers.send_raw(Record(topic=topics.SEGMENTS, key=film.asset_id, value=value, headers=headers))
        servers.send_raw(Record(topic=topics.SEGMENTS, key=film.asset_id, value=value))
    process = live(servers)
    film.encoded(HIGH, 0)
    film.until_listed(HIGH, 1)
    assert (process.starts, process.process.poll()) == (1, None)
    assert process.tail(100).count("was passed over") == 12


def test_two_share_the_films_and_go_on_when_one_leaves(servers: Cluster, broker: EmbeddedKafka) -> None:
    with contextlib.ExitStack() as stack:
        films = [stack.enter_context(Film(servers, f"shared-{n}")) for n in range(6)]
        first = live(servers)
        for film in films:
            film.encoded(HIGH, 0)
            film.until_listed(HIGH, 1)
        second = live(servers)
        _until(lambda: min(_partitions(first), _partitions(second)) > 0 and _partitions(first) + _partitions(second) == 6, servers)
        for film in films:
            film.encoded(HIGH, 1, 3)
            film.until_listed(HIGH, 2)
        assert first.stop() == 0
        for film in films:
            film.encoded(HIGH, 2)
            film.until_listed(HIGH, 4)


def _partitions(process: Process) -> int:
    """How many it has, as it logged last."""
    told = [json.loads(line) for line in process.tail(200).splitlines() if "was read back" in line]
    return len(told[-1]["partitions"]) if told else 0
