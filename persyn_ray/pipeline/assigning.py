"""Fill ASSIGNMENT: PerSyn by the router's logits, baselines in their own way, all from the same
tables.

Every method sees the same candidates: teachers that can take the prompt. Among equals a seeded draw
decides, never the order of teachers.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persyn_ray.config import Recipe
from persyn_ray.errors import DataError
from persyn_ray.layout import PERSYN, Run
from persyn_ray.method import baselines
from persyn_ray.method.allocation import assign, tie_breaks
from persyn_ray.method.preferences import count_preferences
from persyn_ray.pool import TeacherPool
from persyn_ray.schemas import ASSIGNMENT, DEAD_LETTERS, conform
from persyn_ray.stages.tables import Rewards, column_PM, load_rewards, shards_of

Teachers = NDArray[np.int64]
Floats = NDArray[np.float64]


def require_preferences(recipe: Recipe, run: Run) -> None:
    """Refuse to fit a router on nothing.

    Raises:
        DataError: no prompt of the parallel set prefers one teacher to another.
    """
    rewards = load_rewards(run, shards_of(run, "parallel"), len(recipe.pool))
    counts = count_preferences(rewards.rewards_PM)
    if counts.num_pairs == 0 and len(recipe.pool) > 1:
        raise DataError(
            "No preference can be made from the parallel set: of "
            f"{len(rewards.prompt_ids)} prompts x "
            f"{len(recipe.pool)} teachers, {counts.num_null_teachers} rewards are unknown and "
            f"{counts.num_ties} pairs are tied. Look at the dead letters and at scoring.quality."
        )


def strong_teacher(recipe: Recipe, parallel: Rewards) -> int:
    """The most capable teacher: `compare.strong`, or the best mean quality on the parallel set."""
    if recipe.compare.strong is not None:
        return recipe.pool.index(recipe.compare.strong)
    return baselines.best_constant(parallel.quality_PM, recipe.pool.names, recipe.prompts.seed)


def method_teachers(
    method: str,
    recipe: Recipe,
    prompt_ids: tuple[str, ...],
    logits_PM: Floats,
    candidates_PM: NDArray[np.bool_],
    parallel: Rewards,
    rewards_PM: Floats | None,
) -> tuple[Teachers, Floats]:
    """A method's teacher for each prompt (-1: none can take it), and the margin where it has one.

    Args:
        rewards_PM: true rewards of these prompts, which the oracle needs.
    """
    seed, names = recipe.prompts.seed, recipe.pool.names
    breaks_PM = tie_breaks(prompt_ids, names, seed)
    none_P = np.full(len(prompt_ids), np.nan)
    if method == PERSYN:
        return assign(logits_PM, breaks_PM, candidates_PM)
    if method == "random":
        return baselines.random_assignment(prompt_ids, names, seed, candidates_PM), none_P
    if method == "oracle":
        if rewards_PM is None:
            raise DataError("The oracle needs every teacher's reward on these prompts.")
        return assign(rewards_PM, breaks_PM, candidates_PM)
    constant = (
        strong_teacher(recipe, parallel)
        if method == "strong"
        else baselines.best_constant(parallel.rewards_PM, names, seed)
    )
    fallback_M = _means(parallel.rewards_PM)
    return (
        baselines.constant_assignment(
            constant, len(prompt_ids), candidates_PM, fallback_M, breaks_PM
        ),
        none_P,
    )


def _means(values_PM: Floats) -> Floats:
    """Mean of the known values of each teacher; -inf where none is known is not needed: NaN."""
    known_M = (~np.isnan(values_PM)).sum(axis=0)
    sums_M = np.nansum(values_PM, axis=0)
    return np.where(known_M > 0, sums_M / np.maximum(known_M, 1), np.nan)


def write_assignments(recipe: Recipe, run: Run, methods: tuple[str, ...]) -> dict[str, Any]:
    """ASSIGNMENT of every method for the parallel and routed prompts, one shard at a time."""
    pool = recipe.pool
    parallel = load_rewards(run, shards_of(run, "parallel"), len(pool))
    shares = {method: np.zeros(len(pool), dtype=np.int64) for method in methods}
    rows = unassigned = 0
    for shard in shards_of(run, "parallel", "routed"):
        logits = run.logits.read_table(shard)
        prompt_ids = tuple(logits["prompt_id"].to_pylist())
        candidates_PM = column_PM(logits, "candidates").astype(bool)
        rewards_PM = (
            load_rewards(run, [shard], len(pool)).rewards_PM if run.rewards.exists(shard) else None
        )
        for method in methods:
            teacher_P, margin_P = method_teachers(
                method,
                recipe,
                prompt_ids,
                column_PM(logits, "logits"),
                candidates_PM,
                parallel,
                rewards_PM,
            )
            run.assignment(method).write_table(shard, _table(prompt_ids, teacher_P, margin_P, pool))
            shares[method] += np.bincount(teacher_P[teacher_P >= 0], minlength=len(pool))
        rows += len(prompt_ids)
        unassigned += _bury(run, shard, prompt_ids, candidates_PM)
    counted = {
        method: dict(zip(pool.names, map(int, count), strict=True))
        for method, count in shares.items()
    }
    return {"rows": rows, "errors": unassigned, "assigned": counted}


def _table(
    prompt_ids: tuple[str, ...], teacher_P: Teachers, margin_P: Floats, pool: TeacherPool
) -> pa.Table:
    rows = [
        {
            "prompt_id": prompt_id,
            "teacher": pool.names[teacher],
            "margin": None if np.isnan(margin) else float(margin),
        }
        for prompt_id, teacher, margin in zip(prompt_ids, teacher_P, margin_P, strict=True)
        if teacher >= 0
    ]
    return conform(pa.Table.from_pylist(rows, schema=ASSIGNMENT), ASSIGNMENT, "assignment")


def _bury(
    run: Run, shard: str, prompt_ids: tuple[str, ...], candidates_PM: NDArray[np.bool_]
) -> int:
    """Prompts that no teacher can take become dead letters."""
    rows = [
        {
            "step": "route",
            "prompt_id": prompt_id,
            "teacher": None,
            "reason": "no_candidate",
            "detail": "the prompt fits no teacher's context",
        }
        for prompt_id, able_M in zip(prompt_ids, candidates_PM, strict=True)
        if not able_M.any()
    ]
    if rows:
        table = pa.Table.from_pylist(rows, schema=DEAD_LETTERS)
        run.dead_letters("route").write_table(shard, table)
    return len(rows)
