"""Converts intervals and means into the report's content types."""

from typing import Any

from persyn_ray.statistics.intervals import Interval


def estimate(interval: Interval) -> dict[str, Any]:
    """An interval in the report's form."""
    return {
        "value": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "num": interval.num,
    }
