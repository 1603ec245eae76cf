"""What is written gives way to the final form and to whoever knows more, whenever that appears."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import envelope, topics
from schemas.events import PlaylistChanged, SegmentsReady, StreamReady
from services.runtime.kafka.producer import BrokerUnavailable, Record
from services.runtime.media.presentation import init_key
from services.runtime.storage.base import ObjectInfo, Refused, StorageError
from services.runtime.storage.local import LocalStore
from services.streamer import growing
from services.streamer.growing import Growing, GrowingFilm
from services.streamer.shelf import Film, Shelf
from tests.unit.streamer.segments import ALL, HIGH, LOW, RECIPE, SOUND, listed, ready

FOLDER = f"assets/film/{RECIPE}"
MASTER = f"{FOLDER}/master.m3u8"
FINAL = "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:4.0,\n00000.m4s\n#EXT-X-ENDLIST\n"


def media(name: str) -> str:
    return f"{FOLDER}/{name}/index.m3u8"


class Store(LocalStore):
    """A folder that counts what is written, and lets somebody else act just before that."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, signing_key=b"a secret of the tests, 32 bytes.")
        self.versions: dict[str, list[str]] = {}
        self.before: dict[str, Callable[[], object]] = {}
        self.failures: list[Exception] = []
        for name in ALL:
            self.others(init_key(FOLDER, name), "init")

    async def put(
        self,
        key: str,
        data: bytes | AsyncIterable[bytes],
        *,
        size: int | None = None,
        content_type: str = "",
        if_none_match: bool = False,
        if_match: str = "",
    ) -> ObjectInfo:
        if self.failures:
            raise self.failures.pop()
        if act := self.before.pop(key, None):
            act()
        info = await super().put(key, data, size=size, content_type=content_type, if_none_match=if_none_match, if_match=if_match)
        assert isinstance(data, bytes)
        self.versions.setdefault(key, []).append(data.decode())
        return info

    def others(self, key: str, text: str) -> None:
        """Somebody else writes, without a condition."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(text)
        draft.replace(path)

    def text(self, key: str) -> str:
        path = self.root / key
        return path.read_text() if path.exists() else ""


class Desk:
    """One instance: what it knows, what it writes, what it tells."""

    def __init__(self, store: Store) -> None:
        self.store, self.shelf, self.now = store, Shelf(), 0.0
        self.told: list[Record] = []
        self.away: list[Exception] = []
        self._growing: GrowingFilm | None = None

    @property
    def film(self) -> Film:
        return self.shelf.films["film", RECIPE]

    @property
    def growing(self) -> GrowingFilm:
        if self._growing is None:
            self._growing = GrowingFilm(self.film, self.store, self.publish, lambda: self.now)
        return self._growing

    async def publish(self, record: Record) -> None:
        if self.away:
            raise self.away.pop()
        self.told.append(record)

    def take(self, *events: SegmentsReady) -> None:
        for event in events:
            self.shelf.take(event, 0, self.now)

    async def write(self, *events: SegmentsReady) -> None:
        self.take(*events)
        await self.growing.write()

    def changes(self, key: str) -> list[PlaylistChanged]:
        return [envelope.decode(r.value or b"", PlaylistChanged) for r in self.told if r.topic == topics.PLAYLISTS and r.key == key]

    def readies(self) -> list[StreamReady]:
        return [envelope.decode(r.value or b"", StreamReady) for r in self.told if r.topic == topics.COMPLETIONS]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "library").mkdir()
    return Store(tmp_path / "library")


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


def first(*names: str) -> list[SegmentsReady]:
    return [ready("film", name, [0]) for name in names or ALL]


def count(text: str) -> int:
    return len(listed(text))


async def test_what_is_known_is_written_and_told(desk: Desk, store: Store) -> None:
    await desk.write(*first(), ready("film", HIGH, [1, 3]))
    assert {name: count(store.text(media(name))) for name in ALL} == {HIGH: 2, LOW: 1, SOUND: 1}
    assert all(f"{name}/index.m3u8" in store.text(MASTER) for name in ALL)
    info = await store.head(media(HIGH))
    assert info.content_type == "application/vnd.apple.mpegurl"
    assert [(c.bucket, c.etag, c.segments, c.ended) for c in desk.changes(media(HIGH))] == [("library", info.etag, 2, False)]
    assert [c.segments for c in desk.changes(MASTER)] == [0]
    assert [(r.master, r.progressive, r.job_id, r.subject, r.kind) for r in desk.readies()] == [(MASTER, True, "job-1", "film", "stream")]


async def test_what_did_not_change_is_neither_written_nor_told_again(desk: Desk, store: Store) -> None:
    await desk.write(*first())
    told = len(desk.told)
    await desk.write(*first())
    assert (len(desk.told), {len(texts) for texts in store.versions.values()}) == (told, {1})


async def test_the_master_names_only_what_has_a_playlist_and_is_written_anew_for_more(desk: Desk, store: Store) -> None:
    await desk.write(*first(HIGH))
    assert store.text(MASTER) == ""
    desk.now = 3.0
    await desk.write()
    assert f"{HIGH}/index.m3u8" in store.text(MASTER)
    assert f"{LOW}/index.m3u8" not in store.text(MASTER)
    await desk.write(*first(LOW))
    assert f"{LOW}/index.m3u8" in store.text(MASTER)
    assert (len(desk.changes(MASTER)), len(desk.readies())) == (2, 1)


async def test_what_joins_while_the_first_are_written_is_in_the_first_master(desk: Desk, store: Store) -> None:
    store.before[media(HIGH)] = lambda: desk.take(*first(LOW, SOUND))
    await desk.write(*first(HIGH))
    assert store.text(MASTER) == ""  # all are known, but not all are written
    await desk.write()
    assert all(f"{name}/index.m3u8" in store.versions[MASTER][0] for name in ALL)


async def test_another_instance_goes_on_and_tells_again(desk: Desk, store: Store) -> None:
    await desk.write(*first())
    successor = Desk(store)
    await successor.write(*first(), ready("film", HIGH, [1]))
    assert [count(text) for text in store.versions[media(HIGH)]] == [1, 2]
    assert len(store.versions[MASTER]) == 1
    assert [len(successor.changes(key)) for key in (media(HIGH), media(LOW), MASTER)] == [1, 1, 1]
    assert len(successor.readies()) == 1


async def test_who_knows_less_than_what_is_stored_waits_until_it_knows_more(desk: Desk, store: Store) -> None:
    await desk.write(*first(), ready("film", HIGH, [1, 2]))
    successor = Desk(store)
    await successor.write(*first(), ready("film", HIGH, [1]))
    assert count(store.text(media(HIGH))) == 3
    await successor.write(ready("film", HIGH, [2, 3]))
    assert [count(text) for text in store.versions[media(HIGH)]] == [3, 4]


async def test_a_final_playlist_found_at_the_first_look_ends_the_film(desk: Desk, store: Store) -> None:
    store.others(media(HIGH), FINAL)
    await desk.write(*first(), ready("film", HIGH, [1]))
    assert desk.film.over
    assert (store.versions, store.text(media(HIGH)), desk.told) == ({}, FINAL, [])


@pytest.mark.parametrize("name", ALL)
async def test_a_final_playlist_that_appears_just_before_a_write_stays(desk: Desk, store: Store, name: str) -> None:
    await desk.write(*first())
    store.before[media(name)] = lambda: store.others(media(name), FINAL)
    await desk.write(*(ready("film", n, [1]) for n in ALL))
    assert desk.film.over
    assert store.text(media(name)) == FINAL


async def test_a_final_master_that_appears_just_before_a_write_stays(desk: Desk, store: Store) -> None:
    def finish() -> None:
        for name in (HIGH, LOW):
            store.others(media(name), FINAL)
        store.others(MASTER, "#EXTM3U\nthe last word")

    desk.now = 3.0
    store.before[MASTER] = finish
    await desk.write(*first(HIGH))
    desk.now = 6.0
    await desk.write(*first(HIGH, LOW))
    assert desk.film.over
    assert store.text(MASTER) == "#EXTM3U\nthe last word"
    assert desk.readies() == []


async def test_what_was_removed_does_not_come_back(desk: Desk, store: Store) -> None:
    await desk.write(*first())
    for name in ALL:
        for key in (media(name), init_key(FOLDER, name), MASTER):
            await store.delete(key)
    await desk.write(ready("film", HIGH, [1]))
    successor = Desk(store)
    await successor.write(*first())
    assert (desk.film.over, successor.film.over) == (True, True)
    assert [store.text(key) for key in (MASTER, *(media(name) for name in ALL))] == [""] * 4


async def test_what_could_not_be_told_is_told_later(desk: Desk, store: Store) -> None:
    desk.away = [BrokerUnavailable("away")]
    with pytest.raises(BrokerUnavailable):
        await desk.write(*first())
    await desk.write()
    assert [len(desk.changes(key)) for key in (media(HIGH), media(LOW), MASTER)] == [1, 1, 1]
    assert len(store.versions[media(HIGH)]) == 1


step = st.tuples(st.integers(0, 2), st.sampled_from(ALL), st.integers(0, 4), st.booleans())


@settings(max_examples=40, deadline=None)
@given(st.lists(step, max_size=40), st.integers(0, 60))
def test_of_several_instances_none_makes_a_playlist_shorter_or_touches_the_final_one(
    steps: list[tuple[int, str, int, bool]], end: int
) -> None:
    async def run(store: Store) -> None:
        desks = [Desk(store) for _ in range(3)]
        for number, (who, name, segment, write) in enumerate(steps):
            if number == end:
                for final in ALL:
                    store.others(media(final), FINAL)
                store.others(MASTER, "#EXTM3U\nthe last word")
                store.versions.clear()
            desks[who].take(ready("film", name, [segment]))
            if write:
                await desks[who].write()
        assert len(steps) <= end or store.versions == {}
        for texts in store.versions.values():
            assert [count(text) for text in texts] == sorted(count(text) for text in texts)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Store(Path(folder))))


# ── Following ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", autouse=True)
def _often() -> Iterator[None]:
    """Still twice as long as changes are gathered for; closing waits for it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing, "INTERVAL_SECONDS", 2 * growing.COALESCE_SECONDS)
        yield


