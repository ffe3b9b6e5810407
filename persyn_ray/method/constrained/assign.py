"""Assignment within limits: the most summed reward that tokens, money, time and teachers allow.

    maximise    sum over prompts of r[p, m(p)]
    so that     sum over prompts of a_c[p, m(p)] <= most_c          each summed limit c
                floor_m <= prompts of teacher m <= capacity_m       each teacher m

Three parts. Prices (`relaxation`): the best assignment that may split prompts; no assignment within
the limits passes its value V (`pricing`). It splits at most K prompts, K being the number of
limits, capacities and floors that bind. Rounding (`constrained_rounding`): these few prompts and
their neighbours are decided again as wholes. Proof: the gap is reckoned from the prices alone, and
what the result uses is held against every limit in sums that are rounded once.

How large can the gap be? Give each split prompt to one of the teachers it is split among: flows are
whole, so one of these ways keeps capacities and floors and loses nothing, and passes limit c by at
most K s_c, s_c being the range of its costs on one prompt. So the best whole assignment has at
least V(most - K s): no more than K sum_c y_c s_c is lost, at the prices of those tighter limits.
With capacities and floors alone nothing is lost; with one limit alone, at most one prompt's range
of rewards (it goes to its cheaper teacher). What is returned is the gap itself, usually far less.

Ties: rewards are nudged by the draws, by at most `NUDGE` of their range, and the gap includes what
that costs; where no limit binds the result is `allocation.assign`'s. Prompts and teachers are put
in the order of their draws first, so that the order they came in changes nothing.

Costs are expectations or measurements given by the caller; nothing here estimates them.
"""

from dataclasses import dataclass, replace
from math import fsum

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError
from persyn_ray.method.allocation import assign, best_teachers, shares
from persyn_ray.method.arrays import Booleans, Floats, Integers, as_floats
from persyn_ray.method.constrained.limits import (
    Constraints,
    Limit,
    check_costs,
    check_one_by_one,
    together,
    too_dear,
)
from persyn_ray.method.constrained.ordering import Ordered, in_order_of_draws
from persyn_ray.method.constrained.pricing import (
    Costs,
    View,
    least_and_range,
    shortfall,
    usual_sizes,
)
from persyn_ray.method.constrained.relaxation import relax
from persyn_ray.method.constrained.rounding import make_whole
from persyn_ray.method.metrics import routed_reward

MATTERS = 1e-3  # of the greatest price, each for one prompt's usual cost


@dataclass(frozen=True, eq=False)
class Constrained:
    """An assignment within limits, and how far from the best one it can be."""

    teacher_P: Integers  # -1 for a prompt without candidates
    value: float  # summed reward
    gap: float  # no assignment within the limits has more than this above the value
    prices_C: Floats  # reward for one more unit of each limit
    prices_M: Floats  # reward for one more place of a capacity; below 0: for one less of a floor
    used_C: Floats  # in units of the limits
    counts_M: Integers  # prompts of each teacher

    @property
    def bound(self) -> float:
        """The summed reward that no assignment within the limits passes."""
        return self.value + self.gap

    @property
    def relative_gap(self) -> float:
        """The gap in parts of the bound; 0 without a gap."""
        return self.gap / abs(self.bound) if self.gap else 0.0


@dataclass(frozen=True, eq=False)
class FrontPoint:
    """An assignment such that none of at most its cost has more reward, but for the gap."""

    cost: float  # summed
    reward: float  # summed
    gap: float
    shares_M: Floats


def assign_within(
    rewards_PM: ArrayLike,
    constraints: Constraints,
    tie_breaks_PM: ArrayLike,
    candidates_PM: ArrayLike | None = None,
) -> Constrained:
    """The assignment of most summed reward within the constraints; each is kept exactly.

    As in `allocation.assign`, a teacher with a NaN reward is no candidate, and a prompt without
    candidates gets -1: it takes no part in costs, capacities and floors.

    Raises:
        ConfigError: the constraints cannot be kept; the message says which.
        DataError: shapes differ, a reward is infinite, or a candidate's cost is unknown or below 0.
    """
    rewards_PM = as_floats(rewards_PM, "Rewards")
    tie_breaks_PM = as_floats(tie_breaks_PM, "Tie breaks")
    free_P, _ = assign(rewards_PM, tie_breaks_PM, candidates_PM)
    able_PM = _able(rewards_PM, candidates_PM)
    if rewards_PM.shape[1] != len(constraints.teachers):
        raise ConfigError(
            f"{len(constraints.teachers)} teachers are named, rewards have {rewards_PM.shape[1]}."
        )
    check_costs(constraints, able_PM)
    check_one_by_one(constraints, able_PM)
    ordered = in_order_of_draws(rewards_PM, constraints, tie_breaks_PM, able_PM)
    prices_K = np.zeros(len(ordered.plain.low_K))
    if (ordered.plain.excess(ordered.placed(free_P)) <= 0).all():
        return _result(rewards_PM, ordered, free_P, prices_K)
    teacher_P, prices_K = _best(ordered, constraints)
    return _result(rewards_PM, ordered, teacher_P, prices_K)


