"""What a batch of records says."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas import envelope, topics
from schemas.events import AssetChanged, JobFailed, JobStatus, StreamReady, TranscodeCompleted, UploadReceived
from services.gateway.identity import SOURCE
from services.gateway.views.fold import fold
from services.runtime.kafka.reader import Received
from tests.servers.gateway import status


def received(topic: str, key: str, event: msgspec.Struct | bytes | None, *, source: str = "x", offset: int = 0) -> Received:
    headers: Sequence[tuple[str, bytes | None]] = []
    value = event if isinstance(event, bytes | None) else envelope.encode_value(event)
    if isinstance(event, msgspec.Struct):
        headers = envelope.headers_for(type(event).__name__, source=source)
    return Received(topic, 0, offset, 1_795_297_320_541, key.encode(), value, list(headers))


def test_the_latest_status_of_a_job_wins_within_a_batch() -> None:
    folded = fold([received(topics.JOBS, "j", status("j", state=state)) for state in ("queued", "running", "succeeded")])
    assert list(folded.jobs) == ["j"]
    assert msgspec.json.decode(folded.jobs["j"][-1], type=JobStatus).state == "succeeded"


def test_an_unreadable_status_leaves_the_last_one_that_can_be_read() -> None:
    told = [received(topics.JOBS, "j", status("j", state="running")), received(topics.JOBS, "j", b"{")]
    folded = fold(told)
    assert (folded.jobs["j"][3], folded.unreadable) == ("running", 1)


def test_a_request_that_has_become_a_film_already_says_no_more_than_that_it_was_asked_for() -> None:
    request = UploadReceived(job_id="j", key="films/one.mp4", bucket="media", asset_id="a", title="One")
    folded = fold([received(topics.REQUESTS, "j", request, source=SOURCE)], {"j": "a"}.__getitem__)
    assert (folded.accepted, folded.promised_assets) == ({}, {"a": (1_795_297_320_541, 1_795_297_320_541)})


def test_the_coordinators_own_records_are_skipped_and_what_cannot_be_read_is_counted() -> None:
    folded = fold(
        [
            received(topics.JOBS, "@offset", b'{"next":5}'),
            received(topics.JOBS, "@heal", b"\xff"),
            received(topics.JOBS, "x", b"\xff\xfe"),
            received(topics.JOBS, "y", b'{"job_id":5}'),
            received(topics.ASSETS, "z", b"[]"),
            received(topics.COMPLETIONS, "z", b"{}"),
        ]
    )
    assert (folded.jobs, folded.assets, folded.completions, folded.unreadable) == ({}, {}, {}, 4)


def test_a_tombstone_removes_and_a_later_record_brings_back() -> None:
    gone = fold([received(topics.JOBS, "j", status("j")), received(topics.JOBS, "j", None)])
    assert (gone.jobs, gone.jobs_gone) == ({}, {"j"})
    back = fold([received(topics.JOBS, "j", None), received(topics.JOBS, "j", status("j"))])
    assert (list(back.jobs), back.jobs_gone) == (["j"], set())


def test_a_gateways_own_request_is_a_queued_job_and_another_systems_is_not() -> None:
    request = UploadReceived(job_id="j", key="films/one.mp4", bucket="media", asset_id="a", title="One")
    folded = fold(
        [
            received(topics.REQUESTS, "j", request, source=SOURCE),
            received(topics.REQUESTS, "k", UploadReceived(job_id="k", key="films/two.mp4"), source="another/system"),
            received(topics.REQUESTS, "l", b"\xff" * 100),
        ]
    )
    assert list(folded.accepted) == ["j"]
    assert folded.changed_assets() == {"a"}


def test_completions_and_failures_concern_their_subject() -> None:
    done = TranscodeCompleted(job_id="j", subject="a", kind="transcode", asset_id="a")
    failed = JobFailed(job_id="k", subject="b", kind="transcode", state="failed")
    folded = fold([received(topics.COMPLETIONS, "a:transcode", done), received(topics.COMPLETIONS, "b:transcode:failed", failed)])
    assert {key: row[:3] for key, row in folded.completions.items()} == {
        "a:transcode": ("a", "transcode", "TranscodeCompleted"),
        "b:transcode:failed": ("b", "transcode", "JobFailed"),
    }
    assert folded.changed_assets() == {"a", "b"}


def test_a_deleted_asset_says_when() -> None:
    asset = AssetChanged(asset_id="a", title="A", created_ms=1, updated_ms=7, deleted=True)
    assert fold([received(topics.ASSETS, "a", asset)]).assets["a"][:3] == ("a", 1, 7)


def test_a_stream_that_grows_and_the_whole_one_are_kept_side_by_side() -> None:
    live = StreamReady(job_id="t", subject="a:b", kind="stream", asset_id="a:b", progressive=True)
    whole = StreamReady(job_id="s", subject="a:b", kind="stream", asset_id="a:b")
    folded = fold([received(topics.COMPLETIONS, "a:b:stream:progressive", live)])
    assert (list(folded.completions), folded.changed_assets(), folded.changed_streams()) == (["a:b:stream:progressive"], {"a:b"}, set())
    folded = fold([received(topics.COMPLETIONS, "a:b:stream:progressive", live), received(topics.COMPLETIONS, "a:b:stream", whole)])
    assert (len(folded.completions), folded.changed_streams()) == (2, {"a:b"})


def test_streams_change_with_what_is_taken_back_and_deleted() -> None:
    gone = [received(topics.COMPLETIONS, key, None) for key in ("a:b:stream:progressive", "c:stream", "d:transcode:failed", "nonsense")]
    folded = fold([*gone, received(topics.ASSETS, "e", AssetChanged(asset_id="e", title="", created_ms=1, updated_ms=2, deleted=True))])
    assert folded.changed_streams() == {"a:b", "c", "d", "e", "nonsense"}
    kept = fold([received(topics.ASSETS, "e", AssetChanged(asset_id="e", title="", created_ms=1, updated_ms=2))])
    assert kept.changed_streams() == set()
