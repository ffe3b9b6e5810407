"""A mean with its 95 % interval, as sections hold it, and what a difference lets one claim."""

from typing import Literal, TypedDict

Verdict = Literal["higher", "lower", "unclear", "unmeasured"]


class Bounded(TypedDict):
    """A value within its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None


class Estimate(Bounded):
    """A mean with its interval, and of how many."""

    num: int | None


def verdict(difference: Bounded | None) -> Verdict:
    """What a difference with its interval allows one to claim."""
    if difference is None or difference.get("value") is None:
        return "unmeasured"
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None or low <= 0 <= high:
        return "unclear"
    return "higher" if low > 0 else "lower"
