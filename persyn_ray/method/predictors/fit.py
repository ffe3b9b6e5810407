"""Fits a predictor of rewards: its kind and a parallel set in, scores for any prompts out.

    constant   the teacher's effect alone
    per_task   a shrunken table, one row a task (task_means.py)
    knn        mean of the k nearest parallel prompts; k by leaving each prompt out
    linear     ridge on embedding and task; penalty of each teacher by leaving each prompt out
    stacked    teacher's effect + w . (interactions that per_task, knn and linear predict), w >= 0
               by least squares on predictions for prompts that were left out (Breiman, 1996)

All but the constant predict interactions (effects.py), so that unknown rewards bias nobody and k
and penalties are chosen for what tells teachers apart, not for how hard prompts are. Everything is
chosen on the parallel set. A kind that lacks what it reads (no labels, no embeddings) is not
offered. Scores are rewards up to a term of the prompt.

Axes: N prompts of the parallel set, P prompts, M teachers, D embedding, K tasks, F base predictors.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.arrays import Floats, Integers, as_floats
from persyn_ray.method.predictors.effects import Effects, PromptFeatures, effects_of
from persyn_ray.method.predictors.interactions import (
    LinearMap,
    Neighbours,
    Part,
    TaskTable,
    embeddings_of,
    linear_inputs,
)
from persyn_ray.method.predictors.task_means import shrunken
from persyn_ray.method.probes import choose_k, linear_probe

KINDS = ("constant", "per_task", "knn", "linear", "stacked")
"""From the simplest on."""
BASES = ("per_task", "knn", "linear")
NEIGHBOURS = (10, 30, 100, 300)
STACK_FOLDS = 5

NEVER = 20.0
"""Log-odds by which a teacher without a known reward stays below all others."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """A fitted predictor: a teacher's effect, and weighted parts that predict interactions."""

    kind: str
    teacher_M: Floats
    """NaN for a teacher without a known reward: it is never chosen."""
    parts: tuple[tuple[float, Part], ...]
    """Weights, and what they weigh; none for the constant."""
    told: str
    """What was chosen on the parallel set, in words: k, weights."""
    temperature: float = 1.0
    """Reward units of a difference that make odds of e to 1 (calibrated.py)."""

    def interactions(self, features: PromptFeatures) -> Floats:
        """Predicted interactions of prompts, shape (P, M)."""
        total_PM = np.zeros((len(features.tasks), len(self.teacher_M)))
        for weight, part in self.parts:
            total_PM += weight * part(features)
        return total_PM

    def scores(self, features: PromptFeatures) -> Floats:
        """Scores of prompts, shape (P, M)."""
        return self.teacher_M + self.interactions(features)

    def logits(self, features: PromptFeatures) -> Floats:
        """Scores as a router gives them, shape (P, M): differences are log-odds, all are known."""
        logits_PM = self.scores(features) / self.temperature
        least_P1 = np.nanmin(logits_PM, axis=1, keepdims=True)
        return np.where(np.isnan(logits_PM), least_P1 - NEVER, logits_PM)


def available(features: PromptFeatures) -> tuple[str, ...]:
    """The kinds that such prompts can be predicted by, from the simplest on."""
    has_tasks = len({task for task in features.tasks if task is not None}) > 1
    kinds = ["constant"]
    kinds += ["per_task"] if has_tasks else []
    kinds += ["knn", "linear"] if features.embeddings_PD is not None else []
    return (*kinds, "stacked") if len(kinds) > 1 else tuple(kinds)


def fit_predictor(
    kind: str, features: PromptFeatures, rewards_NM: ArrayLike, folds_N: Integers | None = None
) -> Predictor:
    """Fit one kind on a parallel set.

    Args:
        folds_N: number of the fold of each prompt, which `stacked` leaves out by turns; by default
            by position.

    Raises:
        ConfigError: the kind is unknown.
        DataError: the kind lacks what it reads, or shapes do not fit.
    """
    rewards_NM = as_floats(rewards_NM, "Rewards")
    effects = effects_of(rewards_NM)
    if len(features.tasks) != len(rewards_NM):
        raise DataError(f"{len(features.tasks)} prompts for {len(rewards_NM)} rows of rewards.")
    if kind not in KINDS:
        raise ConfigError(f"A predictor is one of {', '.join(KINDS)}; not {kind!r}.")
    if kind not in available(features):
        raise DataError(
            f"Predictor {kind} needs {'two tasks' if kind == 'per_task' else 'embeddings'} or more "
            "information on prompts than the parallel set has."
        )
    if kind == "stacked":
        if folds_N is None:
            folds_N = np.arange(len(rewards_NM)) % STACK_FOLDS
        left_out = left_out_interactions(features, rewards_NM, folds_N)
        return stack(features, rewards_NM, left_out)
    if kind == "constant":
        return Predictor(kind, effects.teacher_M, (), "the overall best teacher")
    part, told = _base(kind, features, effects)
    return Predictor(kind, effects.teacher_M, ((1.0, part),), told)


