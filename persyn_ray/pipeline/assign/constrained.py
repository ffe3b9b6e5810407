"""PerSyn's assignment within the limits of `assignment`: one optimum over all prompts at once.

What is maximised is the summed predicted reward: with `router.loss: regression` the logits, else
how often a teacher is predicted to beat the others (method/win_share.py). What a pair costs is
expected (costs.py). Only the first choice is within limits: where it gives no complete
response the next best is asked by logits, and step synthesize records what that comes to.

Axes: P prompts, M teachers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persyn_ray.method.allocation import NOBODY, assign, tie_breaks
from persyn_ray.method.constrained.assign import Constrained, assign_within, pareto_front
from persyn_ray.method.constrained.limits import Constraints, Limit, prompts_of_share
from persyn_ray.method.metrics import routed_reward
from persyn_ray.method.win_share import win_shares
from persyn_ray.pipeline.assign.costs import UNITS, expected_costs
from persyn_ray.pipeline.plan.placement import Deployment, deployment_of
from persyn_ray.recipe.limits import AssignmentConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.sections.limits import LimitsSummary
from persyn_ray.shards.tables import column_PM, shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.records import Record, Settings
from persyn_ray.storage.results import (
    LimitsPlanned,
    LimitsUsed,
    ParetoPoint,
    RouteResult,
    SynthesizeResult,
    read_result,
    result_of,
)
from persyn_ray.storage.schemas import ASSIGNMENT, conform

Floats = NDArray[np.float64]
CAPACITY, FLOOR = "assignment.capacity", "assignment.min_share"
NUM_POINTS = 9  # of the front of reward against tokens
ROUNDED = 1e-9  # in parts of a limit: less is rounding


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predicted rewards of all prompts that are assigned; NaN for who is no candidate."""

    prompt_ids: tuple[str, ...]
    rows: tuple[int, ...]
    """Prompts of each shard."""
    values_PM: Floats
    breaks_PM: Floats


@dataclass(frozen=True)
class LimitSettings:
    """The limits of a recipe, and what their costs and the value of an assignment rest on."""

    limits: AssignmentConfig
    deployment: Deployment
    is_reward: bool
    """Whether the router's logits are rewards themselves."""


def limit_settings(recipe: Recipe) -> LimitSettings:
    """The settings of a recipe that PerSyn's assignment within limits goes by."""
    is_reward = recipe.router.loss == "regression"
    return LimitSettings(recipe.assignment, deployment_of(recipe), is_reward)


def settings(limits: AssignmentConfig) -> Settings:
    """What the recipe says about limits; nothing without any."""
    return {"assignment": limits.model_dump(mode="json")} if limits.is_limited else {}


def priced(limits: AssignmentConfig) -> tuple[str, ...]:
    """Settings of a teacher that the assignment hangs on through its costs."""
    return ("price",) if limits.max_dollars is not None else ()


def write_within_limits(
    given: LimitSettings, pool: TeacherPool, seed: int, run: RunLayout
) -> LimitsPlanned | None:
    """Choose within the limits for the parallel and routed prompts; None without limits.

    Args:
        seed: of the draws among equals.

    Returns:
        Limits, what is used of them, the value, what no assignment within them can pass, the value
        without limits, the front of value against tokens, and the costs all this rests on.

    Raises:
        ConfigError: costs are unknown, or the limits cannot be kept; the message says which.
        DataError: the mean response of one teacher is unknown.
    """
    limits, names = given.limits, pool.names
    if not limits.is_limited:
        return None
    shards = shards_of(run, "parallel", "routed")
    predicted = _predicted(run, shards, names, seed, given.is_reward)
    costs = expected_costs(limits, given.deployment, run)
    constraints = _constraints(limits, names, predicted, costs)
    chosen = assign_within(predicted.values_PM, constraints, predicted.breaks_PM)
    start = 0
    for shard, rows in zip(shards, predicted.rows, strict=True):
        part = slice(start, start + rows)
        table = _table(names, predicted.prompt_ids[part], chosen.teacher_P[part])
        run.within_limits.write_table(shard, table)
        start += rows
    return _planned(limits, names, predicted, costs, chosen)


def within_limits(
    pool: TeacherPool, run: RunLayout, shard: str, prompt_ids: Sequence[str]
) -> NDArray[np.int64] | None:
    """The first choice within limits for some prompts of a shard, (P,); None without limits."""
    if not run.within_limits.exists(shard):
        return None
    table = run.within_limits.read_table(shard, ["prompt_id", "teacher"])
    columns = (table[name].to_pylist() for name in ("prompt_id", "teacher"))
    chosen = dict(zip(*columns, strict=True))
    place = {name: m for m, name in enumerate(pool.names)}
    return np.array([place.get(chosen.get(name, ""), NOBODY) for name in prompt_ids], np.int64)


def after_reassigning(run: RunLayout) -> LimitsUsed | None:
    """What PerSyn's assignment uses in the end, and by how much that goes over a limit.

    None without limits.
    """
    routed = read_result(run.records, RouteResult)
    planned = routed.constraints if routed is not None else None
    if planned is None:
        return None
    prompts = dict.fromkeys(planned.prompts, 0)
    for _, table in run.assignment(PERSYN).tables():
        for name in table["teacher"].to_pylist():
            prompts[name] += 1
    used = _used(planned.limits, planned.costs, planned.candidates, prompts)
    exceeded: dict[str, float] = {}
    for name, limit in planned.limits.items():
        over = limit - used[name] if name == "min_share" else used[name] - limit
        if over > ROUNDED * limit:
            exceeded[name] = over
    return LimitsUsed(used=used, exceeded=exceeded, prompts=prompts)


