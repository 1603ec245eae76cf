"""The file with further settings of the client."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.runtime.kafka import client
from services.runtime.kafka.admin import unreachable
from services.runtime.settings import Settings, SettingsError, kafka_properties, secret_values
from services.runtime.telemetry.redaction import Redactor


def with_file(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "kafka.properties"
    path.write_text(text)
    return Settings(bootstrap_servers="127.0.0.1:1", kafka_config=str(path))


def test_names_and_values_are_taken_as_they_are_without_the_space_around_them(tmp_path: Path) -> None:
    settings = with_file(tmp_path, "# a note\n\nsasl.password = a=b c \nsecurity.protocol=sasl_ssl\n")
    assert kafka_properties(settings) == {"sasl.password": "a=b c", "security.protocol": "sasl_ssl"}
    assert client.base(settings)["sasl.password"] == "a=b c"


def test_a_line_that_is_none_is_told_by_its_number_and_not_by_its_words(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"REELWORKS_KAFKA_CONFIG='.*': line 2 is no `name=value`$") as caught:
        client.base(with_file(tmp_path, "security.protocol=ssl\nbattery-staple\n"))
    assert "battery" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"REELWORKS_KAFKA_CONFIG='.*none' cannot be read: No such file or directory$"):
        client.base(Settings(bootstrap_servers="x:1", kafka_config=str(tmp_path / "none")))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="it is not text"):
        client.base(Settings(bootstrap_servers="x:1", kafka_config=str(tmp_path / "bytes")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssl.truststore.location=/keys.jks", "Java TrustStores are not supported, use `ssl.ca.location`"),
        ("no.such.thing=1", 'No such configuration property: "no.such.thing"'),
        ("security.protocol=ssl\nssl.ca.location=/nowhere/ca.pem", "ssl.ca.location failed"),
    ],
)
def test_what_the_client_does_not_take_is_a_wrong_setting(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        unreachable(with_file(tmp_path, text), timeout=1)


def test_its_secrets_are_kept_out_of_the_log(tmp_path: Path) -> None:
    settings = with_file(tmp_path, "sasl.username=alice\nsasl.password=battery-staple\nssl.key.password=correct-horse\n")
    redactor = Redactor(secret_values(settings))
    assert redactor.text("alice has battery-staple and correct-horse") == "alice has (secret) and (secret)"
