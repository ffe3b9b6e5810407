"""How fast, lean and near to the best is assignment within limits, at a million prompts?

    python benchmarks/constrained.py           # writes benchmarks/results/constrained.json
    python benchmarks/constrained.py --quick   # fewer prompts, nothing written

Synthetic: rewards of a planted mixture (each prompt has a task, each teacher a skill for each
task), token counts of long and short prompts and of wordy and terse teachers. Five kinds of limit
at once: tokens, money, GPU-seconds, capacities, floors. Every part runs in a process of its own,
whose peak memory counts Python, the libraries and the inputs too. Seconds are of the assignment.

- million: the whole problem; every limit is checked again here, in exact sums.
- naive: the textbook linear program over all pairs of fewer prompts, given to the same solver at
  once, beside ours; both bounds must agree.
- front: points of reward against money.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from math import fsum
from typing import Any

import numpy as np
from publishing import publish

from persyn_ray.method.allocation import assign, tie_breaks
from persyn_ray.method.constrained.assign import assign_within, pareto_front
from persyn_ray.method.constrained.limits import Constraints, Limit, prompts_of_share

SEED = 0
NUM_TEACHERS, NUM_TASKS = 19, 8
GOALS = {"seconds": 60.0, "peak_gib": 4.0}
SIZES = {"million": (1_000_000, 50_000), "naive": (20_000, 1000), "front": (100_000, 5000)}
NUM_POINTS = 11
# Of the way from the cheapest assignment to the unlimited one.
PARTS = {"tokens": 0.5, "money": 0.3, "gpu_seconds": 0.35}
MOST_SHARE, LEAST_SHARE = 0.1, 0.01
TEACHERS = tuple(f"teacher {number}" for number in range(NUM_TEACHERS))


def planted(num_prompts: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Rewards, costs of each kind and draws of all pairs, shape (P, M) each."""
    rng = np.random.default_rng(SEED)
    # The teachers first: they are the same at every number of prompts.
    skill_KM = rng.normal(np.linspace(0.3, 0.7, NUM_TEACHERS), 0.15, (NUM_TASKS, NUM_TEACHERS))
    wordiness_M = np.exp(rng.normal(0, 0.3, NUM_TEACHERS)).astype(np.float32)
    price_M = np.geomspace(0.05e-6, 5e-6, NUM_TEACHERS).astype(np.float32)
    second_M = rng.permutation(np.geomspace(1e-4, 2e-2, NUM_TEACHERS)).astype(np.float32)
    shape = (num_prompts, NUM_TEACHERS)
    rewards_PM = skill_KM.astype(np.float32)[rng.integers(0, NUM_TASKS, num_prompts)]
    rewards_PM += np.float32(0.1) * rng.standard_normal(shape, dtype=np.float32)
    tokens_PM = np.exp(np.float32(0.3) * rng.standard_normal(shape, dtype=np.float32))
    tokens_PM *= rng.lognormal(5.5, 0.7, (num_prompts, 1)).astype(np.float32)
    tokens_PM = np.rint(tokens_PM * wordiness_M)
    costs = {"tokens": tokens_PM, "money": tokens_PM * price_M, "gpu_seconds": tokens_PM * second_M}
    prompts = [str(number) for number in range(num_prompts)]
    return rewards_PM, costs, tie_breaks(prompts, TEACHERS, SEED)


