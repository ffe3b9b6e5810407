"""Relaxation: the best fractional assignment within limits, by prices and a small linear program.

P prompts, M teachers, K sides (see `pricing`), Q moves of a prompt from one teacher to another.

    least L(y) over all y  =  best summed reward when prompts may be split              (LP duality)

L is made of planes and bends only where a prompt's two best teachers are level. So around prices y
the clear prompts are fixed, the exact program of the `OPEN` prompts nearest to level is solved by
HiGHS (in units of their leads, so that it stays well scaled), and all prompts are looked at again
at its prices. If what was left out does not better L there, the solution is the best for all
prompts; else the next round starts there. When the program promised too much, prices may move less
and more prompts are open. First prices come from a small sample, then from ever larger ones.

A vertex of the program splits at most one prompt for each side that binds: it has one part above 0
for each prompt and for each such side. Nothing here makes split prompts whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from persyn_ray.errors import StepError
from persyn_ray.method.arrays import Floats, Integers
from persyn_ray.method.constrained.pricing import (
    AssignmentProblem,
    View,
    least_and_range,
    look,
    usual_sizes,
)

SMALL = 20_000  # pairs that are solved at once, and size of the first sample
OPEN, MOST_OPEN = 8192, 65_536  # prompts that one program decides: a tenth of a second and up
GROWTH = 8  # from one sample to the next
MOST_STEPS, SAMPLE_STEPS = 50, 8
CLOSE = 1e-6  # of one prompt's range of rewards, over all prompts
MISSED = 1e-6  # of one prompt's usual cost: HiGHS keeps its rows no better
TOLERANCES = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}


@dataclass(frozen=True, eq=False)
class Moves:
    """Ways to give a prompt to another teacher than now; what each changes."""

    prompt_Q: Integers
    teacher_Q: Integers
    loss_Q: Floats  # of reduced reward
    change_KQ: Any  # sparse

    def at_most_once(self, num_columns: int) -> Any:
        """Rows that keep the parts of a prompt with several moves at 1 or less in sum, sparse."""
        from scipy import sparse  # pyright: ignore[reportMissingTypeStubs]

        _, of_Q, num_moves = np.unique(self.prompt_Q, return_inverse=True, return_counts=True)
        row_of = np.cumsum(num_moves > 1) - 1
        several = np.flatnonzero(num_moves[of_Q] > 1)
        places = (row_of[of_Q[several]], several)
        shape = (int((num_moves > 1).sum()), num_columns)
        return cast(Any, sparse).csr_array((np.ones(len(several)), places), shape=shape)


@dataclass(frozen=True, eq=False)
class Relaxed:
    """The best fractional assignment: a whole one, and the parts of prompts moved from it."""

    view: View  # at the final prices
    teacher_P: Integers
    moves: Moves
    part_Q: Floats
    is_within: bool


@dataclass(frozen=True, eq=False)
class _Step:
    """Solution of one program: parts moved, its prices, and L there if nothing else bends."""

    part_Q: Floats
    prices_K: Floats
    model: float
    missed: float  # over all sides, in prompts' usual costs
    is_at_edge: bool


def relax(problem: AssignmentProblem, prices_K: Floats | None = None) -> Relaxed:
    """The best fractional assignment; `prices_K` that are nearly right save the samples.

    `is_within` is false if none was found within the limits. Where L is then below the least reward
    of any assignment, it is proven that there is none.

    Raises:
        StepError: HiGHS gave up on a program.
    """
    if prices_K is None:
        prices_K = np.zeros(len(problem.low_K))
        num_prompts = SMALL // len(problem.rewards_MP)
        while num_prompts < problem.num_prompts:
            prices_K = _descend(problem.prefix(num_prompts), prices_K, SAMPLE_STEPS).view.prices_K
            num_prompts *= GROWTH
    return _descend(problem, prices_K, MOST_STEPS)


def moves_of(
    problem: AssignmentProblem,
    prices_K: Floats,
    teacher_P: Integers,
    prompts: Integers,
    width: float,
) -> Moves:
    """Every move of these prompts that loses at most `width` of reduced reward."""
    reduced_MB, now_B = problem.reduced(prices_K, prompts), teacher_P[prompts]
    loss_MB = reduced_MB[now_B, np.arange(len(prompts))] - reduced_MB
    open_MB = np.isfinite(loss_MB) & (loss_MB <= width)
    open_MB[now_B, np.arange(len(prompts))] = False
    place_Q, teacher_Q = np.nonzero(open_MB.T)
    return Moves(
        prompt_Q=prompts[place_Q],
        teacher_Q=teacher_Q,
        loss_Q=loss_MB[teacher_Q, place_Q],
        change_KQ=_changes(problem, prompts[place_Q], now_B[place_Q], teacher_Q),
    )


def _changes(
    problem: AssignmentProblem, prompt_Q: Integers, from_Q: Integers, to_Q: Integers
) -> Any:
    from scipy import sparse  # pyright: ignore[reportMissingTypeStubs]

    num_costs, num_moves = len(problem.costs_C), len(prompt_Q)
    changes = [
        problem.cost_of(c, to_Q, prompt_Q) - problem.cost_of(c, from_Q, prompt_Q)
        for c in range(num_costs)
    ]
    values = np.concatenate([*changes, np.ones(num_moves), -np.ones(num_moves)])
    sides = np.repeat(np.arange(num_costs), num_moves)
    sides = np.concatenate([sides, num_costs + to_Q, num_costs + from_Q])
    places = (sides, np.tile(np.arange(num_moves), num_costs + 2))
    return cast(Any, sparse).csr_array((values, places), shape=(len(problem.low_K), num_moves))


def _descend(problem: AssignmentProblem, prices_K: Floats, most_steps: int) -> Relaxed:
    least, spread = least_and_range(problem)
    sizes_K, centre = usual_sizes(problem), look(problem, prices_K)
    num_open = OPEN
    moves, width = _open(problem, centre, spread, num_open)
    radius = 100 * spread if problem.rewards_MP.size <= SMALL else 4 * width
    steps = 0
    while True:
        step = _solve(problem, centre, moves, width, radius, sizes_K)
        view, steps = look(problem, step.prices_K), steps + 1
        is_within = step.missed <= MISSED
        is_best = is_within and view.bound - step.model <= CLOSE * spread
        is_hopeless = view.bound < least - CLOSE * spread
        if is_best or is_hopeless or steps == most_steps:
            best = min(view, centre, key=lambda one: one.bound)
            return Relaxed(best, centre.teacher_P, moves, step.part_Q, is_within)
        if centre.bound - view.bound < (centre.bound - step.model) / 8:
            radius, num_open = radius / 4, min(2 * num_open, MOST_OPEN)
        elif step.is_at_edge:
            radius *= 4
        centre = min(view, centre, key=lambda one: one.bound)
        moves, width = _open(problem, centre, spread, num_open)


def _open(
    problem: AssignmentProblem, view: View, spread: float, num_open: int
) -> tuple[Moves, float]:
    """Moves of the prompts nearest to level, and the greatest loss among them."""
    if problem.rewards_MP.size <= SMALL:
        everyone = np.arange(problem.num_prompts)
        moves = moves_of(problem, view.prices_K, view.teacher_P, everyone, np.inf)
        return moves, float(moves.loss_Q.max(initial=0.0)) or spread
    num_open = min(num_open, problem.num_prompts)
    nearest = np.sort(np.argpartition(view.lead_P, num_open - 1)[:num_open])
    leads = view.lead_P[nearest]
    width = max(float(leads[np.isfinite(leads)].max(initial=0.0)), 1e-12 * spread)
    return moves_of(problem, view.prices_K, view.teacher_P, nearest, width), width


def _solve(
    problem: AssignmentProblem,
    view: View,
    moves: Moves,
    width: float,
    radius: float,
    sizes_K: Floats,
) -> _Step:
    """The moves' exact program, in units of `width` and of the sides' usual sizes.

    Variables: the parts moved (Q), what the sides may use beyond the present (K), and how much more
    or less than that is used (K each). The latter cost what a price may yet rise and fall by, and
    so keep it within that.
    """
    num_moves, num_sides, edge = len(moves.loss_Q), len(sizes_K), radius / width
    prices_K = view.prices_K * sizes_K / width
    # A price far beyond the edge acts as one a little beyond it; its true size would spoil scaling.
    held_K = np.clip(prices_K, -2 * edge, 2 * edge)
    # What has no upper limit never has a price above 0, and what has no lower one, none below.
    rise_K = np.where(problem.has_high_K(), edge, np.clip(-prices_K, 0.0, edge))
    fall_K = np.where(problem.low_K > 0, edge, np.clip(prices_K, 0.0, edge))
    low_K, high_K = (
        (limit_K - view.used_K) / sizes_K for limit_K in (problem.low_K, problem.high_K)
    )
    zeros = np.zeros(2 * num_sides)
    lowest = np.concatenate([np.zeros(num_moves), low_K, zeros])
    highest = np.concatenate([np.ones(num_moves), high_K, zeros + np.inf])
    change_KQ = moves.change_KQ * (1 / sizes_K)[:, None]
    costs = np.concatenate([moves.loss_Q / width, -held_K, rise_K, fall_K])
    found = _linear_program(costs, change_KQ, moves, np.column_stack([lowest, highest]))
    part_Q, may_use_K, _ = np.split(found.x, [num_moves, num_moves + num_sides])
    shift_K = np.clip(-np.asarray(found.eqlin.marginals), -fall_K, rise_K)
    used_K = change_KQ @ part_Q
    return _Step(
        part_Q=part_Q,
        prices_K=(prices_K + shift_K) * width / sizes_K,
        model=view.reward + width * float((prices_K - held_K) @ may_use_K - found.fun),
        missed=float(np.maximum(np.maximum(low_K - used_K, used_K - high_K), 0.0).sum()),
        is_at_edge=bool(np.abs(shift_K).max() >= edge * (1 - 1e-6)),
    )


def _linear_program(costs: Floats, change_KQ: Any, moves: Moves, bounds: Floats) -> Any:
    """HiGHS' solution: what the moves change equals what the sides use, each prompt moved once."""
    from scipy import optimize, sparse  # pyright: ignore[reportMissingTypeStubs]

    stack, num_sides = cast(Any, sparse), change_KQ.shape[0]
    one_KK = stack.eye_array(num_sides)
    sides = stack.hstack([change_KQ, -one_KK, -one_KK, one_KK], format="csr")
    once = moves.at_most_once(sides.shape[1])
    found = cast(Callable[..., Any], optimize.linprog)(  # pyright: ignore[reportUnknownMemberType]
        costs,
        A_ub=once,
        b_ub=np.ones(once.shape[0]),
        A_eq=sides,
        b_eq=np.zeros(num_sides),
        bounds=bounds,
        method="highs-ds",
        options=TOLERANCES,
    )
    if found.x is None:
        raise StepError(f"The solver gave up on an assignment within limits: {found.message}")
    return found
