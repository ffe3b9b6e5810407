"""The pace of requests, in simulated time."""

import heapq
from collections.abc import Callable
from itertools import pairwise

from persyn_ray.engines.openai.pacing import LONGEST_DELAY, START, Pace, backoff

FOREVER = float("inf")


def drive(
    pace: Pace,
    num_requests: int,
    latency: Callable[[int], float],
    capacity: float = FOREVER,
    clock: float = 0.0,
) -> list[int]:
    """Send whenever allowed; more than `capacity` in flight are turned away. Limits over time."""
    under_way: list[tuple[float, int, float, bool]] = []
    limits: list[int] = []

    def finish_one() -> float:
        now, who, sent_at, is_fine = heapq.heappop(under_way)
        if is_fine:
            pace.ok(now, sent_at, 100)
        else:
            pace.overloaded(now, sent_at, str(who))
        limits.append(pace.limit)
        return now

    for number in range(num_requests):
        while not pace.may_send(clock):
            clock = finish_one() if under_way else pace.resumes_at
        pace.sent()
        is_fine = pace.in_flight <= capacity
        ends = clock + (latency(pace.in_flight) if is_fine else 0.1)
        heapq.heappush(under_way, (ends, number, clock, is_fine))
    while under_way:
        finish_one()
    return limits


def constant(_: int) -> float:
    return 1.0


def pace_of(most: int = 256, patience: int = 8) -> Pace:
    return Pace(most, patience, first_delay=1.0)


def test_an_endpoint_with_room_is_filled_within_a_few_round_trips_and_no_further() -> None:
    pace = pace_of(most=100)
    limits = drive(pace, 1000, constant)
    assert limits[0] == START
    assert sorted(limits) == limits
    assert max(limits) == 100
    assert len(set(limits)) <= 6  # doubling


def test_the_limit_is_never_over_the_most_nor_below_one() -> None:
    assert pace_of(most=2).limit == 2
    pace = pace_of(most=3)
    limits = drive(pace, 300, constant, capacity=0.0)
    assert set(limits) <= {1, 2, 3}
    assert pace.limit == 1


def test_turned_away_requests_keep_the_limit_near_the_capacity() -> None:
    limits = drive(pace_of(), 6000, constant, capacity=40)
    late = limits[len(limits) // 2 :]
    assert max(late) <= 40 + 40 // 8
    assert sum(late) / len(late) > 20


def test_a_limit_is_not_kept_where_more_in_flight_bring_less() -> None:
    def thrashing(num: int) -> float:
        return max(1.0, (num / 20) ** 2)  # past 20 the rate falls as 1 / num

    limits = drive(pace_of(), 6000, thrashing)
    late = limits[len(limits) // 2 :]
    assert max(late) < 64
    assert sum(late) / len(late) > 12


def test_without_demand_the_limit_does_not_grow() -> None:
    pace = pace_of()
    for second in range(100):
        pace.sent()
        pace.ok(second + 0.5, second, 10)
    assert pace.limit == START


def test_failures_of_one_round_trip_cut_once() -> None:
    pace = pace_of(most=256)
    drive(pace, 600, constant)
    before, later = pace.limit, 1e6
    for number in range(20):
        pace.sent()
        pace.overloaded(later + 1 + number / 100, later, str(number))
    assert pace.limit == before // 2
    pace.sent()
    pace.overloaded(later + 9, later + 8, "after the cut")
    assert pace.limit == before // 4


def test_after_trouble_growth_is_an_eighth_a_round() -> None:
    pace = pace_of(most=256)
    drive(pace, 3000, constant)
    pace.sent()
    pace.overloaded(1e6, 1e6, "one")
    limits = drive(pace, 600, constant, clock=1e6)
    steps = {late - early for early, late in pairwise(limits)}
    assert steps == {0, 32}


def test_a_wish_to_wait_holds_for_everybody_and_the_longest_counts() -> None:
    pace = pace_of()
    for asked in (5.0, 20.0, 1.0):
        pace.sent()
        pace.overloaded(100.0, 99.0, "one", asked)
    assert not pace.may_send(119.9)
    assert pace.may_send(120.0)


def test_one_request_that_always_fails_holds_up_nobody() -> None:
    pace = pace_of(patience=3)
    for second in range(10):
        pace.sent()
        pace.overloaded(second + 0.5, second, "poison")
        assert pace.may_send(second + 0.5)
        assert not pace.is_down(second + 0.5)


def test_an_endpoint_is_down_when_many_in_a_row_fail_and_up_after_one_success() -> None:
    pace, now, pauses = pace_of(patience=5), 0.0, []
    for number in range(5):
        now = max(now, pace.resumes_at)
        assert not pace.is_down(now)
        pace.sent()
        now += 2
        pace.overloaded(now, now - 1, str(number))
        pauses.append(max(0.0, pace.resumes_at - now))
    assert pauses[0] == 0
    assert all(late > early for early, late in pairwise(pauses))
    assert pace.is_down(now)
    now = pace.resumes_at
    assert not pace.is_down(now)  # one may try
    assert pace.may_send(now)
    pace.sent()
    assert not pace.may_send(now)
    pace.ok(now + 1, now, 1)
    pace.sent()
    pace.overloaded(now + 2, now + 1, "later")
    assert not pace.is_down(now + 2)


def test_backoff_doubles_up_to_a_minute_and_its_jitter_is_that_of_the_key() -> None:
    delays = [backoff(number, 1.0, "p") for number in range(1, 12)]
    assert delays == [backoff(number, 1.0, "p") for number in range(1, 12)]
    assert delays[0] != backoff(1, 1.0, "q")
    for number, delay in enumerate(delays):
        longest = min(LONGEST_DELAY, 2.0**number)
        assert longest / 2 <= delay <= longest
    assert backoff(10_000, 1.0, "p") <= LONGEST_DELAY
