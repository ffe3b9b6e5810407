"""Dual prices of the limits and the upper bound on reward that they prove (Lagrangian).

P prompts, M teachers, B prompts of a chunk, K = C + M sides: the C summed costs, then the number of
prompts of each teacher. Side k holds low_k <= sum of a_kmp x_mp <= high_k, where x_mp is 1 if
teacher m gets prompt p. A reward of -inf says that the teacher is no candidate.

    L(y) = sum_p max_m (r_mp - sum_k y_k a_kmp) + sum_k max(y_k low_k, y_k high_k)

L(y) is at least the summed reward of every assignment within the limits, at any prices y: add the
sum of y_k used_k to its reward and take it away again; each of the two parts is at most its maximum
in L(y). Shares of prompts are bound by it in the same way, so no relaxation can lie above it.

Nothing here searches for prices or for an assignment.
"""

from dataclasses import dataclass
from math import fsum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persyn_ray.method.arrays import Booleans, Floats, Integers

CHUNK = 4096  # prompts; 19 teachers in float64 stay within 1 MiB of cache

Costs = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class AssignmentProblem:
    """Rewards (M, P), costs that broadcast to (M, P), and the limits of all sides."""

    rewards_MP: Floats
    costs_C: tuple[Costs, ...]
    low_K: Floats
    high_K: Floats

    @property
    def num_prompts(self) -> int:
        """P."""
        return self.rewards_MP.shape[1]

    def has_high_K(self) -> Booleans:
        """Which sides have an upper limit: all costs, and counts below P; shape (K,)."""
        is_cost_K = np.arange(len(self.high_K)) < len(self.costs_C)
        return is_cost_K | (self.high_K < self.num_prompts)

    def cost_of(self, side: int, teacher_B: Integers, prompts: Integers | slice) -> Floats:
        """What these teachers take of a summed cost on these prompts, shape (B,)."""
        costs = _columns(self.costs_C[side], prompts)
        row_B = teacher_B if len(costs) > 1 else np.zeros_like(teacher_B)
        column_B = np.arange(len(teacher_B)) if costs.shape[1] > 1 else np.zeros_like(teacher_B)
        return costs[row_B, column_B].astype(np.float64)

    def used(self, teacher_P: Integers) -> Floats:
        """What an assignment takes of each side, shape (K,), rounded once."""
        everyone = slice(None)
        costs_C = [fsum(self.cost_of(c, teacher_P, everyone)) for c in range(len(self.costs_C))]
        return np.append(costs_C, np.bincount(teacher_P, minlength=len(self.rewards_MP)))

    def excess(self, teacher_P: Integers) -> Floats:
        """How far an assignment is above each limit, (K,): 0 or less if and only if it is not.

        The sign is exact: the limit is part of one sum that is rounded once.
        """
        everyone, num_costs = slice(None), len(self.costs_C)
        over_C = [
            fsum([*self.cost_of(c, teacher_P, everyone), -self.high_K[c]]) for c in range(num_costs)
        ]
        counts_M = np.bincount(teacher_P, minlength=len(self.rewards_MP))
        off_M = np.maximum(counts_M - self.high_K[num_costs:], self.low_K[num_costs:] - counts_M)
        return np.append(over_C, off_M)

    def reduced(self, prices_K: Floats, prompts: Integers | slice) -> Floats:
        """Rewards less what the pairs cost at these prices, shape (M, B)."""
        num_costs = len(self.costs_C)
        reduced_MB = self.rewards_MP[:, prompts] - prices_K[num_costs:, None]
        for price, costs in zip(prices_K[:num_costs], self.costs_C, strict=True):
            if price:
                reduced_MB -= price * _columns(costs, prompts).astype(np.float64)
        return reduced_MB

    def prefix(self, num_prompts: int) -> "AssignmentProblem":
        """The first prompts with their part of the limits."""
        part = num_prompts / self.num_prompts
        return AssignmentProblem(
            rewards_MP=self.rewards_MP[:, :num_prompts],
            costs_C=tuple(_columns(costs, slice(num_prompts)) for costs in self.costs_C),
            low_K=self.low_K * part,
            high_K=self.high_K * part,
        )


