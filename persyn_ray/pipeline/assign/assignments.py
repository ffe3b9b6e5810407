"""Writes the ASSIGNMENT table of each method (rules in methods.py).

With `responses.incomplete: next_best`, a teacher whose response to a prompt is not complete is no
candidate for it any more, and every method chooses again by its own rule among the rest. What comes
out hangs on the stored responses alone, not on the rounds it took to get them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persyn_ray.errors import DataError
from persyn_ray.method.preferences import count_preferences
from persyn_ray.pipeline.assign import constrained
from persyn_ray.pipeline.assign.constrained import LimitSettings
from persyn_ray.pipeline.assign.methods import (
    Booleans,
    Choices,
    Floats,
    MethodSettings,
    Parallel,
    ResponseSettings,
    Teachers,
    method_teachers,
    parallel_of,
    tasks_of,
)
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.shards.response_store import responses_of
from persyn_ray.shards.tables import (
    column_PM,
    load_embeddings,
    load_rewards,
    outcomes_PM,
    shards_of,
)
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.results import RouteResult
from persyn_ray.storage.schemas import ASSIGNMENT, DEAD_LETTERS, conform


def require_preferences(run: RunLayout, num_teachers: int) -> None:
    """Refuse to fit a router on nothing.

    Raises:
        DataError: no prompt of the parallel set prefers one teacher to another.
    """
    rewards = load_rewards(run, shards_of(run, "parallel"), num_teachers)
    counts = count_preferences(rewards.rewards_PM)
    if counts.num_pairs == 0 and num_teachers > 1:
        raise DataError(
            "No preference can be made from the parallel set: of "
            f"{len(rewards.prompt_ids)} prompts x "
            f"{num_teachers} teachers, {counts.num_null_teachers} rewards are unknown and "
            f"{counts.num_ties} pairs are tied. Look at the dead letters and at scoring.quality."
        )


def _choices(pool: TeacherPool, run: RunLayout, shard: str) -> Choices:
    """What every method chooses from in one shard."""
    logits = run.logits.read_table(shard)
    has_rewards = run.rewards.exists(shard)
    prompt_ids = tuple(logits["prompt_id"].to_pylist())
    return Choices(
        prompt_ids,
        column_PM(logits, "logits"),
        column_PM(logits, "candidates").astype(bool),
        load_rewards(run, [shard], len(pool)) if has_rewards else None,
        load_embeddings(run, [shard]),
        constrained.within_limits(pool, run, shard, prompt_ids),
        tasks_of(run, [shard], prompt_ids),
    )


def write_assignments(
    settings: MethodSettings, limits: LimitSettings, run: RunLayout, methods: tuple[str, ...]
) -> RouteResult:
    """ASSIGNMENT of every method for the parallel and routed prompts, one shard at a time.

    Raises:
        ConfigError: the limits of `assignment` cannot be kept.
    """
    pool = settings.pool
    constraints = constrained.write_within_limits(limits, pool, settings.seed, run)
    parallel = parallel_of(pool, run)
    shares = {method: np.zeros(len(pool), dtype=np.int64) for method in methods}
    rows = unassigned = 0
    for shard in shards_of(run, "parallel", "routed"):
        choices = _choices(pool, run, shard)
        prompt_ids, candidates_PM = choices.prompt_ids, choices.candidates_PM
        for method in methods:
            teacher_P, margin_P = method_teachers(method, settings, choices, parallel)
            run.assignment(method).write_table(shard, _table(prompt_ids, teacher_P, margin_P, pool))
            shares[method] += np.bincount(teacher_P[teacher_P >= 0], minlength=len(pool))
        rows += len(prompt_ids)
        unassigned += _file_unassigned(run, shard, prompt_ids, candidates_PM)
    counted = {
        method: dict(zip(pool.names, map(int, count), strict=True))
        for method, count in shares.items()
    }
    return RouteResult(rows=rows, errors=unassigned, assigned=counted, constraints=constraints)


def reassign(settings: ResponseSettings, run: RunLayout, methods: tuple[str, ...]) -> int:
    """Give prompts without a complete response to their next-best teachers, in every method.

    Call it after a round of synthesis, and synthesise again as long as it changes anything: a
    change takes a teacher out of a prompt's candidates for good, so that ends. Prompts that run out
    of teachers become dead letters.

    Returns:
        Assignments changed, over all methods; 0 when called again on the same responses.
    """
    rules, pool = settings.methods, settings.methods.pool
    parallel = parallel_of(pool, run)
    num_changed = 0
    for shard in shards_of(run, "parallel", "routed"):
        choices = _choices(pool, run, shard)
        outcomes = outcomes_PM(
            responses_of(run, settings.teachers, shard), settings.responses, choices.prompt_ids
        )
        left_PM = choices.candidates_PM & np.isin(outcomes, ("complete", "unasked"))
        left = replace(choices, candidates_PM=left_PM)
        for method in methods:
            first = method_teachers(method, rules, choices, parallel)
            later = method_teachers(method, rules, left, parallel)
            margin_P = np.where(later[0] == first[0], first[1], later[1])
            table = _table(choices.prompt_ids, later[0], margin_P, pool)
            num_changed += _replace(run, method, shard, table)
        _file_unanswered(pool, run, shard, choices, left_PM, outcomes)
    return num_changed


def _replace(run: RunLayout, method: str, shard: str, table: pa.Table) -> int:
    """Write an assignment if it differs from the stored one; the number of prompts that moved."""
    stored = run.assignment(method).read_table(shard)
    if table.equals(stored):
        return 0
    run.assignment(method).write_table(shard, table)
    before, after = _teacher_of(stored), _teacher_of(table)
    return sum(before.get(name) != after.get(name) for name in before | after)


def _teacher_of(assignment: pa.Table) -> dict[str, str]:
    columns = (assignment[name].to_pylist() for name in ("prompt_id", "teacher"))
    return dict(zip(*columns, strict=True))


def num_reassigned(settings: MethodSettings, run: RunLayout, method: str) -> int:
    """Prompts whose teacher in ASSIGNMENT is not the one that the method chose first."""
    parallel = parallel_of(settings.pool, run)
    num_moved = 0
    for shard in shards_of(run, "parallel", "routed"):
        choices = _choices(settings.pool, run, shard)
        teacher_P, margin_P = method_teachers(method, settings, choices, parallel)
        first = _teacher_of(_table(choices.prompt_ids, teacher_P, margin_P, settings.pool))
        assigned = _teacher_of(run.assignment(method).read_table(shard))
        num_moved += sum(first[prompt_id] != teacher for prompt_id, teacher in assigned.items())
    return num_moved


def asked_by_persyn(settings: MethodSettings, run: RunLayout, shard: str) -> dict[str, list[str]]:
    """Prompts that each teacher is asked when PerSyn works alone."""
    return asked_by(settings, run, shard, PERSYN, None)


def asked_by(
    settings: MethodSettings,
    run: RunLayout,
    shard: str,
    method: str,
    parallel: Parallel | None,
) -> dict[str, list[str]]:
    """Prompts that each teacher is asked for one method: ASSIGNMENT, and before it those that were
    preferred to it and gave no complete response.

    Args:
        parallel: what methods beside PerSyn go by.
    """
    choices, names = _choices(settings.pool, run, shard), settings.pool.names
    teacher_of = _teacher_of(run.assignment(method).read_table(shard))
    asked: dict[str, list[str]] = {name: [] for name in names}
    left_PM = choices.candidates_PM.copy()
    for _ in names:
        left = replace(choices, candidates_PM=left_PM)
        teacher_P, _ = method_teachers(method, settings, left, parallel)
        for p in np.flatnonzero(teacher_P >= 0):
            prompt_id, name = choices.prompt_ids[p], names[teacher_P[p]]
            asked[name].append(prompt_id)
            left_PM[p] &= teacher_of.get(prompt_id) != name
            left_PM[p, teacher_P[p]] = False
    return asked


def _table(
    prompt_ids: Sequence[str], teacher_P: Teachers, margin_P: Floats, pool: TeacherPool
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


def _file_unassigned(
    run: RunLayout, shard: str, prompt_ids: tuple[str, ...], candidates_PM: Booleans
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


def _file_unanswered(
    pool: TeacherPool,
    run: RunLayout,
    shard: str,
    choices: Choices,
    left_PM: Booleans,
    outcomes_PM: NDArray[np.str_],
) -> None:
    """Prompts that no teacher has answered completely become dead letters of step synthesize."""
    rows: list[dict[str, str | None]] = []
    for p in np.flatnonzero(choices.candidates_PM.any(axis=1) & ~left_PM.any(axis=1)):
        found = zip(pool.names, outcomes_PM[p], choices.candidates_PM[p], strict=True)
        rows.append(
            {
                "step": "synthesize",
                "prompt_id": choices.prompt_ids[p],
                "teacher": None,
                "reason": "no_complete_response",
                "detail": ", ".join(f"{name}: {outcome}" for name, outcome, able in found if able),
            }
        )
    # Dead letters of teachers lie in files of the same shard's name.
    folder, name = run.dead_letters("synthesize"), f"no_complete_response-{shard}"
    if rows:
        folder.write_table(name, pa.Table.from_pylist(rows, schema=DEAD_LETTERS))
    else:
        folder.remove(name)
