"""The lines of all services, shared by the actors of one process. Thread-safe."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable

from schemas.events import SERVICES, WorkerSeen
from services.coordinator.fairness import Grant, Line, Worker


class Scheduler:
    """Actors report their jobs; the scheduler grants releases, and nudges an actor that was granted one while it slept.

    An actor is known by an opaque token, so that what a former owner of a partition reported is forgotten as a whole.
    """

    def __init__(self, partitions: dict[str, int]) -> None:
        self._lock = threading.Lock()
        self._lines = {service: Line(partitions[service]) for service in SERVICES}
        self._where: dict[str, tuple[object, str]] = {}
        """Job to (actor, service of its line)."""
        self._grants: dict[object, list[Grant]] = defaultdict(list)
        self._nudges: dict[object, Callable[[], None]] = {}

    def join(self, actor: object, nudge: Callable[[], None]) -> None:
        """An actor begins, with nothing."""
        self.leave(actor)
        with self._lock:
            self._nudges[actor] = nudge

    def leave(self, actor: object) -> None:
        """Forget all that an actor has reported and what it was granted."""
        with self._lock:
            for job in [j for j, (owner, _) in self._where.items() if owner is actor]:
                _, service = self._where.pop(job)
                self._lines[service].remove(job)
            self._grants.pop(actor, None)
            self._nudges.pop(actor, None)

    def report(
        self, actor: object, job: str, service: str, owner: str, *, ready: int, outstanding: tuple[int, ...], used: tuple[int, ...] = ()
    ) -> None:
        """A job's numbers after a change, see Line.set_job."""
        with self._lock:
            if actor not in self._nudges:
                return  # it was told to leave
            before = self._where.get(job)
            if before is not None and (before[0] is not actor or before[1] != service):
                self._lines[before[1]].remove(job)
                if before[0] in self._grants:  # they were for partitions of the former service
                    self._grants[before[0]] = [grant for grant in self._grants[before[0]] if grant.job != job]
            if self._lines[service].set_job(job, owner, ready=ready, outstanding=outstanding, used=used):
                self._where[job] = (actor, service)
            else:
                self._where.pop(job, None)

    def take(self, actor: object) -> list[Grant]:
        """Grant all that the budgets allow, wake the other actors that got some, answer this one's."""
        woken: list[Callable[[], None]] = []
        with self._lock:
            for line in self._lines.values():
                while (grant := line.grant()) is not None:
                    owner = self._where[grant.job][0]
                    if owner is not actor and not self._grants[owner]:
                        woken.append(self._nudges[owner])
                    self._grants[owner].append(grant)
            mine = self._grants.pop(actor, [])
        for nudge in woken:
            nudge()
        return mine

    def set_workers(self, alive: Iterable[WorkerSeen], share: float) -> None:
        """Workers whose lease holds; `share`: of all partitions of jobs, the part that this process owns."""
        by_service: dict[str, list[Worker]] = defaultdict(list)
        for seen in alive:
            by_service[seen.service].append(Worker(seen.worker, seen.slots, seen.partitions))
        with self._lock:
            for service, line in self._lines.items():
                line.set_workers(by_service[service])
                line.share = share

    def outstanding(self) -> dict[str, tuple[int, int, int]]:
        """By service: outstanding tasks, jobs in the line, slots."""
        with self._lock:
            return {service: (line.outstanding, line.waiting, line.slots) for service, line in self._lines.items()}
