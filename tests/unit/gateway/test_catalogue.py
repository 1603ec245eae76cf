"""Which stream of a film is to be played."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.events import AssetChanged, ErrorInfo, JobFailed, JobStatus, Output, StreamReady
from services.gateway.views.catalogue import asset_view, film_of, hls_url, stream_of
from services.gateway.views.store import StoredAsset, StoredCompletion
from tests.servers.gateway import status


def stream(recipe: str, finished_ms: int = 0, **more: Any) -> StreamReady:
    fields: dict[str, Any] = {"job_id": f"job-{recipe}", "subject": "a", "kind": "stream", "asset_id": "a", "finished_ms": finished_ms}
    return StreamReady(**(fields | {"master": f"assets/a/{recipe}/master.m3u8", "recipe": recipe} | more))


def transcode(job_id: str, state: Any) -> JobStatus:
    return status(job_id, subject="a", state=state)


def failure(job_id: str, kind: str = "transcode", finished_ms: int = 0) -> JobFailed:
    error = ErrorInfo(code="x", message="y")
    return JobFailed(job_id=job_id, subject="a", kind=kind, state="failed", error=error, finished_ms=finished_ms)


def chosen(streams: list[StreamReady], job: JobStatus | None = None, failed: JobFailed | None = None) -> str:
    found = stream_of("a", streams, job, {failed.kind: failed} if failed is not None else {})
    return found.recipe if found is not None else ""


def test_the_newest_whole_stream_is_played() -> None:
    assert chosen([]) == ""
    assert chosen([stream("old", 1), stream("new", 2)]) == "new"


@pytest.mark.parametrize("order", [1, -1])
def test_a_whole_one_wins_over_one_that_grows(order: int) -> None:
    assert chosen([stream("whole"), stream("live", progressive=True)][::order]) == "whole"


def test_one_that_grows_is_played_until_its_transcode_is_given_up() -> None:
    live = stream("live", progressive=True)
    assert chosen([live], transcode("job-live", "running")) == "live"
    assert chosen([live], transcode("job-live", "succeeded")) == "live"
    for state in ("failed", "cancelled"):
        assert chosen([live], transcode("job-live", state)) == ""
        assert chosen([stream("whole"), live], transcode("job-live", state)) == "whole"
    # The status has expired, or a later job has begun: its failure still says so.
    assert chosen([live], None, failure("job-live")) == ""
    assert chosen([live], transcode("another", "running"), failure("job-live")) == ""
    assert chosen([live], transcode("another", "running"), failure("yet another")) == "live"
    # It was begun again after its failure.
    assert chosen([live], transcode("job-live", "running"), failure("job-live")) == "live"


def test_one_that_will_never_be_whole_is_not_played() -> None:
    live = stream("live", 5, progressive=True)
    assert chosen([live], transcode("job-live", "succeeded"), failure("job-stream", "stream", 6)) == ""
    # That was another time.
    assert chosen([live], transcode("job-live", "succeeded"), failure("job-stream", "stream", 4)) == "live"


def test_a_film_that_was_packaged_as_it_is_is_ready_and_one_that_could_not_be_says_why() -> None:
    row = StoredAsset("a", 1, True, None)
    packaged = stream("copy", 5, duration_seconds=20.0)
    ready = film_of(row, None, [StoredCompletion("StreamReady", msgspec.json.encode(packaged))])
    shown = asset_view(ready, lambda output: output.key, "", token="t")
    assert (shown.state, shown.duration_seconds, shown.job_id, shown.live) == ("succeeded", 20.0, "job-copy", False)
    failed = film_of(row, None, [StoredCompletion("JobFailed", msgspec.json.encode(failure("j", "stream")))])
    shown = asset_view(failed, lambda output: output.key, "", token="t")
    assert (shown.state, shown.error and shown.error.message, shown.hls_url) == ("failed", "y", None)


@pytest.mark.parametrize(
    "more",
    [
        {"layout": "flat-ts", "master": "Holidays/Crete.hls/output.m3u8"},
        {"master": "assets/b/r/master.m3u8"},
        {"master": "assets/a/source/master.m3u8"},
        {"master": "assets/a/r/../source/master.m3u8"},
        {"master": ""},
    ],
)
def test_what_lies_elsewhere_is_not_the_films_stream(more: dict[str, str]) -> None:
    assert chosen([stream("r", **more)]) == ""


def film(*streams: StreamReady, asset: AssetChanged | None = None) -> Any:
    asset = asset or AssetChanged(asset_id="a", title="A", created_ms=1, updated_ms=1)
    row = StoredAsset("a", 1, True, msgspec.json.encode(asset))
    return film_of(row, None, [StoredCompletion("StreamReady", msgspec.json.encode(s)) for s in streams])


def test_what_was_deleted_with_an_earlier_life_of_the_film_is_not_played() -> None:
    deleted = AssetChanged(asset_id="a", title="A", created_ms=1, updated_ms=10, deleted=True)
    assert film(stream("old", 9), asset=deleted).stream is None
    assert film(stream("old", 9), stream("new", 11), asset=deleted).stream.recipe == "new"


def test_an_asset_shows_addresses_that_carry_the_token() -> None:
    board = Output(role="storyboard", bucket="b", key="assets/a/storyboard.vtt")
    shown = asset_view(film(stream("r", outputs=(board,), progressive=True)), lambda output: "", "http://x", token="t.1._.s-")
    assert shown.hls_url == "http://x/v1/assets/a/hls/r/master.m3u8?token=t.1._.s-"
    assert shown.storyboard_url == "http://x/v1/assets/a/hls/storyboard.vtt?token=t.1._.s-"
    assert shown.live
    none = asset_view(film(), lambda output: "", "http://x", token="")
    assert (none.hls_url, none.storyboard_url, none.live) == (None, None, False)


def test_an_asset_with_colons_in_its_id_has_one_address() -> None:
    made = stream("r", asset_id="a:b", subject="a:b", master="assets/a:b/r/master.m3u8")
    assert hls_url(made, "http://x") == "http://x/v1/assets/a:b/hls/r/master.m3u8"
