"""Mean quality, learnability and reward of each teacher on the parallel set.

Ways to choose one teacher for a whole data set read these: its mean reward and mean loss (CAR), and
the mean of every stored measure and quality. They stand in the record of step rewards.

Axes: P prompts, M teachers.
"""

from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from persyn_ray.method.arrays import mean_or_none
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.scoring import LearnabilityKind, QualityPartConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.response_store import measures_of, qualities_of, responses_of
from persyn_ray.shards.tables import by_teacher_PM, column_PM, outcomes_PM
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.results import TeacherAggregates

Floats = NDArray[np.float64]
MEASURES: tuple[str, ...] = get_args(LearnabilityKind)
QUALITY = "quality:"
"""Begins the name of a column that holds one of the qualities."""


def teacher_aggregates(
    run: RunLayout,
    teachers: Sequence[TeacherConfig],
    parts: Sequence[QualityPartConfig],
    section: ResponsesConfig,
    shards: Sequence[str],
) -> dict[str, TeacherAggregates]:
    """Means over each teacher's complete responses to some shards; None where nothing is known."""
    columns = [_shard_columns(run, teachers, parts, section, shard) for shard in shards]
    joined = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    return {
        teacher.name: _means({key: values_PM[:, m] for key, values_PM in joined.items()})
        for m, teacher in enumerate(teachers)
    }


def _shard_columns(
    run: RunLayout,
    teachers: Sequence[TeacherConfig],
    parts: Sequence[QualityPartConfig],
    section: ResponsesConfig,
    shard: str,
) -> dict[str, Floats]:
    """Every stored value of a shard, (P, M) in pool order; NaN for incomplete responses."""
    rewards = run.rewards.read_table(shard)
    ids = rewards["prompt_id"].to_pylist()
    found = {"reward": column_PM(rewards, "rewards"), "quality": column_PM(rewards, "quality")}
    said = responses_of(run, teachers, shard)
    measured = measures_of(run, teachers, shard, said)
    for name in (*MEASURES, "num_tokens"):
        found[name] = by_teacher_PM(measured, ids, name)
    for part in parts:
        tables = qualities_of(run, teachers, part, shard, said)
        found[f"{QUALITY}{part.name}"] = by_teacher_PM(tables, ids, "quality")
    is_incomplete_PM = outcomes_PM(said, section, ids) != "complete"
    for values_PM in found.values():
        values_PM[is_incomplete_PM] = np.nan
    return found


def _means(of: dict[str, Floats]) -> TeacherAggregates:
    """Aggregates of one teacher from its columns (P,)."""
    log_likelihood_P, num_tokens_P = of["log_likelihood"], of["num_tokens"]
    is_scored_P = ~np.isnan(log_likelihood_P)
    num_tokens = float(num_tokens_P[is_scored_P].sum())
    loss = -float((log_likelihood_P * num_tokens_P)[is_scored_P].sum())
    mean = mean_or_none(log_likelihood_P)
    parts = {
        name.removeprefix(QUALITY): mean_or_none(of[name])
        for name in of
        if name.startswith(QUALITY)
    }
    return TeacherAggregates(
        num_responses=int((~np.isnan(of["reward"])).sum()),
        mean_reward=mean_or_none(of["reward"]),
        mean_quality=mean_or_none(of["quality"]),
        qualities=parts if len(parts) > 1 else {},
        mean_loss=None if mean is None else -mean,
        token_loss=loss / num_tokens if num_tokens else None,
        mean_tokens=mean_or_none(np.where(is_scored_P, num_tokens_P, np.nan)),
        **{name: mean_or_none(of[name]) for name in MEASURES[1:]},
    )
