"""Whose task is released next, and to which partition. Pure data structure, one for each service.

A budget of outstanding tasks, about twice the slots that workers announce, is filled round-robin over owners. An owner who
had nothing to do before comes first, but never twice in a row at the cost of the round: fifty owners with films do not keep a
newcomer waiting, nor newcomers the fifty. Within an owner, every other task goes to the job that has least (so that a small
job starts at once behind fifty films) and the others to the oldest job (so that a film is not starved by a stream of small
jobs).
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable

import msgspec

FLOOR = 4
"""Outstanding tasks where no worker is known: a scaler that looks at lag must see work before it starts the first one."""
WINDOW = 2
"""Outstanding tasks for each slot: one runs, one waits beside it, so that no slot idles for a round trip."""


MOST_SLOTS = 1024
"""Of one worker; what says more is believed so far."""
STICK = 32
"""Grants after which another of a worker's partitions is used."""


class Worker(msgspec.Struct, frozen=True):
    worker: str
    slots: int
    partitions: tuple[int, ...]


class Grant(msgspec.Struct, frozen=True):
    """Leave for a job to release its next task, to this partition."""

    job: str
    partition: int


class _Job(msgspec.Struct):
    owner: str
    seq: int
    """Order of arrival."""
    ready: int = 0
    outstanding: tuple[int, ...] = ()
    """Partitions of the tasks that are released and have not ended."""
    granted: tuple[int, ...] = ()
    """Partitions of grants that the job has not used yet."""
    served: int = 0
    version: int = 0
    """Of its entries in the heaps; older ones are void."""

    def load(self) -> int:
        return len(self.outstanding) + len(self.granted)

    def waits(self) -> bool:
        return self.ready > len(self.granted)


_Entry = tuple[tuple[int, ...], int, str]
"""Order, version, job."""


class _Owner(msgspec.Struct):
    least: list[_Entry]
    """Heap by load, then by what it was given so far."""
    oldest: list[_Entry]
    """Heap by arrival."""
    turn: int = 0


