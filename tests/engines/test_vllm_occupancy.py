"""Occupancy of an engine: sums over the time in which anything ran, taken once."""

from persyn_ray.engines.base import Occupancy
from persyn_ray.engines.vllm_occupancy import OccupancyMeter


def test_running_responses_are_weighted_by_their_time() -> None:
    meter = OccupancyMeter()
    for running, kv_use, now in ((2, 0.1, 0.0), (4, 0.5, 1.0), (0, 0.0, 3.0), (1, 0.2, 10.0)):
        meter.observe(running, kv_use, now)
    taken = meter.take()
    assert taken.seconds == 3.0  # the seven idle seconds count nowhere
    assert taken.running_seconds == 2 * 1 + 4 * 2
    assert taken.kv_seconds == 0.1 * 1 + 0.5 * 2
    assert taken.most_running == 4


def test_what_was_taken_is_not_given_again() -> None:
    meter = OccupancyMeter()
    meter.observe(3, 0.0, 0.0)
    meter.observe(3, 0.0, 2.0)
    assert meter.take().seconds == 2.0
    assert meter.take() == Occupancy()
    meter.observe(0, 0.0, 5.0)
    assert meter.take().running_seconds == 9.0


def test_sums_of_two_engines_add_up_and_their_most_is_the_larger() -> None:
    both = Occupancy(1.0, 4.0, 0.5, 5) + Occupancy(3.0, 6.0, 0.1, 2)
    assert both == Occupancy(4.0, 10.0, 0.6, 5)
