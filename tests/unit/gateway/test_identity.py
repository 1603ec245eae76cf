"""Which job a request is."""

from __future__ import annotations

from schemas.envelope import Envelope
from schemas.events import FollowUp, Recipe, UploadReceived
from services.gateway.identity import SOURCE, differs, event_id, job_id, new_asset_id


def test_the_same_key_is_the_same_event_and_another_owner_or_route_is_not() -> None:
    assert event_id("PUT", "o", "k") == event_id("PUT", "o", "k")
    assert len({event_id("PUT", "o", "k"), event_id("POST", "o", "k"), event_id("PUT", "p", "k"), event_id("PUT", "o", "l")}) == 4


def test_without_a_key_every_request_is_new() -> None:
    assert event_id("PUT", "o", "") != event_id("PUT", "o", "")


def test_the_job_id_is_the_one_that_the_intake_would_derive() -> None:
    event = event_id("PUT", "o", "k")
    assert job_id(event) == Envelope(type="UploadReceived", id=event, source=SOURCE, data=b"{}").job_id()


def test_an_asset_is_no_job() -> None:
    assert new_asset_id("e") != job_id("e")


def test_a_repetition_is_recognised_however_the_record_was_written() -> None:
    request = UploadReceived(job_id="j", key="k", size=5, then=(FollowUp(type="CallbackRequested", data={"url": "https://x"}),))
    stored = {
        "job_id": "j",
        "key": "k",
        "size": 5,
        "recipe": {},
        "then": [{"type": "CallbackRequested", "data": {"url": "https://x"}}],
        "new": 1,
    }
    assert differs(request, stored) == ""


def test_another_body_is_recognised_by_its_first_field() -> None:
    request = UploadReceived(job_id="j", key="k", size=5, recipe=Recipe(heights=(720,)))
    assert differs(request, {"job_id": "j", "key": "k", "size": 5}) == "recipe"
    assert differs(request, {"job_id": "j", "key": "k", "size": 6, "recipe": {"heights": [720]}}) == "size"
    assert differs(request, {"job_id": "j", "key": "k", "size": 6, "recipe": {"heights": [720]}}, frozenset({"size"})) == ""
