"""What a member of a group commits, and when. The broker's part is played here; tests/integration has the real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from services.runtime.kafka import group as module
from services.runtime.kafka.group import REPEAT_SECONDS, GroupConsumer
from services.runtime.settings import Settings

NOT_NOW = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)


class Client:
    """What GroupConsumer has of the client: commits that somebody answers."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.answer: Callable[[KafkaError | None, Sequence[Any]], None] = config["on_commit"]
        self.asked: list[dict[int, int]] = []
        self.refuses: KafkaError | None = None
        self.reads: list[str] = []

    def subscribe(self, _topics: list[str], **callbacks: Any) -> None:
        self.assign, self.revoke = callbacks["on_assign"], callbacks["on_revoke"]

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        if self.refuses is not None:
            raise KafkaException(self.refuses)
        self.asked.append({place.partition: place.offset for place in offsets})

    def answered(self, error: KafkaError | None = None, *, but: int = -1) -> None:
        """The last commit is, all of it or all `but` one partition."""
        wrong = {but: NOT_NOW}
        self.answer(error, [SimpleNamespace(partition=p, offset=o, error=wrong.get(p)) for p, o in self.asked[-1].items()])

    def seek(self, place: TopicPartition) -> None:
        if self.refuses is not None:
            raise KafkaException(self.refuses)
        self.reads.append(f"{place.partition} from {place.offset}")

    def resume(self, places: list[TopicPartition]) -> None:
        self.reads += [f"{place.partition} again" for place in places]

    def poll(self, _seconds: float) -> None: ...
    def incremental_assign(self, _places: Any) -> None: ...

    incremental_unassign = incremental_assign


def places(*partitions: int) -> list[TopicPartition]:
    return [TopicPartition("t", p) for p in partitions]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that have passed; the last one is now."""
    seconds = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds[-1]))
    return seconds


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> GroupConsumer:
    monkeypatch.setattr(module, "Consumer", Client)
    nothing: Callable[[list[int]], None] = lambda _: None  # noqa: E731
    made = GroupConsumer(
        Settings(bootstrap_servers="none:1"),
        group="g",
        topic="t",
        on_assign=nothing,
        on_revoke=nothing,
        on_commit=lambda: told.append("committed"),
    )
    client_of(made).assign(client_of(made), places(0, 1))
    return made


def client_of(member: GroupConsumer) -> Any:
    return member._consumer  # pyright: ignore[reportPrivateUsage]


def test_the_newer_commit_waits_for_the_answer_to_the_older(member: GroupConsumer, told: list[str]) -> None:
    client = client_of(member)
    assert member.commit({0: 5})
    assert member.commit({0: 9, 1: 2})
    member.poll(0)
    assert client.asked == [{0: 5}]
    client.answered()
    assert told == []
    member.poll(0)
    assert client.asked == [{0: 5}, {0: 9, 1: 2}]
    client.answered()
    assert told == ["committed"]
    member.poll(0)
    assert len(client.asked) == 2
    assert not member.commit({})


@pytest.mark.parametrize(("error", "but"), [(NOT_NOW, -1), (None, 1)])
def test_a_commit_that_was_refused_is_repeated(
    member: GroupConsumer, told: list[str], clock: list[float], error: KafkaError | None, but: int
) -> None:
    client = client_of(member)
    member.commit({1: 3})
    client.answered(error, but=but)
    assert told == []
    member.poll(0)
    assert client.asked == [{1: 3}], "not at once"
    clock.append(REPEAT_SECONDS)
    member.poll(0)
    assert client.asked == [{1: 3}, {1: 3}]
    client.answered()
    assert told == ["committed"]


def test_a_commit_that_could_not_be_sent_is_sent_later(member: GroupConsumer) -> None:
    client = client_of(member)
    client.refuses = NOT_NOW
    assert member.commit({0: 5})
    client.refuses = None
    member.poll(0)
    assert client.asked == [{0: 5}]


def test_nothing_is_committed_for_a_partition_that_is_another_members_now(member: GroupConsumer, clock: list[float]) -> None:
    client = client_of(member)
    member.commit({0: 5})
    client.answered(NOT_NOW)
    client.revoke(client, places(0))
    clock.append(REPEAT_SECONDS)
    assert not member.commit({0: 6})
    member.poll(0)
    assert client.asked == [{0: 5}]


def test_a_partition_whose_place_the_client_still_asks_for_is_asked_for_again(member: GroupConsumer) -> None:
    client = client_of(member)
    client.reads.clear()
    for wrong in (KafkaError._STATE, KafkaError._PREV_IN_PROGRESS):
        client.refuses = KafkaError(wrong)
        assert not member.seek_and_resume(0, 7)
    assert client.reads == []
    client.refuses = KafkaError(KafkaError._FATAL)
    with pytest.raises(KafkaException):
        member.seek_and_resume(0, 7)
    client.refuses = None
    assert member.seek_and_resume(0, 7)
    assert client.reads == ["0 from 7", "0 again"]
    assert member.seek_and_resume(5, 7), "another member's: nothing is to be done"
    assert len(client.reads) == 2
