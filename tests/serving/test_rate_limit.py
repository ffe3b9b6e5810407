"""Token buckets, in simulated time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.serving.middleware.rate_limit import Rates


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def granted(rates: Rates, owner: str, num: int) -> int:
    return sum(rates.wait(owner) == 0 for _ in range(num))


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    rates = Rates(10.0, 5, clock)
    assert granted(rates, "ann", 9) == 5
    assert rates.wait("ann") == pytest.approx(0.1)
    clock.now += 0.25
    assert granted(rates, "ann", 9) == 2
    assert rates.wait("ann") == pytest.approx(0.05)
    clock.now += 1000
    assert granted(rates, "ann", 99) == 5


def test_owners_do_not_share() -> None:
    rates = Rates(1.0, 2, Clock())
    assert granted(rates, "ann", 5) == 2
    assert granted(rates, "bob", 5) == 2


def test_replicas_share_the_limit() -> None:
    clock = Clock()
    rates = Rates(10.0, 8, clock)
    rates.share(4)
    assert granted(rates, "ann", 9) == 2
    clock.now += 0.4
    assert granted(rates, "ann", 9) == 1
    assert rates.wait("ann") == pytest.approx(0.4)
    rates.share(1)
    assert rates.wait("ann") == pytest.approx(0.1)
    clock.now += 10
    assert granted(rates, "ann", 99) == 8


def test_time_before_a_change_counts_at_the_rate_of_then() -> None:
    clock = Clock()
    rates = Rates(10.0, 100, clock)
    assert granted(rates, "ann", 200) == 100
    clock.now += 1
    rates.share(10)
    clock.now += 1
    assert granted(rates, "ann", 200) == 10  # a tenth of 100 is the most


def test_more_replicas_than_burst_leave_each_a_burst_of_one() -> None:
    clock = Clock()
    rates = Rates(1.0, 2, clock)
    rates.share(100)
    assert granted(rates, "ann", 5) == 1
    assert rates.wait("ann") == pytest.approx(100.0)
    rates.share(0)  # a replica that is just being started or stopped
    assert rates.wait("ann") == pytest.approx(1.0)


def test_a_clock_that_stands_or_falls_gives_nothing() -> None:
    clock = Clock()
    rates = Rates(10.0, 1, clock)
    assert rates.wait("ann") == 0
    clock.now -= 5
    assert rates.wait("ann") == pytest.approx(0.1)


@given(
    per_second=st.floats(0.01, 1e5),
    burst=st.integers(1, 1000),
    pauses=st.lists(st.floats(0, 10), max_size=200),
)
def test_never_more_than_burst_plus_rate_in_any_time(
    per_second: float, burst: int, pauses: list[float]
) -> None:
    clock = Clock()
    rates = Rates(per_second, burst, clock)
    num = granted(rates, "ann", 1)
    for pause in pauses:
        clock.now += pause
        num += granted(rates, "ann", 1)
    assert num <= (burst + per_second * (clock.now - 1000.0)) * (1 + 1e-6) + 1e-6


@given(per_second=st.floats(0.01, 1e4), burst=st.integers(1, 20), num_replicas=st.integers(1, 1000))
def test_whoever_waits_as_told_is_served(per_second: float, burst: int, num_replicas: int) -> None:
    clock = Clock()
    rates = Rates(per_second, burst, clock)
    rates.share(num_replicas)
    for _ in range(burst + 20):
        wait = rates.wait("ann")
        if wait > 0:
            clock.now += wait * (1 + 1e-9)
            assert rates.wait("ann") == 0
