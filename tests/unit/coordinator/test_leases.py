"""The log's clock: an outage costs nobody a lease, silence does."""

from __future__ import annotations

from schemas.events import WorkerSeen
from services.coordinator.leases import FORGET_MS, Leases


def beat(leases: Leases, worker: str, at: int, *, bye: bool = False) -> None:
    leases.observe(WorkerSeen(worker=worker, service="transcoder", slots=1, bye=bye), at)


def seconds_of_others(leases: Leases, begin: int, count: int) -> None:
    for n in range(1, count + 1):
        beat(leases, "coordinator", begin + 1000 * n)


def test_a_worker_silent_for_a_lease_while_the_log_went_on_is_silent() -> None:
    leases = Leases(8000)
    beat(leases, "w", 10_000)
    seconds_of_others(leases, 10_000, 7)
    assert leases.silent() == set()
    assert [w.worker for w in leases.alive()] == ["w", "coordinator"]
    seconds_of_others(leases, 17_000, 1)
    assert leases.silent() == {"w"}


def test_an_outage_of_an_hour_counts_as_one_step() -> None:
    leases = Leases(8000)
    beat(leases, "w", 10_000)
    beat(leases, "coordinator", 10_000 + 3_600_000)
    assert leases.silent() == set()


def test_a_worker_that_only_a_task_names_gets_a_full_lease() -> None:
    leases = Leases(8000)
    seconds_of_others(leases, 0, 5)
    leases.notice("never-heard")
    seconds_of_others(leases, 5000, 7)
    assert leases.silent() == set()
    seconds_of_others(leases, 12_000, 1)
    assert leases.silent() == {"never-heard"}


def test_noticing_does_not_renew_a_lease() -> None:
    leases = Leases(8000)
    beat(leases, "w", 1000)
    seconds_of_others(leases, 1000, 8)
    leases.notice("w")
    assert leases.silent() == {"w"}


def test_goodbye_is_gone_and_not_silent() -> None:
    leases = Leases(8000)
    beat(leases, "w", 1000, bye=True)
    seconds_of_others(leases, 1000, 20)
    assert (leases.gone(), leases.silent()) == ({"w"}, set())


def test_timestamps_that_go_back_do_not_move_the_clock() -> None:
    leases = Leases(8000)
    beat(leases, "w", 10_000)
    beat(leases, "coordinator", 5_000)
    assert leases.clock_ms == 0


def test_the_long_silent_are_forgotten() -> None:
    leases = Leases(8000)
    beat(leases, "w", 1000)
    seconds_of_others(leases, 1000, FORGET_MS // 1000 + 1)
    leases.forget_old()
    assert leases.silent() == set()
