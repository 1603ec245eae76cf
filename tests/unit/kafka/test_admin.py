"""What is asked of a broker once, by a client that is thrown away."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaException

from schemas import topics
from services.runtime.children import ReservedPort
from services.runtime.kafka.admin import low_watermark
from services.runtime.settings import Settings


def test_asking_for_the_begin_of_a_log_ends_when_no_broker_answers() -> None:
    port = ReservedPort()
    try:
        with pytest.raises(KafkaException, match="Timed out"):
            low_watermark(Settings(bootstrap_servers=f"127.0.0.1:{port.number}"), topics.JOB_EVENTS, 0, seconds=0.3)
    finally:
        port.close()