def _base(kind: str, features: PromptFeatures, effects: Effects) -> tuple[Part, str]:
    """What a single kind predicts by, and what it has chosen."""
    left_NM = effects.interaction_NM
    if kind == "per_task":
        table = shrunken(effects, features.tasks)
        return TaskTable(table), f"{len(table.tasks)} tasks"
    known_ND = embeddings_of(features)
    if kind == "knn":
        most = max(1, len(known_ND) - 1)
        k = choose_k(known_ND, left_NM, sorted({min(k, most) for k in NEIGHBOURS}))
        return Neighbours(known_ND, left_NM, k), f"k = {k}"
    tasks = tuple(sorted({task for task in features.tasks if task is not None}))
    probe = linear_probe(linear_inputs(features, tasks), left_NM)
    told = f"penalties {np.nanmin(probe.l2_M):.3g} to {np.nanmax(probe.l2_M):.3g}"
    return LinearMap(tasks, probe), told


def bases_of(kinds: Collection[str]) -> tuple[str, ...]:
    """The single predictors that some kinds are made of."""
    return BASES if "stacked" in kinds else tuple(kind for kind in BASES if kind in kinds)


def left_out_interactions(
    features: PromptFeatures,
    rewards_NM: Floats,
    folds_N: Integers,
    bases: Collection[str] = BASES,
) -> dict[str, Floats]:
    """Interactions (N, M) that each base predicts for prompts of the folds that it has not seen."""
    usable = [kind for kind in available(features) if kind in bases]
    found = {kind: np.zeros(rewards_NM.shape) for kind in usable}
    for fold in np.unique(folds_N):
        out_N = folds_N == fold
        if np.isnan(rewards_NM[~out_N]).all():
            continue
        fitted, effects = features.rows(~out_N), effects_of(rewards_NM[~out_N])
        for kind in (kind for kind in found if kind in available(fitted)):
            found[kind][out_N] = _base(kind, fitted, effects)[0](features.rows(out_N))
    return found


def stack(
    features: PromptFeatures, rewards_NM: Floats, left_out: Mapping[str, Floats]
) -> Predictor:
    """Base predictors, weighted by how well they have predicted prompts that were left out."""
    effects = effects_of(rewards_NM)
    weights = stack_weights(left_out, effects.interaction_NM)
    parts = [
        (weight, _base(kind, features, effects)[0]) for kind, weight in weights.items() if weight
    ]
    told = ", ".join(f"{kind} {weight:.2f}" for kind, weight in weights.items())
    return Predictor("stacked", effects.teacher_M, tuple(parts), f"weights {told}")


def stack_weights(predicted: Mapping[str, Floats], interaction_NM: Floats) -> dict[str, float]:
    """The weight of each base, 0 or more, by least squares over known interactions."""
    known_NM = ~np.isnan(interaction_NM)
    columns = np.array([of_NM[known_NM] for of_NM in predicted.values()]).T
    weights_F = nonnegative_weights(columns, interaction_NM[known_NM])
    return dict(zip(predicted, weights_F.tolist(), strict=True))


def nonnegative_weights(predicted_NF: Floats, target_N: Floats) -> Floats:
    """Least-squares weights (F,) that are 0 or more; F is a handful, so all subsets are tried."""
    num = predicted_NF.shape[1]
    best_F, least = np.zeros(num), float((target_N**2).sum())
    for size in range(1, num + 1):
        for subset in combinations(range(num), size):
            some_NF = predicted_NF[:, list(subset)]
            weights, *_ = np.linalg.lstsq(some_NF, target_N, rcond=None)
            error = float(((target_N - some_NF @ weights) ** 2).sum())
            if (weights >= 0).all() and error < least - 1e-12:
                best_F, least = np.zeros(num), error
                best_F[list(subset)] = weights
    return best_F


def folds_of(draws_N: Floats, num_folds: int) -> Integers:
    """Folds of nearly equal size, by the order of seeded draws; shape (N,).

    Raises:
        ConfigError: there are fewer than two folds.
        DataError: there are fewer prompts than folds.
    """
    if num_folds < 2:
        raise ConfigError(f"Cross-validation needs at least 2 folds; found {num_folds}.")
    if len(draws_N) < num_folds:
        raise DataError(f"{len(draws_N)} prompts cannot be put into {num_folds} folds.")
    folds_N = np.empty(len(draws_N), dtype=np.int64)
    folds_N[np.argsort(draws_N, kind="stable")] = np.arange(len(draws_N)) % num_folds
    return folds_N