class Buckets:
    """The store as the one bucket on the list."""

    default_bucket = "library"

    def __init__(self, store: Store) -> None:
        self._store = store

    def bucket(self, name: str = "") -> Store:
        if name != "library":
            raise Refused(f"bucket {name!r} is not on the allow-list")
        return self._store

    async def close(self) -> None: ...


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_changes_that_come_together_are_written_together(desk: Desk, store: Store) -> None:
    films = Growing(Buckets(store), desk.publish)
    for number in range(30):
        desk.take(ready("film", HIGH, [number]))
        films.changed(desk.film)
        await asyncio.sleep(0.01)
    await until(lambda: count(store.text(media(HIGH))) == 30)
    assert len(store.versions[media(HIGH)]) < 10
    await films.close()


async def test_a_store_that_is_away_is_asked_again(desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "RETRY_SECONDS", 0.01)
    store.failures = [StorageError("away"), StorageError("away")]
    films = Growing(Buckets(store), desk.publish)
    desk.take(*first())
    films.changed(desk.film)
    await until(lambda: len(desk.readies()) == 1)
    await films.close()


async def test_the_master_comes_after_the_patience_although_nothing_changes(desk: Desk, store: Store) -> None:
    films = Growing(Buckets(store), desk.publish, lambda: desk.now)
    desk.take(*first(HIGH))
    desk.now = 2.9  # of three seconds
    films.changed(desk.film)
    await until(lambda: store.text(media(HIGH)) != "")
    assert store.text(MASTER) == ""
    desk.now = 3.1
    await until(lambda: store.text(MASTER) != "")
    await films.close()


