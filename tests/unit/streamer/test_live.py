"""What the live app makes of the settings. How it works is in tests/integration/test_live.py."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.types.auth import AuthProtocol

from schemas import topics
from services.runtime.kafka import client
from services.runtime.kafka.admin import TopicError
from services.runtime.settings import Settings, SettingsError
from services.streamer import live
from tests.servers.secured import Authority


def kafka(tmp_path: Path, *lines: str) -> Settings:
    """Settings with a file of librdkafka's."""
    path = tmp_path / "kafka.properties"
    path.write_text("\n".join(lines))
    return Settings(bootstrap_servers="one:9092,two:9093", kafka_config=str(path))


async def test_the_table_is_the_topic_that_is_declared() -> None:
    table: Any = live.make_app(Settings(bootstrap_servers="one:9092")).Table(live.TABLE)
    assert table.changelog_topic_name == topics.LIVE_TABLE
    partitions = {t.name: t.partitions for t in topics.TOPICS}
    assert partitions[topics.LIVE_TABLE] == partitions[topics.SEGMENTS]


async def test_the_app_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROKER_URL", "APP_BROKER", "BROKER_SESSION_TIMEOUT", "WEB_ENABLED", "APP_DATADIR"):
        monkeypatch.setenv(name, "77")
    conf = live.make_app(Settings(bootstrap_servers="one:9092, two:9093")).conf
    assert [str(url) for url in conf.broker] == ["kafka://one:9092", "kafka://two:9093"]
    assert (conf.broker_session_timeout, conf.broker_heartbeat_interval, conf.broker_request_timeout) == (10, 2, 15)
    assert (conf.web_enabled, conf.topic_allow_declare, str(conf.store)) == (False, False, "memory:")


async def test_without_a_broker_it_says_what_is_missing() -> None:
    with pytest.raises(SettingsError, match="KAFKA_BOOTSTRAP_SERVERS is not set"):
        live.make_app(Settings())


def test_topics_that_do_not_fit_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(_settings: Settings, topic: str) -> int:
        return 6 if topic == topics.SEGMENTS else 4

    monkeypatch.setattr(live, "partition_count", count)
    with pytest.raises(TopicError, match=r"media\.segments has 6 partitions and reelworks-live-segments-changelog 4"):
        live.check_topics(Settings())


def test_what_the_client_repeats_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(live.Seldom())
    for name in ("aiokafka", "aiokafka.conn", "services.streamer"):
        for number in range(3):
            logging.getLogger(name).error("node %d is away", number)
    assert [(r.name, r.getMessage()) for r in caplog.records] == [
        ("aiokafka", "node 0 is away"),
        ("aiokafka.conn", "node 0 is away"),
        *(("services.streamer", f"node {number} is away") for number in range(3)),
    ]


def test_no_security_settings_mean_plaintext(tmp_path: Path) -> None:
    assert live.credentials(client.base(kafka(tmp_path))) is None


@pytest.mark.parametrize(("protocol", "expected"), [("sasl_plaintext", AuthProtocol.SASL_PLAINTEXT), ("SASL_SSL", AuthProtocol.SASL_SSL)])
@pytest.mark.parametrize("name", ["sasl.mechanism", "sasl.mechanisms"])
def test_a_password_is_handed_on(tmp_path: Path, protocol: str, expected: AuthProtocol, name: str) -> None:
    settings = kafka(
        tmp_path, f"security.protocol={protocol}", f"{name}=SCRAM-SHA-512", "sasl.username=reel", "sasl.password=a=b"
    )  # fmt: skip
    made = live.credentials(client.base(settings))
    assert isinstance(made, faust.SASLCredentials)
    assert (made.protocol, made.mechanism.value, made.username, made.password) == (expected, "SCRAM-SHA-512", "reel", "a=b")
    assert (made.ssl_context is not None) == (protocol == "SASL_SSL")


def test_tls_verifies_unless_told_otherwise(tmp_path: Path) -> None:
    made = live.credentials(client.base(kafka(tmp_path, "security.protocol=ssl")))
    assert isinstance(made, faust.SSLCredentials)
    assert (made.context.verify_mode, made.context.check_hostname) == (ssl.CERT_REQUIRED, True)
    made = live.credentials(
        client.base(kafka(tmp_path, "security.protocol=ssl", "ssl.endpoint.identification.algorithm=none"))
    )  # fmt: skip
    assert isinstance(made, faust.SSLCredentials)
    assert (made.context.verify_mode, made.context.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_a_certificate_of_the_client_and_a_folder_of_authorities_are_handed_on(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authorities")
    issued = authority.issue("client")
    settings = kafka(
        tmp_path, "security.protocol=ssl", f"ssl.ca.location={tmp_path}/authorities", f"ssl.certificate.location={issued}"
    )  # fmt: skip
    made = live.credentials(client.base(settings))
    assert isinstance(made, faust.SSLCredentials)
    assert made.context.verify_mode == ssl.CERT_REQUIRED
    issued.write_text("no key")
    with pytest.raises(SettingsError, match="cannot be read"):
        live.credentials(client.base(settings))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["security.protocol=sasl_ssl", "sasl.mechanism=GSSAPI"], "sasl.mechanism=GSSAPI: the streamer's live app can use PLAIN"),
        (["security.protocol=sasl_ssl"], "can use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        (["security.protocol=carrier-pigeon"], "accepted are plaintext, ssl"),
        (["security.protocol=ssl", "ssl.ca.location=/nowhere/ca.pem"], "cannot be read"),
        (["security.protocol=ssl", "ssl.keystore.location=/keys.p12"], "cannot use ssl.keystore.location .*it can use .*ssl.ca.location"),
        (["security.protocol=sasl_ssl", "sasl.oauthbearer.method=oidc"], "cannot use sasl.oauthbearer.method"),
    ],
)
def test_what_it_cannot_do_is_said(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        live.credentials(client.base(kafka(tmp_path, *lines)))
