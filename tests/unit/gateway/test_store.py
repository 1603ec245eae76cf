"""The view's file: what is shown does not depend on the order in which topics were read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from schemas import envelope, topics
from schemas.events import AssetChanged, TranscodeCompleted
from services.gateway.views.fold import Folded, add_accepted, add_asset, add_job, fold
from services.gateway.views.store import JOBS_KEPT_MS, STALE_MS, Filling, View
from services.runtime.kafka.reader import Received
from tests.servers.gateway import status

NOW = 1_795_297_320_541


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    made = View(tmp_path)
    made.filled()
    yield made
    made.close()


def job(job_id: str, created_ms: int, state: str = "queued", subject: str = "a") -> Folded:
    made, folded = status(job_id, created_ms=created_ms, updated_ms=created_ms, state=state, subject=subject), Folded()
    add_job(folded, made, msgspec.json.encode(made), created_ms)
    return folded


def asset(updated_ms: int, *, deleted: bool = False) -> Folded:
    made, folded = AssetChanged(asset_id="a", title="A", created_ms=5, updated_ms=updated_ms, deleted=deleted), Folded()
    add_asset(folded, made, msgspec.json.encode(made))
    return folded


def test_two_gateways_of_a_machine_never_share_a_file(tmp_path: Path) -> None:
    one, two = View(tmp_path), View(tmp_path)
    assert one.path != two.path
    first = one.path
    one.close()
    three = View(tmp_path)
    assert three.path == first
    two.close()
    three.close()


def test_an_accepted_job_gives_way_to_any_status_in_either_order(view: View) -> None:
    promised = Folded()
    add_accepted(promised, status("j", created_ms=10), 10)
    for batch in (job("j", 10, "running"), promised):
        view.write(batch)
    assert b'"running"' in view.job("j").record  # pyright: ignore[reportOptionalMemberAccess]
    view.wipe("log")
    for batch in (promised, job("j", 10, "running")):
        view.write(batch)
    assert b'"running"' in view.job("j").record  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(("created_ms", "visible"), [(10, False), (30, True)])
def test_a_deleted_asset_comes_back_only_by_a_later_job(view: View, created_ms: int, visible: bool) -> None:
    for order in itertools.permutations([asset(20, deleted=True), job("j", created_ms)]):
        view.wipe("log")
        for batch in order:
            view.write(batch)
        view.filled()
        found = view.asset("a")
        assert found is not None
        assert found.visible is visible
        assert [row.asset_id for row in view.assets(limit=5)] == (["a"] if visible else [])


def test_offsets_are_kept_with_the_rows_and_only_for_the_same_log(view: View) -> None:
    view.prepare("log 1", NOW)
    view.write(job("j", 10), {("media.jobs", 0): 7})
    view._writer.execute("UPDATE meta SET value = ? WHERE name = 'saved_ms'", (str(NOW),))
    assert view.prepare("log 1", NOW + 1000) == {("media.jobs", 0): 7}
    assert view.job("j") is not None
    assert view.prepare("log 2", NOW + 1000) == {}
    assert view.job("j") is None


def test_what_is_being_filled_is_not_listed(view: View) -> None:
    view.write(job("j", 10), {("media.jobs", 0): 7})
    view.wipe("log")
    view.write(job("j", 10), {("media.jobs", 0): 7})
    assert view.job("j") is not None
    for ask in (view.jobs, view.assets):
        with pytest.raises(Filling):
            ask(limit=5)
    view.filled()
    assert (len(view.jobs(limit=5)), len(view.assets(limit=5))) == (1, 1)


def test_a_view_that_was_left_while_it_was_filled_is_whole_when_it_is_opened_again(tmp_path: Path) -> None:
    begun = View(tmp_path)
    begun.write(job("j", 10), {("media.jobs", 0): 7})
    begun.close()
    again = View(tmp_path)
    indexes = {name for (name,) in again._writer.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")}
    assert {"jobs_recent", "jobs_subject", "assets_recent", "completions_subject"} <= indexes
    assert [row.job_id for row in again.jobs(limit=5)] == ["j"]
    again.close()


def test_a_damaged_file_is_replaced_and_may_be_read_and_written_at_once(view: View) -> None:
    view.write(job("j", 10))
    view.renew()
    assert view.job("j") is None
    view.write(job("k", 10))
    assert view.job("k") is not None
    assert Path(f"{view.path}-wal").exists()


@pytest.mark.parametrize("first", ["promise", "status"])
def test_since_when_an_asset_is_there_is_what_its_first_status_says(view: View, first: str) -> None:
    promised = Folded()
    add_accepted(promised, status("j", created_ms=10, updated_ms=10, subject="a"), 10)
    batches = [promised, job("j", 25)]
    for batch in batches if first == "promise" else reversed(batches):
        view.write(batch)
    found = view.asset("a")
    assert found is not None
    assert found.created_ms == 25


def test_a_view_that_slept_too_long_is_filled_again(view: View) -> None:
    view.prepare("log", NOW)
    view.write(job("j", 10), {("media.jobs", 0): 7})
    view._writer.execute("UPDATE meta SET value = ? WHERE name = 'saved_ms'", (str(NOW),))
    assert view.prepare("log", NOW + STALE_MS + 1) == {}


def test_jobs_that_the_log_no_longer_keeps_are_removed(view: View) -> None:
    view.write(job("old", NOW))
    view.write(job("new", NOW + 1000))
    assert view.expire(NOW + JOBS_KEPT_MS + 1) == ["old"]
    assert view.job("old") is None
    assert view.job("new") is not None


def test_a_page_begins_after_the_item_that_its_cursor_names(view: View) -> None:
    for number in range(5):
        view.write(job(f"j{number}", 100 + number // 2, subject=f"s{number}"))
    first = view.jobs(limit=2)
    assert [row.job_id for row in first] == ["j4", "j3"]
    assert [row.job_id for row in view.jobs(before=(101, "j3"), limit=9)] == ["j2", "j1", "j0"]
    assert [row.asset_id for row in view.assets(before=(101, "s3"), limit=9)] == ["s2", "s1", "s0"]


def test_the_line_is_in_the_order_of_creation(view: View) -> None:
    for name, created, state in (("b", 2, "queued"), ("a", 1, "queued"), ("c", 3, "succeeded")):
        view.write(job(name, created, state))
    assert view.waiting() == [("transcoder", "a"), ("transcoder", "b")]


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
def test_of_two_outcomes_of_a_subject_the_newer_is_shown_whatever_partition_is_read_first(
    view: View, order: tuple[int, ...], batches: int
) -> None:
    records = [completion(finished_ms, partition=n) for n, finished_ms in enumerate(order)]
    for batch in [records] if batches == 1 else [records[:1], records[1:]]:
        view.write(fold(batch))
    [shown] = view.completions("a")
    assert msgspec.json.decode(shown.record)["job_id"] == "j3"


def completion(finished_ms: int, *, partition: int) -> Received:
    done = TranscodeCompleted(job_id=f"j{finished_ms}", subject="a", kind="transcode", asset_id="a", finished_ms=finished_ms)
    headers = [(name, value) for name, value in envelope.headers_for("TranscodeCompleted", source="t") if isinstance(value, bytes)]
    return Received(topics.COMPLETIONS, partition, 0, finished_ms, b"a:transcode", envelope.encode_value(done), [*headers])
