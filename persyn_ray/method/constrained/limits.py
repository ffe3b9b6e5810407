"""Limits of an assignment (tokens, cost, time, shares), and infeasibility messages.

P prompts, M teachers, C summed limits. Checks look at one limit at a time: its cheapest assignment,
the sum of floors, the sum of capacities. Limits that are possible alone and not together show only
in prices that grow without end; `together` names those that do.
"""

from dataclasses import dataclass
from math import ceil, fsum

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.arrays import Booleans, Floats, Integers
from persyn_ray.method.constrained.pricing import Costs

# Of a share times a number of prompts: 0.1 * 30 is a hair above 3 and still means 3.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Limit:
    """The most that assigned pairs may cost in sum; costs broadcast to (P, M), float32 will do."""

    setting: str  # its name in messages
    unit: str  # tokens
    costs_PM: Costs
    most: float


@dataclass(frozen=True, eq=False)
class Constraints:
    """What an assignment must keep: summed limits, and most and least prompts of each teacher."""

    teachers: tuple[str, ...]
    limits: tuple[Limit, ...] = ()
    capacity_M: ArrayLike | None = None  # inf: no limit
    floor_M: ArrayLike | None = None
    capacity_name: str = "the capacity"
    """In messages, as the next."""
    floor_name: str = "the floor"

    def counts_between(self) -> tuple[Floats, Floats]:
        """Least and most prompts of each teacher, (M,) each.

        Raises:
            ConfigError: a number is not a whole one from 0, or a floor is above its capacity.
        """
        least_M = self._counts(self.floor_M, 0.0, self.floor_name)
        most_M = self._counts(self.capacity_M, np.inf, self.capacity_name)
        for teacher, least, most in zip(self.teachers, least_M, most_M, strict=True):
            if least > most:
                raise ConfigError(
                    f"{teacher} must get at least {least:,.0f} prompts and may get {most:,.0f}; "
                    f"lower {self.floor_name} or raise {self.capacity_name}."
                )
        return least_M, most_M

    def _counts(self, given_M: ArrayLike | None, default: float, setting: str) -> Floats:
        num_teachers = len(self.teachers)
        if given_M is None:
            return np.full(num_teachers, default)
        counts_M = np.asarray(given_M, dtype=np.float64)
        if counts_M.shape != (num_teachers,):
            raise ConfigError(f"{setting} has {counts_M.shape} values for {num_teachers} teachers.")
        for teacher, count in zip(self.teachers, counts_M, strict=True):
            if not (count >= 0 and (count == np.inf or count == int(count))):
                raise ConfigError(
                    f"{setting} is {count:g} prompts for {teacher}; it must be a whole number, 0 "
                    "or more."
                )
        return counts_M


def prompts_of_share(share_M: ArrayLike, num_prompts: int, name: str = "the share") -> Integers:
    """The least number of prompts that is at least this share of all, shape (M,).

    Args:
        name: of the share, in messages.

    Raises:
        ConfigError: a share is not from 0 to 1.
    """
    share_M = np.asarray(share_M, dtype=np.float64)
    outside = share_M[~((share_M >= 0) & (share_M <= 1))]
    if outside.size:
        raise ConfigError(f"{name} is {outside[0]:g}; a share is from 0 to 1.")
    return np.array([max(0, ceil(share * num_prompts - ROUNDING)) for share in share_M], np.int64)


def check_costs(constraints: Constraints, able_PM: Booleans) -> None:
    """Refuse limits and costs that have no meaning.

    Raises:
        ConfigError: a limit is below 0 or NaN.
        DataError: costs do not fit, or a candidate's cost is unknown, infinite or below 0.
    """
    for limit in constraints.limits:
        if not 0 <= limit.most < np.inf:
            raise ConfigError(
                f"{limit.setting} is {limit.most:g} {limit.unit}; it must be a number from 0."
            )
        shape = np.shape(limit.costs_PM)
        if len(shape) != 2 or any(
            size not in (1, full) for size, full in zip(shape, able_PM.shape, strict=True)
        ):
            raise DataError(
                f"Costs {shape} of {limit.setting} do not fit prompts by teachers {able_PM.shape}."
            )
        bad_PM = ~((limit.costs_PM >= 0) & (limit.costs_PM < np.inf))
        if bad_PM.any() and (bad_PM & able_PM).any():
            bad_M = (bad_PM & able_PM).any(axis=0)
            raise DataError(
                f"{limit.setting} needs the {limit.unit} of every candidate, 0 or more; they are "
                f"unknown, infinite or below 0 for {constraints.teachers[int(bad_M.argmax())]}."
            )


def check_one_by_one(constraints: Constraints, able_PM: Booleans) -> None:
    """Refuse a limit, a floor or capacities that no assignment of these prompts can keep.

    Raises:
        ConfigError: says which, what the least is, and what it is limited to.
    """
    least_M, most_M = constraints.counts_between()
    served_P, num_able_M = able_PM.sum(axis=1) > 0, able_PM.sum(axis=0)
    num_prompts = int(served_P.sum())
    for teacher, least, num_able in zip(constraints.teachers, least_M, num_able_M, strict=True):
        if least > num_able:
            raise ConfigError(
                f"{teacher} can take {num_able:,} of {num_prompts:,} prompts, "
                f"{constraints.floor_name} asks for {least:,.0f}; lower it."
            )
    if least_M.sum() > num_prompts:
        raise ConfigError(
            f"{constraints.floor_name} asks for {least_M.sum():,.0f} prompts in sum, there are "
            f"{num_prompts:,}; lower it."
        )
    room = np.minimum(most_M, num_able_M).sum()
    if room < num_prompts:
        raise ConfigError(
            f"{constraints.capacity_name} has room for {room:,.0f} prompts in sum, there are "
            f"{num_prompts:,}; raise it."
        )
    for limit in constraints.limits:
        cheapest_P = np.where(able_PM, limit.costs_PM, np.inf).min(axis=1)[served_P]
        # The sign of a sum that is rounded once is exact.
        if fsum([*cheapest_P, -limit.most]) > 0:
            raise too_dear(limit, fsum(cheapest_P), "")


def too_dear(
    limit: Limit, cheapest: float, within: str = " within capacities and floors"
) -> ConfigError:
    """The error of a limit below the least that an assignment can take."""
    return ConfigError(
        f"The cheapest assignment{within} takes {cheapest:,.10g} {limit.unit}, "
        f"{cheapest - limit.most:,.4g} above {limit.setting} = {limit.most:,.10g}; raise it."
    )


def together(
    constraints: Constraints, prices_C: Floats, prices_M: Floats, is_proven: bool
) -> ConfigError:
    """The error that names the limits which cannot be kept together: those that have a price."""
    least_M, most_M = constraints.counts_between()
    named = [
        f"{limit.setting} ({limit.most:,.10g} {limit.unit})"
        for limit, price in zip(constraints.limits, prices_C, strict=True)
        if price > 0
    ]
    for setting, count_M, is_named_M in (
        (constraints.capacity_name, most_M, prices_M > 0),
        (constraints.floor_name, least_M, prices_M < 0),
    ):
        each = [f"{constraints.teachers[m]} {count_M[m]:,.0f}" for m in np.flatnonzero(is_named_M)]
        named += [f"{setting} (prompts of {', '.join(each)})"] if each else []
    what = "No assignment keeps" if is_proven else "No whole assignment was found that keeps"
    return ConfigError(f"{what} these together: {'; '.join(named)}. Loosen one of them.")
