"""Training data of routers: parallel-set prompts with all rewards, split into train and held out.

Axes: P prompts, M teachers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from persyn_ray.models.chat import Message
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.shards.tables import heldout_mask, load_rewards, shards_of
from persyn_ray.storage.layout import RunLayout

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]
_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class ParallelSet:
    """In the order of the parallel shards."""

    prompt_ids: tuple[str, ...]
    conversations: list[list[Message]]
    tasks: list[str | None]
    """Labels of `prompts.task_column`."""
    rewards_PM: Floats
    """In pool order; NaN where unknown."""
    heldout_P: Booleans
    """Prompts that no router is fitted on."""


def parallel_set(run: RunLayout, num_teachers: int, config: RouterConfig) -> ParallelSet:
    """The parallel set of a run that has rewards; the section says which prompts are held out."""
    shards = shards_of(run, "parallel")
    rewards = load_rewards(run, shards, num_teachers)
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
        heldout_mask(ids, config.heldout_fraction, config.seed),
    )


def chosen(values: Sequence[_Value], which_P: Booleans) -> list[_Value]:
    """The values of some prompts."""
    return [values[place] for place in np.flatnonzero(which_P)]
