"""Fit all routers of a run, as one worker of several does it: by the tables of the run folder.

What is fitted is said by `router.kind`: a network, with others for its figures
(`router_fits/networks.py`), a simpler predictor (`router_fits/predictors.py`), or what is found to
do (`router_fits/kinds.py`). Or a router that is there gets columns for new teachers
(`router.extend`). RUN/router/fit.json says what came out, see `storage.fits.RouterFit`.

Axes: P prompts, M teachers, D hidden.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from transformers import PreTrainedTokenizerBase

from persyn_ray.method.novelty import Novelty
from persyn_ray.models.router.frozen import checked_logits, prompt_features
from persyn_ray.models.router.model import Router, save_router
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.shards.extend_router import extended_router
from persyn_ray.shards.parallel_set import Floats, ParallelSet, parallel_set
from persyn_ray.shards.router_fits.kinds import of_kind
from persyn_ray.shards.router_fits.networks import NetworkFits, Watch
from persyn_ray.stages.route import NOVELTY_FILE, TOKENS_PER_BATCH
from persyn_ray.storage.fits import RouterFit, write_router_fit
from persyn_ray.storage.layout import RunLayout

NOVELTY_NEIGHBOURS = 5
"""Parallel prompts that a prompt must have close by, not to be novel."""


def fit_routers(
    run: RunLayout,
    config: RouterConfig,
    pool: TeacherPool,
    num_workers: int = 1,
    watch: Watch | None = None,
    is_first: bool = True,
) -> int:
    """Fit what the section asks for; the first worker leaves it in RUN/router.

    Args:
        num_workers: how many do this at the same time, in one process group.

    Returns:
        The number of prompts that the run's router was fitted on.

    Raises:
        ConfigError: the prompts have no tasks to transfer between, or too little is known of them
            for `router.kind`.
        DataError: a new teacher has no pair with those of the router to extend.
        PoolMismatchError: the router to extend holds a teacher that the recipe does not name.
    """
    data = parallel_set(run, len(pool), config)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "router"
        fit = fit_to_folder(data, config, pool, folder, num_workers, watch, is_first)
        if is_first:
            run.remove(run.router)
            run.router.upload(folder)
            write_router_fit(run.router, fit)
        return fit.num_fit


def fit_to_folder(
    data: ParallelSet,
    config: RouterConfig,
    pool: TeacherPool,
    folder: Path,
    num_workers: int = 1,
    watch: Watch | None = None,
    is_first: bool = True,
) -> RouterFit:
    """Fit what the section asks for on prompts and rewards; the first worker leaves the router in a
    local folder, for which see `fit_routers`.
    """
    with TemporaryDirectory() as scratch:
        if config.extend is not None:
            router, tokenizer, fit = extended_router(config, pool, data, Path(scratch))
        else:
            networks = NetworkFits(config, pool, data, Path(scratch), num_workers, watch, is_first)
            router, fit = of_kind(networks)
            tokenizer = networks.tokenizer
        if is_first:
            _save(router, tokenizer, data, fit, config.max_length, folder)
    return fit


def _save(
    router: Router,
    tokenizer: PreTrainedTokenizerBase,
    data: ParallelSet,
    fit: RouterFit,
    max_length: int,
    folder: Path,
) -> None:
    """Write a router with its prior, and what tells prompts unlike those it was fitted on."""
    features_PD = prompt_features(
        router, tokenizer, data.conversations, TOKENS_PER_BATCH, max_length
    )
    logits_PM = checked_logits(router, features_PD, data.tasks)
    extra = {
        "kind": fit.kind,
        "num_fit": fit.num_fit,
        "max_length": max_length,
        "prior": _prior(router, logits_PM),
    }
    save_router(router, tokenizer, folder, extra)
    if len(features_PD) > NOVELTY_NEIGHBOURS:
        found = Novelty.fit(features_PD.float().numpy(), NOVELTY_NEIGHBOURS)
        found.save(folder / NOVELTY_FILE)


def _prior(router: Router, logits_PM: Floats) -> dict[str, float]:
    """The share of the parallel set that the router gives each teacher."""
    first_P = logits_PM.argmax(axis=1)
    shares_M = np.bincount(first_P, minlength=len(router.config.teachers)) / len(first_P)
    return dict(zip(router.config.teachers, shares_M.tolist(), strict=True))