def pareto_front(
    rewards_PM: ArrayLike,
    costs_PM: Costs,
    num_points: int,
    tie_breaks_PM: ArrayLike,
    candidates_PM: ArrayLike | None = None,
) -> list[FrontPoint]:
    """Reward against cost, from the cheapest assignment to the one of most reward.

    The ends are exact: of the cheapest the one of most reward, and the other way round. Between
    them the cost is limited in equal steps. `costs_PM` broadcasts to (P, M).

    Raises:
        ConfigError: fewer than 2 points.
        DataError: as in `assign_within`.
    """
    if num_points < 2:
        raise ConfigError(f"A front has two ends: {num_points} points are too few.")
    rewards_PM = as_floats(rewards_PM, "Rewards")
    tie_breaks_PM = as_floats(tie_breaks_PM, "Tie breaks")
    able_PM = _able(rewards_PM, candidates_PM)
    teachers = tuple(f"teacher {m}" for m in range(rewards_PM.shape[1]))
    constraints = Constraints(teachers, (Limit("the front", "units of cost", costs_PM, 0.0),))
    check_costs(constraints, able_PM)
    ordered = in_order_of_draws(rewards_PM, constraints, tie_breaks_PM, able_PM)
    prices_K = np.zeros(len(ordered.plain.low_K))
    first, last = (
        _result(rewards_PM, ordered, teacher_P, prices_K)
        for teacher_P in _ends(rewards_PM, costs_PM, tie_breaks_PM, able_PM)
    )
    found, prices_K = [replace(first, gap=0.0)], None
    low, high = first.used_C[0], last.used_C[0]
    for number in range(1, num_points - 1):
        limited = _with_most(ordered, low + (high - low) * number / (num_points - 1))
        teacher_P, prices_K = _best(limited, constraints, prices_K)
        result = _result(rewards_PM, limited, teacher_P, prices_K)
        # What cost less is within this limit too.
        better = max(found[-1], result, key=lambda one: one.value)
        found.append(replace(better, gap=max(0.0, result.bound - better.value)))
    return [_point(one) for one in [*found, last]]


def _ends(
    rewards_PM: Floats, costs_PM: Costs, tie_breaks_PM: Floats, able_PM: Booleans
) -> tuple[Integers, Integers]:
    """The cheapest assignment and the one of most reward, each the better one among equals."""
    costs_PM = np.where(able_PM, costs_PM, np.inf)
    is_cheapest_PM = able_PM & (costs_PM == costs_PM.min(axis=1, keepdims=True))
    is_best_PM = best_teachers(np.where(able_PM, rewards_PM, np.nan))
    cheapness_PM = -np.where(able_PM, costs_PM, 0.0)
    return (
        assign(rewards_PM, tie_breaks_PM, is_cheapest_PM)[0],
        assign(cheapness_PM, tie_breaks_PM, is_best_PM)[0],
    )


def _with_most(ordered: Ordered, most: float) -> Ordered:
    high_K = np.append(most, ordered.plain.high_K[1:])
    return replace(ordered, plain=replace(ordered.plain, high_K=high_K))


def _point(result: Constrained) -> FrontPoint:
    return FrontPoint(
        cost=float(result.used_C[0]),
        reward=result.value,
        gap=result.gap,
        shares_M=shares(result.teacher_P, len(result.counts_M)),
    )


def _able(rewards_PM: Floats, candidates_PM: ArrayLike | None) -> Booleans:
    able_PM = ~np.isnan(rewards_PM)
    return able_PM if candidates_PM is None else able_PM & np.asarray(candidates_PM, np.bool_)


def _best(
    ordered: Ordered, constraints: Constraints, prices_K: Floats | None = None
) -> tuple[Integers, Floats]:
    """Teachers of all prompts, (P,), and prices in the order of draws; prices to start from."""
    nudged = ordered.nudged()
    relaxed = relax(nudged, prices_K)
    whole_P = make_whole(nudged, relaxed) if relaxed.is_within else None
    if whole_P is None:
        raise _why_not(ordered, constraints, relaxed.view)
    return ordered.restored(whole_P), relaxed.view.prices_K


def _why_not(ordered: Ordered, constraints: Constraints, view: View) -> ConfigError:
    """One limit that floors and capacities leave no room for, or all that clash."""
    num_limits, problem = len(constraints.limits), ordered.plain
    for side, limit in enumerate(constraints.limits):
        counts_only = ordered.cheapest(side)
        cheapest = relax(counts_only)
        whole_P = make_whole(counts_only, cheapest) if cheapest.is_within else None
        if whole_P is not None and -cheapest.view.bound > limit.most:
            return too_dear(limit, fsum(problem.cost_of(side, whole_P, slice(None))))
    # Prices of what cannot be kept grow without end beside the others.
    weight_K = np.abs(view.prices_K) * usual_sizes(problem)
    at_fault_K = np.where(weight_K >= MATTERS * weight_K.max(), view.prices_K, 0.0)
    at_fault_M = at_fault_K[num_limits:][np.argsort(ordered.teacher_M)]
    is_proven = view.bound < least_and_range(problem)[0]
    return together(constraints, at_fault_K[:num_limits], at_fault_M, is_proven)


def _result(
    rewards_PM: Floats, ordered: Ordered, teacher_P: Integers, prices_K: Floats
) -> Constrained:
    num_limits = len(ordered.plain.costs_C)
    placed_P = ordered.placed(teacher_P)
    used_K = ordered.plain.used(placed_P)
    back_M = np.argsort(ordered.teacher_M)
    return Constrained(
        teacher_P=teacher_P,
        value=fsum(routed_reward(rewards_PM, teacher_P)[ordered.prompts]),
        gap=shortfall(ordered.plain, prices_K, placed_P),
        prices_C=prices_K[:num_limits],
        prices_M=prices_K[num_limits:][back_M],
        used_C=used_K[:num_limits],
        counts_M=used_K[num_limits:][back_M].astype(np.int64),
    )
