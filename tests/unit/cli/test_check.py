"""`reelworks check`: what is said of settings."""

import pytest

from services.cli.check import access, callback_settings, configured
from services.runtime.settings import Settings


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
