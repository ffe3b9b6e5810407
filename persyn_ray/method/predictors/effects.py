"""Splits rewards into effects: rewards (N, M) in; teacher, prompt and what is left over out.

    r[n, m] = prompt[n] + teacher[m] + interaction[n, m]

by least squares over the known rewards, with the interactions summing to 0 over each teacher and
each prompt. Only teacher and interaction tell teachers apart: a hard prompt is hard for whoever is
chosen. A router that beats the best constant predicts interactions; their share of the variance
bounds what it can gain.

Axes: N prompts of the parallel set, M teachers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import Booleans, Floats, as_floats
from persyn_ray.method.cosine import Embeddings

SWEEPS = 200
SAME = 1e-10


@dataclass(frozen=True, eq=False)
class PromptFeatures:
    """What is known of some prompts before anyone answers them."""

    tasks: tuple[str | None, ...]
    """Labels; None where a prompt has none."""
    embeddings_PD: Embeddings | None = None
    """By a frozen encoder, or the student's prefill (models/prefill.py)."""

    def rows(self, chosen_P: Booleans) -> "PromptFeatures":
        """Those of some of the prompts."""
        kept: list[int] = np.flatnonzero(chosen_P).tolist()
        embeddings_PD = self.embeddings_PD
        return PromptFeatures(
            tuple(self.tasks[place] for place in kept),
            None if embeddings_PD is None else embeddings_PD[kept],
        )


@dataclass(frozen=True, eq=False)
class Effects:
    """The parts of rewards, each in reward units."""

    teacher_M: Floats
    """Mean over prompts, corrected for which prompts a teacher is known on; NaN if on none."""
    prompt_N: Floats
    """Mean over teachers of what the prompt adds; NaN where no reward is known."""
    interaction_NM: Floats
    """NaN where the reward is."""


def effects_of(rewards_NM: ArrayLike) -> Effects:
    """Split rewards by least squares, by turns over prompts and teachers.

    Raises:
        DataError: rewards are no matrix, none is known, or one is infinite.
    """
    rewards_NM = as_floats(rewards_NM, "Rewards")
    if rewards_NM.ndim != 2 or np.isnan(rewards_NM).all():
        raise DataError(
            f"Rewards have shape {rewards_NM.shape} and {int((~np.isnan(rewards_NM)).sum())} known "
            "values; need prompts by teachers with at least one known reward."
        )
    known_NM = ~np.isnan(rewards_NM)
    filled_NM = np.where(known_NM, rewards_NM, 0.0)
    counts_N, counts_M = known_NM.sum(axis=1), known_NM.sum(axis=0)
    prompt_N = np.zeros(len(rewards_NM))
    teacher_M = np.zeros(rewards_NM.shape[1])
    for _ in range(SWEEPS):
        last_M = teacher_M
        teacher_M = _mean(filled_NM - np.where(known_NM, prompt_N[:, None], 0.0), counts_M, 0)
        prompt_N = _mean(filled_NM - np.where(known_NM, teacher_M, 0.0), counts_N, 1)
        prompt_N -= prompt_N[counts_N > 0].mean()
        if np.abs(teacher_M - last_M).max() < SAME:
            break
    fitted_NM = prompt_N[:, None] + teacher_M
    return Effects(
        np.where(counts_M > 0, teacher_M, np.nan),
        np.where(counts_N > 0, prompt_N, np.nan),
        np.where(known_NM, rewards_NM - fitted_NM, np.nan),
    )


@dataclass(frozen=True)
class VarianceShares:
    """Shares of the variance of a signal, between 0 and 1; they sum to 1."""

    teacher: float
    prompt: float
    interaction: float
    """Teacher times prompt, with the noise of single responses in it."""
    task_interaction: float
    """The part of `interaction` that task labels explain, freed of chance; within it."""


def variance_shares(values_NM: ArrayLike, tasks: Sequence[str | None]) -> VarianceShares:
    """How much of a signal's variance is teacher, prompt, and teacher times prompt.

    NaN throughout for a signal that does not vary.

    Raises:
        DataError: as in `effects_of`.
    """
    found = effects_of(values_NM)
    known_NM = ~np.isnan(found.interaction_NM)
    parts = [
        np.broadcast_to(found.teacher_M, known_NM.shape)[known_NM],
        np.broadcast_to(found.prompt_N[:, None], known_NM.shape)[known_NM],
        found.interaction_NM[known_NM],
    ]
    variances = [float(part.var()) for part in parts]
    total = sum(variances)
    if total <= SAME**2:
        return VarianceShares(nan, nan, nan, nan)
    of_tasks = min(task_variance(found.interaction_NM, tasks).between, variances[2])
    teacher, prompt, interaction = (part / total for part in variances)
    return VarianceShares(teacher, prompt, interaction, of_tasks / total)


def oracle_gain(values_NM: ArrayLike) -> float:
    """What choosing by the values themselves gains over the best constant teacher, in the mean over
    the prompts on which that one is known; no router gains more on them.

    Raises:
        DataError: as in `effects_of`.
    """
    values_NM = as_floats(values_NM, "Values")
    best = int(np.nanargmax(effects_of(values_NM).teacher_M))
    known_NM = values_NM[~np.isnan(values_NM[:, best])]
    return float((np.nanmax(known_NM, axis=1) - known_NM[:, best]).mean())


@dataclass(frozen=True, eq=False)
class TaskVariance:
    """How interactions spread between tasks and within them."""

    tasks: tuple[str, ...]
    means_KM: Floats
    """Mean interaction of a task, 0 where none is known."""
    counts_KM: Floats
    between: float
    """Variance of the tasks' true means: what is left of that seen when chance is taken off."""
    within: float


def task_variance(interaction_NM: Floats, tasks: Sequence[str | None]) -> TaskVariance:
    """Variance of interactions between and within tasks, by the method of moments.

    Prompts without a label count for no task. With fewer than two tasks nothing is between them.
    """
    names = tuple(sorted({task for task in tasks if task is not None}))
    member_KN = np.array([[task == name for task in tasks] for name in names], dtype=np.float64)
    member_KN = member_KN.reshape(len(names), len(interaction_NM))
    known_NM = ~np.isnan(interaction_NM)
    filled_NM = np.where(known_NM, interaction_NM, 0.0)
    counts_KM = member_KN @ known_NM
    means_KM = member_KN @ filled_NM / np.maximum(counts_KM, 1)
    labelled_N = member_KN.any(axis=0)
    spread_NM = np.where(known_NM, filled_NM - member_KN.T @ means_KM, 0.0)[labelled_N]
    seen = counts_KM > 0
    degrees = counts_KM.sum() - seen.sum()
    within = float((spread_NM**2).sum() / degrees) if degrees > 0 else 0.0
    if len(names) < 2 or degrees <= 0:
        return TaskVariance(names, means_KM, counts_KM, 0.0, within)
    # Weighted by prompts: E[n mean^2] = n between + within.
    excess = (counts_KM * means_KM**2)[seen].sum() - within * seen.sum()
    between = max(0.0, float(excess / counts_KM.sum()))
    return TaskVariance(names, means_KM, counts_KM, between, within)


def _mean(values_NM: Floats, counts: Floats, axis: int) -> Floats:
    return values_NM.sum(axis=axis) / np.maximum(counts, 1)
