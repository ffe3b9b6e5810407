"""Training data of routers: parallel-set prompts with all rewards, split into train and held out.

Axes: P prompts, M teachers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.tables import heldout_mask, load_rewards, shards_of
from persyn_ray.storage.layout import run_of

Booleans = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ParallelSet:
    """In the order of the parallel shards."""

    prompt_ids: tuple[str, ...]
    conversations: list[Any]
    tasks: list[str | None]
    """Labels of `prompts.task_column`."""
    rewards_PM: NDArray[np.float64]
    """In pool order; NaN where unknown."""
    heldout_P: Booleans
    """Prompts that no router is fitted on."""


def parallel_set(recipe: Recipe) -> ParallelSet:
    """The parallel set of a run that has rewards."""
    run = run_of(recipe)
    shards = shards_of(run, "parallel")
    rewards = load_rewards(run, shards, len(recipe.pool))
    columns = ["prompt_id", "messages", "task"]
    prompts = {
        row["prompt_id"]: row
        for shard in shards
        for row in run.prompts.read_table(shard, columns).to_pylist()
    }
    ids = rewards.prompt_ids
    return ParallelSet(
        ids,
        [prompts[prompt_id]["messages"] for prompt_id in ids],
        [prompts[prompt_id]["task"] for prompt_id in ids],
        rewards.rewards_PM,
        heldout_mask(ids, recipe.router.heldout_fraction, recipe.router.seed),
    )


def chosen(values: Sequence[Any], which_P: Booleans) -> list[Any]:
    """The values of some prompts."""
    return [values[place] for place in np.flatnonzero(which_P)]
