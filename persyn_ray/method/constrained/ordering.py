"""Canonical row order of an assignment problem, so that results do not depend on input order.

P prompts, M teachers. Solvers break ties by position, and sums of floats depend on their order. So
prompts are put in the order of their greatest draw, teachers in the order of the first prompt's
draws, and the result is taken back. Every first few prompts are then a fair sample too. Rewards are
nudged by the draws, so that equal ones do not all go the same way.
"""

from dataclasses import dataclass, replace

import numpy as np

from persyn_ray.method.allocation import NOBODY
from persyn_ray.method.arrays import Booleans, Floats, Integers
from persyn_ray.method.constrained.limits import Constraints
from persyn_ray.method.constrained.pricing import AssignmentProblem, Costs, least_and_range

NUDGE = 1e-8  # of the range of rewards


@dataclass(frozen=True, eq=False)
class Ordered:
    """The problem in the order of draws: positions of its prompts and teachers, both rewards."""

    num_all: int  # prompts, those without candidates too
    prompts: Integers
    teacher_M: Integers
    nudges_MP: Floats  # from 0 to `NUDGE`
    plain: AssignmentProblem

    def nudged(self) -> AssignmentProblem:
        """The problem in which equal rewards differ."""
        return self._nudged(self.plain)

    def cheapest(self, side: int) -> AssignmentProblem:
        """The problem of least cost, of one limit's kind, within floors and capacities alone."""
        able_MP, num_limits = np.isfinite(self.plain.rewards_MP), len(self.plain.costs_C)
        costs = self.plain.costs_C[side].astype(np.float64)
        return self._nudged(
            AssignmentProblem(
                rewards_MP=np.where(able_MP, -costs, -np.inf),
                costs_C=(),
                low_K=self.plain.low_K[num_limits:],
                high_K=self.plain.high_K[num_limits:],
            )
        )

    def _nudged(self, problem: AssignmentProblem) -> AssignmentProblem:
        spread = least_and_range(problem)[1]
        return replace(problem, rewards_MP=problem.rewards_MP + spread * self.nudges_MP)

    def placed(self, teacher_P: Integers) -> Integers:
        """An assignment of all prompts in this order."""
        return np.argsort(self.teacher_M)[teacher_P[self.prompts]]

    def restored(self, placed_P: Integers) -> Integers:
        """The assignment of all prompts that `placed` makes this one of."""
        teacher_P = np.full(self.num_all, NOBODY, dtype=np.int64)
        teacher_P[self.prompts] = self.teacher_M[placed_P]
        return teacher_P


def in_order_of_draws(
    rewards_PM: Floats, constraints: Constraints, tie_breaks_PM: Floats, able_PM: Booleans
) -> Ordered:
    """The problem in the order of draws; prompts without candidates are left out."""
    # The greatest draw of a prompt does not depend on the order of teachers.
    prompts = np.argsort(tie_breaks_PM.max(axis=1), kind="stable")
    prompts = prompts[(able_PM.sum(axis=1) > 0)[prompts]]
    teacher_M = np.argsort(tie_breaks_PM[prompts[:1]].sum(axis=0), kind="stable")
    rewards_MP = np.where(able_PM, rewards_PM, -np.inf)[np.ix_(prompts, teacher_M)].T.copy()
    least_M, most_M = constraints.counts_between()
    limits_C = [limit.most for limit in constraints.limits]
    plain = AssignmentProblem(
        rewards_MP=rewards_MP,
        costs_C=tuple(
            _ordered_costs(limit.costs_PM, prompts, teacher_M) for limit in constraints.limits
        ),
        low_K=np.append(np.zeros(len(limits_C)), least_M[teacher_M]),
        high_K=np.append(limits_C, np.minimum(most_M, len(prompts))[teacher_M]),
    )
    nudges_MP = NUDGE * tie_breaks_PM[np.ix_(prompts, teacher_M)].T.copy()
    return Ordered(len(rewards_PM), prompts, teacher_M, nudges_MP, plain)


def _ordered_costs(costs_PM: Costs, prompts: Integers, teacher_M: Integers) -> Costs:
    """Costs of shape (M or 1, P or 1); those of pairs that cannot be are 0."""
    num_rows, num_columns = costs_PM.shape
    rows = prompts if num_rows > 1 else np.zeros(1, np.int64)
    columns = teacher_M if num_columns > 1 else np.zeros(1, np.int64)
    costs_MP = costs_PM[np.ix_(rows, columns)].T.copy()
    return np.nan_to_num(costs_MP, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
