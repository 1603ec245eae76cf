"""Whose task is next: budgets are kept, owners share, small jobs start at once, nobody starves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.coordinator.fairness import FLOOR, WINDOW, Grant, Line, Worker

TWO = [Worker("w1", 2, tuple(range(12))), Worker("w2", 2, tuple(range(12, 24)))]


class Play:
    """A line whose grants are used and whose tasks end, as actors do it."""

    def __init__(self, workers: list[Worker]) -> None:
        self.line = Line(24)
        self.line.set_workers(workers)
        self.jobs: dict[str, tuple[str, int, tuple[int, ...]]] = {}

    def add(self, job: str, owner: str, tasks: int) -> None:
        self.jobs[job] = (owner, tasks, ())
        self.line.set_job(job, owner, ready=tasks, outstanding=())

    def grant(self) -> Grant | None:
        grant = self.line.grant()
        if grant is not None:
            owner, ready, outstanding = self.jobs[grant.job]
            self.jobs[grant.job] = (owner, ready - 1, (*outstanding, grant.partition))
            self.line.set_job(grant.job, owner, ready=ready - 1, outstanding=(*outstanding, grant.partition), used=(grant.partition,))
        return grant

    def fill(self) -> list[Grant]:
        return list(iter(self.grant, None))

    def finish(self, job: str) -> None:
        owner, ready, outstanding = self.jobs[job]
        self.jobs[job] = (owner, ready, outstanding[1:])
        self.line.set_job(job, owner, ready=ready, outstanding=outstanding[1:])


def test_twice_the_slots_are_outstanding_and_no_more() -> None:
    play = Play(TWO)
    play.add("film", "a", 100)
    assert len(play.fill()) == WINDOW * 4
    play.finish("film")
    assert len(play.fill()) == 1


def test_without_workers_a_few_tasks_are_out_so_that_a_scaler_sees_them() -> None:
    play = Play([])
    play.add("film", "a", 100)
    assert len(play.fill()) == FLOOR


def test_owners_share_evenly_however_many_jobs_they_have() -> None:
    play = Play([Worker("w", 10, tuple(range(24)))])
    for n in range(50):
        play.add(f"many-{n}", "many", 10)
    play.add("one", "single", 100)
    owners = Counter(play.jobs[g.job][0] for g in play.fill())
    assert owners == {"many": 10, "single": 10}


def test_a_small_job_behind_fifty_films_is_among_the_next_two() -> None:
    play = Play(TWO)
    for n in range(50):
        play.add(f"film-{n}", "a", 300)
    played = 0
    while played < 200:
        for grant in play.fill():
            play.finish(grant.job)
            played += 1
    play.fill()
    play.add("small", "a", 1)
    for job, (_, _, outstanding) in list(play.jobs.items()):
        for _ in outstanding[:1]:
            play.finish(job)
            break
    granted = [g.job for g in play.fill()]
    assert "small" in granted[:2]


@given(st.integers(1, 8), st.integers(1, 50), st.lists(st.integers(0, 49), max_size=60))
@settings(max_examples=25, deadline=None)
def test_a_newcomer_is_among_the_next_two_behind_fifty_films_whoever_they_belong_to(slots: int, owners: int, ends: list[int]) -> None:
    play = Play([Worker("w", slots, tuple(range(24)))])
    for n in range(50):
        play.add(f"film-{n}", f"owner-{n % owners}", 300)
    for _ in range(3):  # each film is under way
        for _ in range(50):
            for grant in play.fill():
                play.finish(grant.job)
    play.fill()
    play.add("small", "newcomer", 1)
    granted: list[str] = []
    for film in [f"film-{n}" for n in (*ends, *range(50))]:
        if play.jobs[film][2]:
            play.finish(film)
            granted += [g.job for g in play.fill()]
    assert "small" in granted[:2]


def test_who_comes_back_for_the_next_stage_is_no_newcomer() -> None:
    """Fifty films have been planned and have all of their chunks to release: one who was never there is before them."""
    play = Play(TWO)
    for n in range(50):
        play.add(f"film-{n}", f"owner-{n}", 1)
    planned: set[str] = set()
    while len(planned) < 50:
        for grant in play.fill():
            play.finish(grant.job)
            if grant.job not in planned:
                planned.add(grant.job)
                play.add(grant.job, f"owner-{grant.job.split('-')[1]}", 300)
    play.fill()
    play.add("small", "newcomer", 1)
    granted: list[str] = []
    for film in [job for job, (_, _, out) in play.jobs.items() if out]:
        play.finish(film)
        granted += [g.job for g in play.fill()]
    assert "small" in granted[:2]


def test_newcomers_do_not_starve_those_who_wait() -> None:
    play = Play([Worker("w", 1, tuple(range(24)))])
    play.add("film", "patient", 1000)
    served = Counter[str]()
    for n in range(200):
        play.add(f"small-{n}", f"newcomer-{n}", 1)
        for grant in play.fill():
            served[grant.job.split("-")[0]] += 1
            play.finish(grant.job)
    assert served["film"] >= 100


def test_a_film_is_not_starved_by_a_stream_of_small_jobs() -> None:
    play = Play([Worker("w", 1, tuple(range(24)))])
    play.add("film", "a", 1000)
    served = Counter[str]()
    for n in range(200):
        play.add(f"small-{n}", "a", 1)
        for grant in play.fill():
            served[grant.job.split("-")[0]] += 1
            play.finish(grant.job)
    assert served["film"] >= 100


def test_a_task_goes_to_the_worker_with_most_free_slots() -> None:
    play = Play([Worker("busy", 2, (0, 1)), Worker("free", 2, (2, 3))])
    play.add("film", "a", 3)
    play.line.set_job("other", "b", ready=0, outstanding=(0, 1))
    assert {g.partition for g in (play.grant(), play.grant()) if g} <= {2, 3}


def test_several_coordinators_divide_the_budget() -> None:
    play = Play(TWO)
    play.line.share = 0.5
    play.add("film", "a", 100)
    assert len(play.fill()) == WINDOW * 4 // 2


def test_a_job_that_is_removed_gives_its_budget_back() -> None:
    play = Play(TWO)
    play.add("film", "a", 100)
    play.fill()
    play.line.remove("film")
    assert (play.line.outstanding, play.line.grant()) == (0, None)


@given(st.lists(st.tuples(st.sampled_from(["add", "grant", "finish", "remove", "unused"]), st.integers(0, 9)), max_size=200))
@settings(max_examples=300, deadline=None)
def test_counts_stay_true_whatever_happens(script: list[tuple[str, int]]) -> None:
    play = Play(TWO)
    for what, n in script:
        job = f"j{n}"
        match what:
            case "add" if job not in play.jobs:
                play.add(job, f"o{n % 3}", n)
            case "grant":
                play.grant()
            case "finish" if job in play.jobs:
                play.finish(job)
            case "remove" if job in play.jobs:
                play.line.remove(job)
                del play.jobs[job]
            case "unused":  # a grant for a job that has nothing to release any more
                grant = play.line.grant()
                if grant is not None:
                    owner, _, outstanding = play.jobs[grant.job]
                    play.jobs[grant.job] = (owner, 0, outstanding)
                    play.line.set_job(grant.job, owner, ready=0, outstanding=outstanding, used=(grant.partition,))
            case _:
                pass
        assert play.line.outstanding == sum(len(o) for _, _, o in play.jobs.values())
        assert play.line.outstanding <= play.line.budget()
    while (grant := play.grant()) is not None:
        play.finish(grant.job)
    waiting = [j for j, (_, ready, out) in play.jobs.items() if ready and not out]
    assert not waiting or play.line.outstanding >= play.line.budget(), "a job waits although there is room"