def gather_constraints(route: Record, synthesize: Record | None) -> LimitsSummary | None:
    """The report's section: as routed, with what is used in the end where prompts moved on."""
    planned = result_of(route, RouteResult).constraints
    if planned is None:
        return None
    later = result_of(synthesize, SynthesizeResult).constraints if synthesize is not None else None
    return {
        "limits": dict(planned.limits),
        "used": dict(later.used if later else planned.used),
        "value": planned.value,
        "bound": planned.bound,
        "gap": planned.gap,
        "unconstrained_value": planned.unconstrained_value,
        "pareto": [
            {"cost": one.cost, "reward": one.reward, "unit": one.unit} for one in planned.pareto
        ],
    }


def _predicted(
    run: RunLayout, shards: Sequence[str], names: Sequence[str], seed: int, is_reward: bool
) -> Predicted:
    """Read the logits of some shards; `is_reward`: they are rewards themselves."""
    ids: list[str] = []
    values: list[Floats] = []
    for shard in shards:
        logits = run.logits.read_table(shard)
        ids += logits["prompt_id"].to_pylist()
        able_PM = column_PM(logits, "candidates").astype(bool)
        logits_PM = np.where(able_PM, column_PM(logits, "logits"), np.nan)
        values.append(logits_PM if is_reward else win_shares(logits_PM))
    return Predicted(
        tuple(ids),
        tuple(map(len, values)),
        np.concatenate(values),
        tie_breaks(ids, names, seed),
    )


def _constraints(
    limits: AssignmentConfig,
    names: tuple[str, ...],
    predicted: Predicted,
    costs: dict[str, Floats],
) -> Constraints:
    able_PM = ~np.isnan(predicted.values_PM)
    floor_M = None
    if limits.min_share is not None:
        least_M = np.where(able_PM.any(axis=0), limits.min_share, 0.0)
        floor_M = prompts_of_share(least_M, int(able_PM.any(axis=1).sum()), FLOOR)
    return Constraints(
        names,
        tuple(
            Limit(f"assignment.{name}", unit, costs[name][None, :], most)
            for name, unit in UNITS.items()
            if (most := getattr(limits, name)) is not None
        ),
        np.array([limits.capacity.get(name, np.inf) for name in names]),
        floor_M,
        CAPACITY,
        FLOOR,
    )


def _planned(
    limits: AssignmentConfig,
    names: tuple[str, ...],
    predicted: Predicted,
    costs: dict[str, Floats],
    chosen: Constrained,
) -> LimitsPlanned:
    values_PM = predicted.values_PM
    free_P, _ = assign(values_PM, predicted.breaks_PM)
    able_M = np.asarray((~np.isnan(values_PM)).any(axis=0), np.bool_)
    candidates = [name for name, able in zip(names, able_M, strict=True) if able]
    prompts = dict(zip(names, map(int, chosen.counts_M), strict=True))
    bare: dict[str, float] = {
        name: float(most)
        for name in (*UNITS, "min_share")
        if (most := getattr(limits, name)) is not None
    }
    bare |= {_prompts_of(name): float(most) for name, most in limits.capacity.items()}
    listed = {
        name: {
            t: None if np.isnan(cost) else float(cost) for t, cost in zip(names, of_M, strict=True)
        }
        for name, of_M in costs.items()
    }
    known_P = free_P >= 0
    return LimitsPlanned(
        limits=bare,
        used=_used(bare, listed, candidates, prompts),
        value=chosen.value,
        bound=chosen.bound,
        gap=chosen.gap,
        unconstrained_value=fsum(routed_reward(values_PM, free_P)[known_P]),
        pareto=_front(predicted, costs["max_tokens"], able_M),
        costs=listed,
        candidates=candidates,
        prompts=prompts,
    )


def _front(predicted: Predicted, tokens_M: Floats, able_M: NDArray[np.bool_]) -> list[ParetoPoint]:
    """Value against tokens without any other limit; none where tokens are unknown."""
    if np.isnan(tokens_M[able_M]).any() or not tokens_M[able_M].any():
        return []
    points = pareto_front(predicted.values_PM, tokens_M[None, :], NUM_POINTS, predicted.breaks_PM)
    return [ParetoPoint(cost=one.cost, reward=one.reward, unit="tokens") for one in points]


def _used(
    limits: dict[str, float],
    costs: dict[str, dict[str, float | None]],
    candidates: Sequence[str],
    prompts: dict[str, int],
) -> dict[str, float]:
    """What so many prompts of each teacher use of every limit."""
    total = max(sum(prompts.values()), 1)
    used = {"min_share": min((prompts[name] / total for name in candidates), default=0.0)}
    used |= {_prompts_of(name): float(number) for name, number in prompts.items()}
    for name, of in costs.items():
        used[name] = fsum(number * (of[teacher] or 0.0) for teacher, number in prompts.items())
    return {name: used[name] for name in limits}


def _prompts_of(teacher: str) -> str:
    return f"prompts of {teacher}"


def _table(
    names: Sequence[str], prompt_ids: Sequence[str], teacher_P: NDArray[np.int64]
) -> pa.Table:
    rows = [
        {"prompt_id": prompt_id, "teacher": names[teacher], "margin": None}
        for prompt_id, teacher in zip(prompt_ids, teacher_P, strict=True)
        if teacher >= 0
    ]
    return conform(pa.Table.from_pylist(rows, schema=ASSIGNMENT), ASSIGNMENT, "within limits")
