"""Rounding: from an assignment that splits a few prompts to a whole one within the same limits.

Whole are all prompts but one for each side that binds (see `relaxation`). These, and the `NEAREST`
to level beside them, are decided again by an exact program of whole moves (HiGHS branch and bound,
ended after `MOST_NODES` so that a run does not depend on the clock). HiGHS keeps limits to within a
tolerance; here the result counts only when sums that are rounded once are within them, and the
limits are drawn in by what was exceeded until they are.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np

from persyn_ray.method.arrays import Floats, Integers
from persyn_ray.method.constrained.pricing import AssignmentProblem, usual_sizes
from persyn_ray.method.constrained.relaxation import Relaxed, moves_of

NEAREST = (32, 256, 2048)  # the next one only when no assignment was found among the former
MOST_NODES = 100
MOST_TRIES = 8
WHOLE = 1e-6  # a part this near to 0 or 1 is not split


def make_whole(problem: AssignmentProblem, relaxed: Relaxed) -> Integers | None:
    """One teacher a prompt, (P,), within all limits exactly; None if none was found."""
    start_P, split = _start(relaxed)
    if not split.size and (problem.excess(start_P) <= 0).all():
        return start_P
    order = np.argsort(relaxed.view.lead_P, kind="stable")
    for num_nearest in NEAREST:
        prompts = np.union1d(split, order[:num_nearest])
        found_P = _decide(problem, start_P, prompts)
        if found_P is not None or num_nearest >= problem.num_prompts:
            return found_P
    return None


def _start(relaxed: Relaxed) -> tuple[Integers, Integers]:
    """Each prompt's greatest part, (P,), and the prompts that are split."""
    moves, part_Q = relaxed.moves, relaxed.part_Q
    teacher_P, rest_P = relaxed.teacher_P.copy(), np.ones(len(relaxed.teacher_P))
    np.subtract.at(rest_P, moves.prompt_Q, part_Q)
    order = np.lexsort((part_Q, moves.prompt_Q))
    last = np.append(np.diff(moves.prompt_Q[order]) != 0, True)[: len(order)]
    greatest = order[last]
    moved = greatest[part_Q[greatest] > rest_P[moves.prompt_Q[greatest]]]
    teacher_P[moves.prompt_Q[moved]] = moves.teacher_Q[moved]
    is_split_Q = (part_Q > WHOLE) & (part_Q < 1 - WHOLE)
    return teacher_P, np.unique(moves.prompt_Q[is_split_Q])


def _decide(problem: AssignmentProblem, start_P: Integers, prompts: Integers) -> Integers | None:
    """The best whole assignment that differs from the start on these prompts only."""
    sizes_K, drawn_in = usual_sizes(problem), problem
    for _ in range(MOST_TRIES):
        found_P = _program(drawn_in, start_P, prompts, sizes_K)
        if found_P is None:
            return None
        over_K = problem.excess(found_P)
        if (over_K <= 0).all():
            return found_P
        drawn_in = replace(drawn_in, high_K=drawn_in.high_K - 2 * np.maximum(over_K, 0.0))
    return None


def _program(
    problem: AssignmentProblem, start_P: Integers, prompts: Integers, sizes_K: Floats
) -> Integers | None:
    from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

    solver = cast(Any, optimize)
    moves = moves_of(problem, np.zeros(len(sizes_K)), start_P, prompts, np.inf)
    used_K, num_moves = problem.used(start_P), len(moves.loss_Q)
    low_K, high_K = ((limit_K - used_K) / sizes_K for limit_K in (problem.low_K, problem.high_K))
    sides = solver.LinearConstraint(moves.change_KQ * (1 / sizes_K)[:, None], low_K, high_K)
    once = solver.LinearConstraint(moves.at_most_once(num_moves), -np.inf, 1)
    found = cast(Callable[..., Any], solver.milp)(
        moves.loss_Q,
        integrality=np.ones(num_moves),
        bounds=solver.Bounds(0, 1),
        constraints=[sides, once],
        options={"node_limit": MOST_NODES, "mip_rel_gap": 0.0},
    )
    if found.x is None:
        return None
    teacher_P, is_moved_Q = start_P.copy(), found.x > 0.5
    teacher_P[moves.prompt_Q[is_moved_Q]] = moves.teacher_Q[is_moved_Q]
    return teacher_P
