"""A seed is a schedule."""

from __future__ import annotations

from tests.chaos import schedule


def test_the_same_seed_gives_the_same_schedule_and_another_one_another() -> None:
    assert schedule.of(7, 180) == schedule.of(7, 180)
    assert schedule.of(7, 180).orders != schedule.of(8, 180).orders
    assert schedule.of(7, 180).troubles != schedule.of(8, 180).troubles


def test_three_minutes_have_every_kind_of_order_and_of_trouble() -> None:
    for seed in range(30):
        plan = schedule.of(seed, 180)
        assert {order.kind for order in plan.orders} == set(schedule.ORDERS)
        assert {trouble.kind for trouble in plan.troubles} == set(schedule.TROUBLES)
        assert all(0 <= order.at <= 180 * schedule.QUIET_SHARE for order in plan.orders)
        assert [t.at for t in plan.troubles] == sorted(t.at for t in plan.troubles)


def test_a_zombie_sleeps_longer_than_its_session_and_its_lease() -> None:
    naps = [t.seconds for seed in range(30) for t in schedule.of(seed, 180).troubles if t.kind == "zombie"]
    assert min(naps) > 8