async def test_a_quiet_film_is_looked_at_and_let_go_when_it_is_over(desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "LOOK_SECONDS", 0.02)
    films = Growing(Buckets(store), desk.publish)
    desk.take(*first())
    films.changed(desk.film)
    await until(lambda: store.text(MASTER) != "")
    assert not desk.film.over
    for name in ALL:
        store.others(media(name), FINAL)
    await until(lambda: desk.film.over)
    await films.close()


async def test_a_film_without_news_for_a_day_is_let_go(desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "LOOK_SECONDS", 0.02)
    films = Growing(Buckets(store), desk.publish, lambda: desk.now)
    desk.take(ready("film", HIGH, [5]))
    films.changed(desk.film)
    await asyncio.sleep(0.1)
    assert not desk.film.over
    desk.now = 86_401.0
    await until(lambda: desk.film.over)
    await films.close()


async def test_a_bucket_that_is_not_allowed_ends_the_film_and_no_other(desk: Desk, store: Store) -> None:
    films = Growing(Buckets(store), desk.publish)
    desk.take(ready("elsewhere", HIGH, [0], bucket="private"), *first())
    for film in desk.shelf.films.values():
        films.changed(film)
    await until(lambda: len(desk.readies()) == 1)
    assert desk.shelf.films["elsewhere", RECIPE].over
    assert not desk.film.over
    await films.close()


async def test_begun_anew_it_looks_at_everything_again(desk: Desk, store: Store) -> None:
    films = Growing(Buckets(store), desk.publish)
    desk.take(*first())
    films.changed(desk.film)
    await until(lambda: len(desk.readies()) == 1)
    store.others(media(HIGH), FINAL)
    films.replace(desk.shelf)
    await until(lambda: desk.film.over)
    await films.close()


async def test_closed_it_finishes_and_tells_what_is_being_written(desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "CLOSE_SECONDS", 30.0)
    films = Growing(Buckets(store), desk.publish)
    began = asyncio.Event()
    store.before[media(HIGH)] = began.set
    desk.take(*first(HIGH))
    films.changed(desk.film)
    await began.wait()
    await films.close()
    assert (count(store.text(media(HIGH))), len(desk.changes(media(HIGH)))) == (1, 1)
