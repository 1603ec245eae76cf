"""`reelworks check`: what is said of settings."""

from pathlib import Path

import pytest

from services.cli.check import access, callback_settings, configured, copies_finding, old_zip, storage
from services.runtime.settings import Settings
from services.runtime.storage.copies import Copies


def test_secrets_are_said_to_be_set_and_not_shown():
    words = configured(Settings(webhook_secret="battery-staple", port=9000)).words
    assert words == "REELWORKS_PORT=9000, REELWORKS_WEBHOOK_SECRET=(set)"


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        (Settings(), "ok"),
        (Settings(host="::1"), "ok"),
        (Settings(host="localhost"), "ok"),
        (Settings(host="0.0.0.0"), "fault"),
        (Settings(host="films.example"), "fault"),
        (Settings(host="0.0.0.0", api_token="a-long-token"), "ok"),
    ],
)
def test_other_addresses_than_loopback_need_a_token(settings: Settings, state: str):
    assert [finding.state for finding in access(settings)] == [state]


def test_unsigned_and_private_callbacks_are_noted():
    assert [finding.state for finding in callback_settings(Settings())] == ["ok"]
    found = list(callback_settings(Settings(callback_allow=("x.example",), callback_allow_private=True)))
    assert [finding.state for finding in found] == ["ok", "note", "note"]
    assert [f.state for f in callback_settings(Settings(callback_allow=("x.example",), webhook_secret="battery-staple"))] == ["ok"]


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        (Copies(possible=True, pinned=True), "ok", "not through a worker"),
        (Copies(possible=True, reason="a changed source is not noticed"), "note", "but a changed source is not noticed"),
        (Copies(possible=False, reason="not implemented"), "note", "all bytes pass through a worker: not implemented"),
    ],
)
def test_what_copies_of_ranges_can_do_is_said(found: Copies, state: str, words: str):
    finding = copies_finding("films", found)
    assert (finding.what, finding.state) == ("archives", state)
    assert words in finding.words


def test_copies_are_tried_in_the_bucket_and_leave_nothing(tmp_path: Path):
    found = storage(Settings(storage_url=f"file://{tmp_path}/films"))
    assert [(finding.what, finding.state) for finding in found] == [("storage", "ok"), ("archives", "ok")]
    assert [path.name for path in (tmp_path / "films").iterdir()] == [".reelworks"]


@pytest.mark.parametrize(
    ("settings", "state", "words"),
    [
        (Settings(storage_url="s3://films"), "ok", "REELWORKS_ZIP_SECRET is not set"),
        (Settings(storage_url="s3://films", zip_secret="battery-staple"), "ok", "from bucket 'films' to bucket 'films'"),
        (Settings(storage_url="s3://films", zip_secret="battery-staple", zip_output_bucket="zips"), "fault", "allow-list"),
        (Settings(storage_url="s3://films", zip_input_bucket="films"), "fault", "REELWORKS_ZIP_SECRET"),
    ],
)
def test_the_old_wire_of_archives_is_told_of(settings: Settings, state: str, words: str):
    [finding] = old_zip(settings)
    assert finding.state == state
    assert words in finding.words
    assert "battery-staple" not in finding.words
