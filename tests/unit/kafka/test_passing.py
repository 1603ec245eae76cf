"""A broker that is just starting refuses questions for a moment; whoever asks has to get its answer all the same."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from services.runtime.kafka import passing, reader
from services.runtime.kafka.passing import outlast
from services.runtime.settings import Settings


class Refusing:
    """Answers with the errors first, then with the answer."""

    def __init__(self, *codes: int, answer: Any = "answer") -> None:
        self._codes = list(codes)
        self._answer = answer
        self.asked = 0

    def __call__(self, *_: object, **__: object) -> Any:
        self.asked += 1
        if self._codes:
            raise KafkaException(KafkaError(self._codes.pop(0)))
        return self._answer


@pytest.mark.parametrize("code", sorted(passing.PASSING))
def test_what_passes_is_waited_out(code: int) -> None:
    question = Refusing(code, code)
    assert outlast(question, seconds=5.0) == "answer"
    assert question.asked == 3


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._TIMED_OUT, KafkaError.UNKNOWN])
def test_what_does_not_pass_is_said_at_once(code: int) -> None:
    question = Refusing(code)
    with pytest.raises(KafkaException):
        outlast(question, seconds=5.0)
    assert question.asked == 1


def test_patience_ends() -> None:
    with pytest.raises(KafkaException) as said:
        outlast(Refusing(*[KafkaError.LEADER_NOT_AVAILABLE] * 1000), seconds=0.2)
    assert said.value.args[0].code() == KafkaError.LEADER_NOT_AVAILABLE


def test_a_topic_whose_leader_is_not_known_yet_is_asked_for_again() -> None:
    class Topic:
        def __init__(self, code: int | None, *partitions: int) -> None:
            self.error = None if code is None else KafkaError(code)
            self.partitions = dict.fromkeys(partitions)

    class Client:
        def __init__(self, *answers: Topic) -> None:
            self._answers = list(answers)

        def list_topics(self, topic: str, timeout: float) -> Any:
            return type("Metadata", (), {"topics": {topic: self._answers.pop(0)}})

    soon: Any = Client(Topic(KafkaError.LEADER_NOT_AVAILABLE), Topic(None, 0, 1))
    assert list(passing.describe(soon, "films", seconds=5.0).partitions) == [0, 1]
    never: Any = Client(Topic(KafkaError.UNKNOWN_TOPIC_OR_PART))
    error = passing.describe(never, "films", seconds=5.0).error
    assert error is not None
    assert error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.parametrize("whole", [True, False], ids=["the whole answer", "one partition of it"])
def test_heartbeats_are_looked_up_though_the_broker_knows_an_older_epoch(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    """A coordinator that started in the second in which its broker came back ended with this error."""
    epoch = KafkaError.UNKNOWN_LEADER_EPOCH
    found = [TopicPartition("media.workers", 0, 7)]
    unknown = [type("Place", (), {"error": KafkaError(epoch)})]
    answers = Refusing(*[epoch] * whole, answer=found)
    first = [] if whole else [unknown]

    class Client:
        def __init__(self, _: object) -> None:
            self.assigned: list[TopicPartition] = []

        def list_topics(self, topic: str, timeout: float) -> Any:
            described = type("Topic", (), {"error": None, "partitions": {0: None}})
            return type("Metadata", (), {"topics": {topic: described}})

        def get_watermark_offsets(self, _: TopicPartition, timeout: float) -> tuple[int, int]:
            return 0, 9

        def offsets_for_times(self, *_: object, **__: object) -> Any:
            return first.pop() if first else answers()

        def assign(self, places: list[TopicPartition]) -> None:
            self.assigned = places

    made: list[Client] = []

    def client(config: object) -> Client:
        made.append(Client(config))
        return made[-1]

    monkeypatch.setattr(reader, "Consumer", client)
    reader.LogReader.from_end(Settings(bootstrap_servers="127.0.0.1:1"), "media.workers", back_seconds=30.0)
    assert [place.offset for place in made[0].assigned] == [7]