def limits_of(
    rewards_PM: np.ndarray, costs: dict[str, np.ndarray], draws_PM: np.ndarray
) -> Constraints:
    """Five kinds of limit, each tight enough to bind."""
    free_P, _ = assign(rewards_PM, draws_PM)
    everyone = np.arange(len(free_P))
    limits: list[Limit] = []
    for kind, costs_PM in costs.items():
        free = fsum(costs_PM[everyone, free_P])
        least = fsum(costs_PM.min(axis=1))
        most = least + PARTS[kind] * (free - least)
        limits.append(Limit(f"assignment.max_{kind}", kind, costs_PM, most))
    return Constraints(
        TEACHERS,
        tuple(limits),
        capacity_M=np.full(NUM_TEACHERS, int(MOST_SHARE * len(free_P))),
        floor_M=prompts_of_share(np.full(NUM_TEACHERS, LEAST_SHARE), len(free_P)),
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result, seconds on the clock, and seconds of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def peak_gib() -> float:
    """Most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def million(num_prompts: int) -> dict[str, Any]:
    """All prompts, all limits at once."""
    rewards_PM, costs, draws_PM = planted(num_prompts)
    constraints = limits_of(rewards_PM, costs, draws_PM)
    inputs_gib = peak_gib()
    result, seconds, cpu = timed(lambda: assign_within(rewards_PM, constraints, draws_PM))
    peak = peak_gib()
    everyone = np.arange(num_prompts)
    for limit in constraints.limits:
        used = np.asarray(limit.costs_PM)[everyone, result.teacher_P]
        assert fsum([*used.tolist(), -limit.most]) <= 0
    counts_M = np.bincount(result.teacher_P, minlength=NUM_TEACHERS)
    assert (counts_M <= np.asarray(constraints.capacity_M)).all()
    assert (counts_M >= np.asarray(constraints.floor_M)).all()
    return {
        "prompts": num_prompts,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_gib": round(peak, 3),
        "inputs_gib": round(inputs_gib, 3),
        "value": result.value,
        "gap": result.gap,
        "relative_gap": result.relative_gap,
        "limits_exceeded": 0,
        "used_of_limit": {
            limit.unit: float(used / limit.most)
            for limit, used in zip(constraints.limits, result.used_C, strict=True)
        },
        "limits_that_bind": int((result.prices_C > 0).sum()),
        "capacities_that_bind": int((result.prices_M > 0).sum()),
        "floors_that_bind": int((result.prices_M < 0).sum()),
    }


def naive(num_prompts: int) -> dict[str, Any]:
    """The textbook program over all pairs beside ours."""
    rewards_PM, costs, draws_PM = planted(num_prompts)
    constraints = limits_of(rewards_PM, costs, draws_PM)
    best, naive_seconds, naive_cpu = timed(lambda: textbook(rewards_PM, constraints))
    result, seconds, cpu = timed(lambda: assign_within(rewards_PM, constraints, draws_PM))
    return {
        "prompts": num_prompts,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "naive_seconds": round(naive_seconds, 2),
        "naive_cpu_seconds": round(naive_cpu, 2),
        "naive_over_ours": round(naive_cpu / cpu, 1),
        "naive_bound": best,
        "bound": result.bound,
        "bounds_differ_relative": abs(result.bound - best) / best,
        "relative_gap": result.relative_gap,
    }


def textbook(rewards_PM: np.ndarray, constraints: Constraints) -> float:
    """The best fractional assignment: one column a pair, one row a prompt and a limit."""
    from scipy import optimize, sparse

    num_prompts = len(rewards_PM)
    once = sparse.kron(sparse.eye_array(num_prompts), np.ones((1, NUM_TEACHERS)), format="csr")
    counts = sparse.csr_array(np.tile(np.eye(NUM_TEACHERS), num_prompts))
    sums = sparse.csr_array(np.array([np.ravel(limit.costs_PM) for limit in constraints.limits]))
    most_C = np.array([limit.most for limit in constraints.limits])
    scale_C = num_prompts / most_C
    found = optimize.linprog(
        -rewards_PM.astype(np.float64).ravel(),
        A_ub=sparse.vstack([sums * scale_C[:, None], counts, -counts], format="csr"),
        b_ub=np.concatenate([most_C * scale_C, constraints.capacity_M, -constraints.floor_M]),
        A_eq=once,
        b_eq=np.ones(num_prompts),
        method="highs-ipm",  # five times as fast here as its simplex, at 3,000 prompts
    )
    return -float(found.fun)


def front(num_prompts: int) -> dict[str, Any]:
    """Reward against money, the last point being the one without a limit."""
    rewards_PM, costs, draws_PM = planted(num_prompts)
    points, seconds, cpu = timed(
        lambda: pareto_front(rewards_PM, costs["money"], NUM_POINTS, draws_PM)
    )
    return {
        "prompts": num_prompts,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "worst_relative_gap": max(point.gap / point.reward for point in points),
        "points": [
            {"cost": round(point.cost / points[-1].cost, 4), "reward": point.reward / num_prompts}
            for point in points
        ],
    }


WORK = {"million": million, "naive": naive, "front": front}


def in_its_own_process(part: str, is_quick: bool) -> dict[str, Any]:
    """Figures of one part."""
    command = [sys.executable, __file__, "--part", part, *(["--quick"] if is_quick else [])]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    """Assign, compare, print the result as one JSON line."""
    parser = argparse.ArgumentParser(description="Speed, memory and gap of assignment in limits.")
    parser.add_argument("--quick", action="store_true", help="few prompts; nothing is written")
    parser.add_argument("--part", choices=WORK, help="run this part alone, in this process")
    options = parser.parse_args()
    if options.part:
        print(json.dumps(WORK[options.part](SIZES[options.part][options.quick])))
        return
    figures = {part: in_its_own_process(part, options.quick) for part in WORK}
    result = {
        "name": "constrained",
        "figures": figures,
        "goals": GOALS,
        "hardware": {"cpus": os.cpu_count(), "gpus": None},
        "versions": {
            "persyn-ray": version("persyn-ray"),
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "scipy": version("scipy"),
        },
        "seed": SEED,
        "config": {
            "data": "synthetic: planted tasks and skills; no model runs",
            "teachers": NUM_TEACHERS,
            "tasks": NUM_TASKS,
            "limits_between_cheapest_and_free": PARTS,
            "most_share": MOST_SHARE,
            "least_share": LEAST_SHARE,
            "threads": "one: neither numpy nor the solver uses more here",
            "peak_gib": "of the process: Python, libraries, inputs and the assignment",
            "naive": "scipy's linprog (HiGHS, interior point and crossover) on all pairs at once",
            "quick": options.quick,
        },
    }
    publish(result, options.quick)


if __name__ == "__main__":
    main()
