"""Extend a router: new teachers get columns of their own, all that was fitted before stays.

The arithmetic is in `method.columns`. Each new teacher is fitted by itself against the old ones, on
the prompts of the parallel set where its reward is known; a probe of some 200 does. With no new
teacher the router is used as it is: so it is tried on another data set.
Axes: P prompts, M teachers, D hidden.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from persyn_ray.errors import ConfigError, DataError, PoolMismatchError
from persyn_ray.method.allocation import draws
from persyn_ray.method.new_teacher import Column, new_column
from persyn_ray.models.load import on_device
from persyn_ray.models.router.frozen import add_columns, feature_logits, prompt_features
from persyn_ray.models.router.model import Router, load_router
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.shards.parallel_set import ParallelSet
from persyn_ray.stages.route import TOKENS_PER_BATCH
from persyn_ray.storage.fits import ColumnFit, ExtendedFit, RouterFit
from persyn_ray.storage.folder import Folder

Floats = NDArray[np.float64]

NUM_FOLDS = 5
"""Over which a column's l2 is cross-validated."""


def extended_router(
    config: RouterConfig, pool: TeacherPool, data: ParallelSet, scratch: Path
) -> tuple[Router, PreTrainedTokenizerBase, RouterFit]:
    """The router of `router.extend` with a column for each teacher of the pool, in pool order; its
    tokenizer, and what the fit came to.

    Raises:
        ConfigError: there is no router, or it has no columns.
        DataError: a new teacher has no pair with the old ones.
        PoolMismatchError: the router holds a teacher that the recipe does not name.
    """
    assert config.extend is not None
    folder = Folder.absolute(config.extend).download(scratch / "extended")
    router, tokenizer = load_router(folder)
    if router.predictor is not None:
        raise ConfigError(
            f"The router in {config.extend} (router.extend) is of router.kind "
            f"{router.predictor.kind}, which has no columns that others could be put beside: name "
            "a router of kind fitted, or fit one of any kind for all teachers."
        )
    kept = _kept(router, config.extend, pool)
    features_PD = prompt_features(
        on_device(router),
        tokenizer,
        data.conversations,
        TOKENS_PER_BATCH,
        config.max_length,
    )
    features = features_PD.double().numpy()
    columns = {
        name: _column(name, pool, router, features, config, data)
        for name in pool
        if name not in kept
    }
    fitted = {name: (column.weight_D, column.bias) for name, column in columns.items()}
    larger = add_columns(router, pool.names, fitted)
    num_fit = max((column.num_prompts for column in columns.values()), default=0)
    logits_PM = feature_logits(larger.head, features_PD[torch.from_numpy(data.heldout_P)])
    fit = RouterFit(
        num_fit=num_fit,
        loss_curve=[],
        heldout_logits={num_fit: logits_PM.tolist()},
        extended=ExtendedFit(
            kept=list(kept), columns={name: _column_fit(of) for name, of in columns.items()}
        ),
    )
    return larger, tokenizer, fit


def _kept(router: Router, address: str, pool: TeacherPool) -> tuple[str, ...]:
    """The old teachers, in the order of the router's columns."""
    kept = tuple(router.config.teachers)
    strangers = [name for name in kept if name not in pool.names]
    if strangers:
        raise PoolMismatchError(
            f"The router in {address} (router.extend) was fitted for {strangers} too, "
            f"who are not among {pool.names}: list them under `teachers`, with `retired: "
            "true` if they are gone."
        )
    return kept


def _column(
    name: str,
    pool: TeacherPool,
    router: Router,
    features_PD: Floats,
    config: RouterConfig,
    data: ParallelSet,
) -> Column:
    """The column of a new teacher, fitted on the prompts that are not held out."""
    fit_P = ~data.heldout_P
    draws_P = draws(data.prompt_ids, [""], config.seed, "fold")[:, 0]
    try:
        return new_column(
            features_PD[fit_P],
            router.head.weight.detach().double().cpu().numpy(),
            router.head.bias.detach().double().cpu().numpy(),
            data.rewards_PM[fit_P][:, [pool.index(old) for old in router.config.teachers]],
            data.rewards_PM[fit_P, pool.index(name)],
            (draws_P[fit_P] * NUM_FOLDS).astype(int),
            config.ties,
        )
    except DataError as error:
        raise DataError(f"Teacher {name!r} cannot join the router: {error}") from error


def _column_fit(column: Column) -> ColumnFit:
    return ColumnFit(
        num_prompts=column.num_prompts,
        num_pairs=column.num_pairs,
        l2=column.l2,
        temperature=column.temperature,
    )
