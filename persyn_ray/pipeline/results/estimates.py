"""Converts intervals and means into the report's content types."""

from persyn_ray.report.estimate import Estimate
from persyn_ray.statistics.intervals import Interval


def estimate(interval: Interval) -> Estimate:
    """An interval in the report's form."""
    return {
        "value": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "num": interval.num,
    }