class Line:
    """The jobs that wait for one service, and the load of its partitions."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.share = 1.0
        """Of the budget, where several coordinators divide it."""
        self._jobs: dict[str, _Job] = {}
        self._owners: dict[str, _Owner] = {}
        self._round: deque[str] = deque()
        self._fresh: deque[str] = deque()
        """Owners who had nothing for as long as a round takes, and were given nothing since; the others are in the round."""
        self._grants = 0
        self._served: dict[str, int] = {}
        """By owner, at which grant it had its last one."""
        self._last = ""
        """The owner of the last grant,"""
        self._was_fresh = False
        """and whether it was its first."""
        self._seq = 0
        self._load = 0
        self._on_partition: Counter[int] = Counter()
        self._workers: list[Worker] = []
        self._home: dict[int, str] = {}
        self._turn = 0

    def set_workers(self, workers: Iterable[Worker]) -> None:
        """Live workers of the service with their slots and partitions."""
        self._workers = [sound for w in workers if (sound := self._sound(w)).partitions and sound.slots > 0]
        self._home = {p: w.worker for w in self._workers for p in w.partitions}

    def _sound(self, worker: Worker) -> Worker:
        # A foreign hand's heartbeat must neither name partitions that are not there nor claim the whole budget.
        return Worker(worker.worker, min(worker.slots, MOST_SLOTS), tuple(p for p in worker.partitions if 0 <= p < self.partitions))

    def set_job(self, job: str, owner: str, *, ready: int, outstanding: tuple[int, ...], used: tuple[int, ...] = ()) -> bool:
        """A job's numbers after a change: tasks that could be released, partitions of those that are, and partitions of
        the grants that this has used up. With nothing of either it leaves the line. Answers whether it is in the line now."""
        known = self._jobs.get(job)
        if known is None:
            if not ready and not outstanding:
                return False
            self._seq += 1
            known = self._jobs[job] = _Job(owner, self._seq)
        self._count(known, -1)
        granted = list(known.granted)
        for partition in used:
            if partition in granted:
                granted.remove(partition)
        known.ready, known.outstanding, known.granted = ready, outstanding, tuple(granted)
        self._count(known, 1)
        if not ready and not known.load():
            del self._jobs[job]
            return False
        self._enqueue(job, known)
        return True

    def remove(self, job: str) -> None:
        """Forget a job and all that it has outstanding."""
        known = self._jobs.pop(job, None)
        if known is not None:
            self._count(known, -1)

    @property
    def slots(self) -> int:
        return sum(w.slots for w in self._workers)

    @property
    def outstanding(self) -> int:
        """Tasks that are released or about to be: waiting and running. The number to scale by."""
        return self._load

    @property
    def waiting(self) -> int:
        """Jobs in the line."""
        return len(self._jobs)

    def budget(self) -> int:
        """Most tasks that may be outstanding now."""
        return max(1, round(max(FLOOR, WINDOW * self.slots) * self.share))

    def grant(self) -> Grant | None:
        """The next task to be released, counted against the budget from now on; None when none may be."""
        if not (self._round or self._fresh) or self._load >= self.budget():
            return None
        while self._round or self._fresh:
            fresh = bool(self._fresh) and not (self._was_fresh and self._round and self._round[0] != self._last)
            line = self._fresh if fresh else self._round
            owner = line[0]
            job = self._next_of(self._owners[owner])
            if job is None:
                del self._owners[owner]
                line.popleft()
                continue
            line.popleft()
            self._round.append(owner)
            self._last, self._was_fresh = owner, fresh
            self._grants += 1
            self._served[owner] = self._grants
            known = self._jobs[job]
            partition = self._choose_partition()
            self._count(known, -1)
            known.granted = (*known.granted, partition)
            known.served += 1
            self._count(known, 1)
            self._enqueue(job, known)
            return Grant(job, partition)
        return None

    def _next_of(self, owner: _Owner) -> str | None:
        # Entries are never removed from inside a heap: one whose version is old is skipped when it comes up.
        owner.turn += 1
        heaps = (owner.least, owner.oldest) if owner.turn % 2 else (owner.oldest, owner.least)
        for heap in heaps:
            while heap:
                entry = heap[0]
                known = self._jobs.get(entry[-1])
                if known is not None and known.version == entry[-2] and known.waits():
                    return entry[-1]
                heapq.heappop(heap)
        return None

    def _enqueue(self, job: str, known: _Job) -> None:
        known.version += 1
        if not known.waits():
            return
        if known.owner not in self._owners:
            self._owners[known.owner] = _Owner([], [])
            (self._fresh if self._is_fresh(known.owner) else self._round).append(known.owner)
        owner = self._owners[known.owner]
        heapq.heappush(owner.least, ((known.load(), known.served, known.seq), known.version, job))
        heapq.heappush(owner.oldest, ((known.seq,), known.version, job))
        if len(owner.oldest) > 64 + 4 * len(self._jobs):
            for heap in (owner.least, owner.oldest):
                heap[:] = [e for e in heap if e[2] in self._jobs and self._jobs[e[2]].version == e[1]]
                heapq.heapify(heap)

    def _is_fresh(self, owner: str) -> bool:
        # Between two stages, a film has nothing to release for a moment: its owner comes back, and is no newcomer.
        if len(self._served) > 1024 + 2 * len(self._jobs):
            self._served = {name: at for name, at in self._served.items() if self._grants - at <= len(self._jobs)}
        return self._grants - self._served.get(owner, -len(self._jobs) - 1) > len(self._jobs)

    def _choose_partition(self) -> int:
        # The worker with most free slots, and of its partitions the same one for a while: every partition that a
        # transaction touches costs the broker a marker, and to the worker they are all alike.
        self._turn += 1
        candidates: tuple[int, ...] = tuple(range(self.partitions))
        if self._workers:
            load: Counter[str] = Counter()
            for partition, tasks in self._on_partition.items():
                if partition in self._home:
                    load[self._home[partition]] += tasks
            candidates = max(self._workers, key=lambda w: w.slots - load[w.worker]).partitions
        return candidates[self._turn // STICK % len(candidates)]

    def _count(self, job: _Job, sign: int) -> None:
        self._load += sign * job.load()
        for partition in (*job.outstanding, *job.granted):
            self._on_partition[partition] += sign
