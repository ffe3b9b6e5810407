"""Limits as a command line gives them: `TEACHER=N` and a share in; the section of a recipe out."""

from collections.abc import Sequence

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.limits import AssignmentConfig
from persyn_ray.routing.choose import CAPACITY, FLOOR


def limits_of(capacity: Sequence[str], min_share: float | None) -> AssignmentConfig:
    """Capacities by teacher, and the least share of every teacher.

    Raises:
        ConfigError: a capacity is no whole number or is there twice, or the share not from 0 to 1.
    """
    if min_share is not None and not 0 <= min_share <= 1:
        raise ConfigError(f"{FLOOR} is {min_share:g}; a share is from 0 to 1.")
    each = [_capacity(text) for text in capacity]
    most = dict(each)
    if len(most) < len(each):
        raise ConfigError(f"{CAPACITY} names a teacher twice: {list(capacity)}.")
    return AssignmentConfig(capacity=most, min_share=min_share)  # pyright: ignore[reportCallIssue]


def _capacity(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")  # a name may hold the sign
    if not name or not number.isdecimal():
        raise ConfigError(f"{CAPACITY} {text!r} must read TEACHER=N with a whole number of rows.")
    return name, int(number)
