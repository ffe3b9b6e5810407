"""Extend a router: new teachers get columns of their own, all that was fitted before stays.

The arithmetic is in `method.columns`. Each new teacher is fitted by itself against the old ones, on
the prompts of the parallel set where its reward is known; a probe of some 200 does. With no new
teacher the router is used as it is: so it is tried on another data set.
Axes: P prompts, M teachers, D hidden.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from persyn_ray.errors import DataError, PoolMismatchError
from persyn_ray.method.allocation import draws
from persyn_ray.method.new_teacher import Column, new_column
from persyn_ray.models.load import on_device
from persyn_ray.models.router.frozen import add_columns, feature_logits, prompt_features
from persyn_ray.models.router.model import Router, load_router
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.parallel_set import ParallelSet
from persyn_ray.stages.route import TOKENS_PER_BATCH
from persyn_ray.storage.folder import Folder

Floats = NDArray[np.float64]

NUM_FOLDS = 5
"""Over which a column's l2 is cross-validated."""


def extended_router(
    recipe: Recipe, data: ParallelSet, scratch: Path
) -> tuple[Router, PreTrainedTokenizerBase, dict[str, Any]]:
    """The router of `router.extend` with a column for each teacher of the pool, in pool order; its
    tokenizer, and the facts for fit.json (see `fit_router`).

    Raises:
        ConfigError: there is no router.
        DataError: a new teacher has no pair with the old ones.
        PoolMismatchError: the router holds a teacher that the recipe does not name.
    """
    assert recipe.router.extend is not None
    folder = Folder.absolute(recipe.router.extend).download(scratch / "extended")
    router, tokenizer = load_router(folder)
    kept = _kept(router, recipe)
    features_PD = prompt_features(
        on_device(router),
        tokenizer,
        data.conversations,
        TOKENS_PER_BATCH,
        recipe.router.max_length,
    )
    new = [name for name in recipe.pool.names if name not in kept]
    columns = {
        name: _column(name, router, features_PD.double().numpy(), recipe, data) for name in new
    }
    fitted = {name: (column.weight_D, column.bias) for name, column in columns.items()}
    larger = add_columns(router, recipe.pool.names, fitted)
    num_fit = max((column.num_prompts for column in columns.values()), default=0)
    logits_PM = feature_logits(larger.head, features_PD[torch.from_numpy(data.heldout_P)])
    facts = {
        "num_fit": num_fit,
        "loss_curve": [],
        "heldout_logits": {str(num_fit): logits_PM.tolist()},
        "extended": {
            "kept": list(kept),
            "columns": {name: _facts(column) for name, column in columns.items()},
        },
    }
    return larger, tokenizer, facts


def _kept(router: Router, recipe: Recipe) -> tuple[str, ...]:
    """The old teachers, in the order of the router's columns."""
    kept = tuple(router.config.teachers)
    strangers = [name for name in kept if name not in recipe.pool.names]
    if strangers:
        raise PoolMismatchError(
            f"The router in {recipe.router.extend} (router.extend) was fitted for {strangers} too, "
            f"who are not among {recipe.pool.names}: list them under `teachers`, with `retired: "
            "true` if they are gone."
        )
    return kept


def _column(
    name: str, router: Router, features_PD: Floats, recipe: Recipe, data: ParallelSet
) -> Column:
    """The column of a new teacher, fitted on the prompts that are not held out."""
    pool, fit_P = recipe.pool, ~data.heldout_P
    draws_P = draws(data.prompt_ids, [""], recipe.router.seed, "fold")[:, 0]
    try:
        return new_column(
            features_PD[fit_P],
            router.head.weight.detach().double().cpu().numpy(),
            router.head.bias.detach().double().cpu().numpy(),
            data.rewards_PM[fit_P][:, [pool.index(old) for old in router.config.teachers]],
            data.rewards_PM[fit_P, pool.index(name)],
            (draws_P[fit_P] * NUM_FOLDS).astype(int),
            recipe.router.ties,
        )
    except DataError as error:
        raise DataError(f"Teacher {name!r} cannot join the router: {error}") from error


def _facts(column: Column) -> dict[str, Any]:
    names = ("num_prompts", "num_pairs", "l2", "temperature")
    return {name: getattr(column, name) for name in names}
