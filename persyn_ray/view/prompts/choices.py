"""What each method chooses for one prompt: its rows in, a teacher by method out.

Methods that have an assignment are read; the others choose here by the same rules.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from persyn_ray.errors import PersynError
from persyn_ray.pipeline.assign.methods import Choices, Parallel, method_teachers, settings_of
from persyn_ray.pipeline.results.prompt_rows import row_of
from persyn_ray.recipe.limits import AssignmentConfig
from persyn_ray.shards.tables import Rewards
from persyn_ray.storage.layout import PERSYN
from persyn_ray.view.snapshot import Snapshot

Row = Mapping[str, Any]


def limit_names(limits: AssignmentConfig) -> tuple[str, ...]:
    """The settings that limit an assignment."""
    return tuple(sorted(name for name, value in limits.model_dump(exclude_defaults=True).items()))


def methods_of(
    seen: Snapshot,
    shard: str,
    prompt_id: str,
    logits: Row,
    rewards: Row,
    parallel: Parallel | None,
) -> dict[str, str | None]:
    """The teacher of each method; None where it cannot choose yet, or not without a reward."""
    found: dict[str, str | None] = {}
    for method in (PERSYN, *seen.recipe.compare.methods):
        stored = row_of(seen.run.assignment(method), shard, prompt_id)
        chosen = stored.get("teacher")
        if chosen is None and logits and parallel is not None:
            chosen = _chosen(seen, method, shard, prompt_id, (logits, rewards), parallel)
        found[method] = chosen
    return found


def _chosen(
    seen: Snapshot,
    method: str,
    shard: str,
    prompt_id: str,
    rows: tuple[Row, Row],
    parallel: Parallel,
) -> str | None:
    logits, rewards = rows
    signals = None
    if rewards:
        names = ("learnability", "quality", "rewards")
        signals = Rewards((prompt_id,), *(_row_1M(rewards[name]) for name in names))
    embedding = row_of(seen.run.embeddings, shard, prompt_id)
    choices = Choices(
        (prompt_id,),
        _row_1M(logits["logits"]),
        np.array([logits["candidates"]], np.bool_),
        signals,
        _row_1M(embedding["embedding"]) if embedding else None,
        tasks=(row_of(seen.run.prompts, shard, prompt_id).get("task"),),
    )
    try:
        chosen_P, _ = method_teachers(method, settings_of(seen.recipe), choices, parallel)
    except PersynError:  # it needs what this prompt has not: a true reward, an embedding
        return None
    return seen.recipe.pool.names[chosen_P[0]] if chosen_P[0] >= 0 else None


def _row_1M(values: Any) -> Any:
    return np.array([[np.nan if value is None else value for value in values]], np.float64)
