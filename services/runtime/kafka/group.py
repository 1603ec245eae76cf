"""A consumer group's member: partitions come and go, records arrive, positions move. One thread uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from services.runtime.kafka import client, refusals
from services.runtime.kafka.reader import Received, received
from services.runtime.settings import Settings

Partitions = Callable[[list[int]], None]
CLOSE_SECONDS: Final = 5.0
REPEAT_SECONDS: Final = 0.5
"""Until a commit that was refused is asked for again: a group that is being put in order refuses all of them."""


class GroupConsumer:
    """Member of `group` on one topic.

    `on_assign` and `on_revoke` (also for partitions that were lost) run inside `poll`, in the same thread.
    `on_commit` runs there, too, when all that was to be committed is.
    `paused`: newly assigned partitions deliver nothing before `seek_and_resume`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        group: str,
        topic: str,
        on_assign: Partitions,
        on_revoke: Partitions,
        on_commit: Callable[[], None] | None = None,
        paused: bool = False,
    ) -> None:
        self.topic = topic
        self._settings, self._group = settings, group
        self.owned: set[int] = set()
        self._on_assign, self._on_revoke, self._start_paused = on_assign, on_revoke, paused
        config = client.consumer(settings, group) | {"isolation.level": "read_committed"}
        self._on_commit = on_commit
        self._uncommitted: dict[int, int] = {}
        self._committing = False
        self._commit_after = 0.0
        self._consumer = Consumer(config | {"on_commit": self._committed})
        self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def poll(self, seconds: float, most: int = 499) -> list[Received]:
        """What came, after at most `seconds`.

        Raises KafkaException when the client gave up for good, refusals.Denied when we may not read. `poll` and then
        `consume(n, 0)`: a `consume` with a time-out waits until it is over or full, 40 ms a hop.
        """
        self._commit()
        first = self._consumer.poll(seconds)
        if first is None:
            return []
        got: list[Received] = []
        for message in (first, *self._consumer.consume(most, 0)):
            error = message.error()
            if error is None:
                got.append(received(message))
            elif refusals.gave_up(error) or error.code() == KafkaError._MAX_POLL_EXCEEDED:
                raise KafkaException(error)
            else:
                about_group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
                refusals.check(
                    error, self._settings, what=f"Read on the {f'group {self._group}' if about_group else f'topic {self.topic}'}"
                )
        return got

    def seek_and_resume(self, partition: int, offset: int) -> bool:
        """Read on from `offset`. No effect when the partition is not ours any more.

        Answers False when the client still asks where the group stood, and cannot be told until it knows: to be asked again.
        """
        if partition in self.owned:
            try:
                self._consumer.seek(TopicPartition(self.topic, partition, offset))
            except KafkaException as wrong:
                if wrong.args[0].code() in (KafkaError._STATE, KafkaError._PREV_IN_PROGRESS):
                    return False
                raise
            self._consumer.resume([TopicPartition(self.topic, partition)])
        return True

    def pause(self, partitions: Iterable[int]) -> None:
        self._consumer.pause([TopicPartition(self.topic, p) for p in partitions if p in self.owned])

    def resume(self, partitions: Iterable[int]) -> None:
        self._consumer.resume([TopicPartition(self.topic, p) for p in partitions if p in self.owned])

    def commit(self, offsets: Mapping[int, int]) -> bool:
        """Ask for a commit, without waiting; it is repeated until it is taken. Answers whether something is to be committed.

        One is under way at a time: of two that wait for the broker the older one may arrive last.
        """
        self._uncommitted.update((p, o) for p, o in offsets.items() if p in self.owned and o >= 0)
        self._commit()
        return bool(self._uncommitted)

    def commit_now(self, offsets: Mapping[int, int]) -> None:
        """Commit and wait. Raises KafkaException when it was not possible."""
        self._uncommitted.update((p, o) for p, o in offsets.items() if p in self.owned)
        if self._uncommitted:
            self._consumer.commit(offsets=self._places(), asynchronous=False)

    def close(self) -> None:
        """Leave the group, so that the others take over at once. Nothing is reported any more.

        Without a broker the client waits until there is one: it is left to that after CLOSE_SECONDS, and the session runs out.
        """
        self._on_revoke = self._on_assign = _nothing
        self._on_commit = None
        closing = threading.Thread(target=self._consumer.close, name="leaving-group", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(self.topic, p, o) for p, o in self._uncommitted.items()]

    def _commit(self) -> None:
        if self._committing or not self._uncommitted or time.monotonic() < self._commit_after:
            return
        try:
            self._consumer.commit(offsets=self._places(), asynchronous=True)
            self._committing = True
        except KafkaException as wrong:
            if refusals.gave_up(wrong.args[0]):
                raise

    def _committed(self, error: KafkaError | None, places: Sequence[TopicPartition]) -> None:
        self._committing = False
        for place in places:
            if error is None and place.error is None and self._uncommitted.get(place.partition) == place.offset:
                del self._uncommitted[place.partition]
        if error is not None or any(place.error is not None for place in places):
            self._commit_after = time.monotonic() + REPEAT_SECONDS
        if not self._uncommitted and self._on_commit is not None:
            self._on_commit()

    def _assigned(self, consumer: Consumer, places: Sequence[TopicPartition]) -> None:
        consumer.incremental_assign(list(places))
        numbers = [p.partition for p in places]
        self.owned.update(numbers)
        # Unlike Java's, this client keeps pauses over a rebalance.
        (consumer.pause if self._start_paused else consumer.resume)(list(places))
        self._on_assign(numbers)

    def _revoked(self, consumer: Consumer, places: Sequence[TopicPartition]) -> None:
        numbers = [p.partition for p in places]
        self.owned.difference_update(numbers)
        for partition in numbers:
            self._uncommitted.pop(partition, None)
        self._on_revoke(numbers)
        consumer.incremental_unassign(list(places))


def _nothing(_: list[int]) -> None: ...
