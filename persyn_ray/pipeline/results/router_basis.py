"""What the figures of a router are made from, and its ranking of some prompts.

Figures come from prompts that it was never fitted on: the held-out prompts when all teachers
answered them, otherwise the router's hold-out part of the parallel set (which early stopping has
seen).

Axes: P prompts, M teachers, D width of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from persyn_ray.errors import DataError
from persyn_ray.method import metrics
from persyn_ray.method.allocation import assign, tie_breaks
from persyn_ray.method.arrays import mean_known
from persyn_ray.pipeline.assign.methods import Parallel, tasks_of
from persyn_ray.pipeline.results.estimates import estimate
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.report.sections.router.transfer import Ranking
from persyn_ray.shards.tables import (
    Rewards,
    column_PM,
    heldout_mask,
    load_embeddings,
    load_rewards,
    shards_of,
)
from persyn_ray.statistics import calibration
from persyn_ray.statistics.intervals import bootstrap_mean
from persyn_ray.storage.fits import RouterFit, read_router_fit
from persyn_ray.storage.layout import RunLayout

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Basis:
    """What every figure of the router is made from."""

    fit: RouterFit
    """What the fit of the router came to."""
    known: Parallel
    """What other methods may learn from."""
    fitted: dict[int, Floats]
    """Logits on the router's hold-out part of the parallel set, by the number of prompts that a
    router was fitted on."""
    heldout: Rewards
    """The rewards there."""
    able_PM: Booleans
    """Who can take a prompt there."""
    measured: Rewards
    """Rewards of the prompts that the figures are of."""
    logits_PM: Floats
    """The router's logits on them; NaN for teachers that are no candidate."""
    embeddings_PD: Floats | None
    tasks: tuple[str | None, ...]
    """Their labels."""
    where: str
    """Which prompts these are, in words."""
    names: tuple[str, ...]
    """Of the teachers, in the order of M."""
    seed: int
    """Of draws among equals and of resampling."""


def basis_of(
    run: RunLayout,
    known: Parallel,
    config: RouterConfig,
    uses_heldout: bool,
    seed: int,
    names: Sequence[str],
) -> Basis:
    """What the figures of a run's router are made from.

    Args:
        uses_heldout: all teachers answered the held-out prompts, so figures are of these.

    Raises:
        DataError, OSError: it is not there.
    """
    parallel = known.signals
    fit = read_router_fit(run.router)
    out_P = heldout_mask(parallel.prompt_ids, config.heldout_fraction, config.seed)
    if not out_P.any() and not uses_heldout:
        raise DataError(
            f"No prompt of the parallel set ({len(out_P)} prompts) is left to judge the router on: "
            "raise prompts.num_parallel."
        )
    able_PM = np.isfinite(_routed_logits(run, "parallel"))[out_P]
    heldout, fitted = subset(parallel, out_P), _fitted(fit, able_PM)
    learned, embeddings_PD = (known, None) if uses_heldout else _apart(known, out_P)
    basis = Basis(
        fit=fit,
        known=learned,
        fitted=fitted,
        heldout=heldout,
        able_PM=able_PM,
        measured=heldout,
        logits_PM=fitted[fit.num_fit],
        embeddings_PD=embeddings_PD,
        tasks=tasks_of(run, shards_of(run, "parallel"), heldout.prompt_ids),
        where="router hold-out",
        names=tuple(names),
        seed=seed,
    )
    return _on_heldout_prompts(basis, run) if uses_heldout else basis


def _fitted(fit: RouterFit, able_PM: Booleans) -> dict[int, Floats]:
    """Logits of every router that was fitted, NaN for teachers that are no candidate."""
    return {
        size: np.where(able_PM, np.reshape(logits, able_PM.shape), np.nan)
        for size, logits in fit.heldout_logits.items()
    }


def _on_heldout_prompts(basis: Basis, run: RunLayout) -> Basis:
    """The same with figures of the held-out prompts, which all teachers answered."""
    shards = shards_of(run, "heldout")
    measured = load_rewards(run, shards, len(basis.names))
    return replace(
        basis,
        measured=measured,
        logits_PM=_routed_logits(run, "heldout"),
        embeddings_PD=load_embeddings(run, shards),
        tasks=tasks_of(run, shards, measured.prompt_ids),
        where="held-out prompts",
    )


def _apart(known: Parallel, out_P: Booleans) -> tuple[Parallel, Floats | None]:
    """The parallel set without the router's hold-out part, and that part's embeddings.

    Baselines learn from what the router was fitted on; a nearest neighbour would find itself.
    """
    embeddings_PD, signals = known.embeddings_PD, subset(known.signals, ~out_P)
    tasks = None if known.tasks is None else _picked(known.tasks, ~out_P)
    if embeddings_PD is None:
        return replace(known, signals=signals, tasks=tasks), None
    fitted = replace(known, signals=signals, embeddings_PD=embeddings_PD[~out_P], tasks=tasks)
    return fitted, embeddings_PD[out_P]


def _picked(tasks: tuple[str | None, ...], chosen_P: Booleans) -> tuple[str | None, ...]:
    return tuple(task for task, keep in zip(tasks, chosen_P, strict=True) if keep)


def subset(rewards: Rewards, chosen_P: Booleans) -> Rewards:
    """The rewards of some of the prompts."""
    ids = tuple(name for name, keep in zip(rewards.prompt_ids, chosen_P, strict=True) if keep)
    return Rewards(
        ids,
        rewards.learnability_PM[chosen_P],
        rewards.quality_PM[chosen_P],
        rewards.rewards_PM[chosen_P],
    )


def _routed_logits(run: RunLayout, split: str) -> Floats:
    """The router's logits, shard after shard; NaN for teachers that are no candidate."""
    tables = [run.logits.read_table(shard) for shard in shards_of(run, split)]
    parts = [
        np.where(column_PM(table, "candidates") == 1, column_PM(table, "logits"), np.nan)
        for table in tables
    ]
    return np.concatenate(parts)


def ranking(logits_PM: Floats, rewards: Rewards, names: Sequence[str], seed: int) -> Ranking:
    """Hit@1, regret and pairwise accuracy, each with its interval over prompts."""
    teacher_P, _ = assign(logits_PM, tie_breaks(rewards.prompt_ids, names, seed))
    accuracy = calibration.accuracy_interval(logits_PM, rewards.rewards_PM, seed)
    hits_P = metrics.hit_at_k(logits_PM, rewards.rewards_PM, 1)
    return {
        "hit_at_1": estimate(bootstrap_mean(hits_P, seed)),
        "chance_at_1": chance(logits_PM, rewards.rewards_PM, 1),
        "regret": estimate(bootstrap_mean(metrics.regret(rewards.rewards_PM, teacher_P), seed)),
        "pairwise_accuracy": estimate(accuracy),
    }


def chance(logits_PM: Floats, rewards_PM: Floats, k: int) -> float:
    """Hit@k of a draw among the teachers that can take each prompt, in the mean over prompts."""
    return mean_known(metrics.chance_at_k(rewards_PM, k, ~np.isnan(logits_PM)))