@dataclass(frozen=True, eq=False)
class View:
    """All prompts at some prices: L, each prompt's best teacher, its lead, what they use."""

    prices_K: Floats
    bound: float
    teacher_P: Integers
    lead_P: Floats  # over the second best; inf with a single candidate
    reward: float
    used_K: Floats


def look(problem: AssignmentProblem, prices_K: Floats) -> View:
    """What every prompt chooses at these prices."""
    best_P, lead_P = np.empty(problem.num_prompts), np.empty(problem.num_prompts)
    teacher_P = np.empty(problem.num_prompts, dtype=np.int64)
    for start in range(0, problem.num_prompts, CHUNK):
        chunk = slice(start, start + CHUNK)
        reduced_MB = problem.reduced(prices_K, chunk)
        teacher_P[chunk] = chosen_B = reduced_MB.argmax(axis=0)
        everyone_B = np.arange(len(chosen_B))
        best_P[chunk] = reduced_MB[chosen_B, everyone_B]
        reduced_MB[chosen_B, everyone_B] = -np.inf
        lead_P[chunk] = best_P[chunk] - reduced_MB.max(axis=0)
    used_K, best = problem.used(teacher_P), fsum(best_P)
    at_limits_K = np.maximum(prices_K * problem.low_K, prices_K * problem.high_K)
    return View(
        prices_K=prices_K,
        bound=best + fsum(at_limits_K),
        teacher_P=teacher_P,
        lead_P=lead_P,
        reward=best + float(prices_K @ used_K),
        used_K=used_K,
    )


def shortfall(problem: AssignmentProblem, prices_K: Floats, teacher_P: Integers) -> float:
    """L less the reward of an assignment within the limits, term by term, so never below 0."""
    lost_P = np.empty(problem.num_prompts)
    for start in range(0, problem.num_prompts, CHUNK):
        chunk = slice(start, start + CHUNK)
        reduced_MB = problem.reduced(prices_K, chunk)
        chosen_B = reduced_MB[teacher_P[chunk], np.arange(reduced_MB.shape[1])]
        lost_P[chunk] = reduced_MB.max(axis=0) - chosen_B
    used_K = problem.used(teacher_P)
    unused_K = np.maximum(prices_K * (problem.low_K - used_K), prices_K * (problem.high_K - used_K))
    return fsum([*lost_P, *unused_K])


def usual_sizes(problem: AssignmentProblem) -> Floats:
    """What one prompt changes on each side between its dearest and cheapest candidate, (K,)."""
    some = problem.prefix(min(problem.num_prompts, CHUNK))
    able_MP = np.isfinite(some.rewards_MP)
    sizes_C: list[float] = []
    for costs in some.costs_C:
        highest_P = np.where(able_MP, costs, 0.0).max(axis=0)
        lowest_P = np.where(able_MP, costs, np.inf).min(axis=0)
        mean = float((highest_P - lowest_P).mean())
        sizes_C.append(mean or float(highest_P.mean()) or 1.0)
    return np.append(sizes_C, np.ones(len(some.rewards_MP)))


def least_and_range(problem: AssignmentProblem) -> tuple[float, float]:
    """The least reward any assignment can have, and the range of single rewards (1 if none)."""
    highest = float(problem.rewards_MP.max())
    known_MP = np.isfinite(problem.rewards_MP)
    lowest_P = np.min(problem.rewards_MP, axis=0, where=known_MP, initial=highest)
    return fsum(lowest_P), highest - float(lowest_P.min()) or 1.0


def _columns(costs: Costs, prompts: Integers | slice) -> Costs:
    return costs[:, prompts] if costs.shape[1] > 1 else costs
