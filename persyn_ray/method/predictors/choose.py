"""Chooses a kind of predictor by nested cross-validation: a parallel set in, a kind and why out.

Each fold in turn is left out; every kind is fitted on the others, with all that it chooses by
itself (k, penalties, weights) chosen there, and routes the prompts left out. What a kind is worth
is the mean reward so routed. The best of many is best by luck as well (Cawley & Talbot, 2010), so
that a default is used unless the best is clearly better: the 95 % interval of their paired
difference is above 0. The default shrinks by itself to the constant where it finds nothing: the
table by task, and without labels `stacked`. A simpler kind that routes the very same is used in its
place. Fewer than `FEWEST` prompts tell no kind from another: they get the constant.

Axes: N prompts of the parallel set, M teachers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import DataError
from persyn_ray.method.allocation import assign, draws, tie_breaks
from persyn_ray.method.arrays import Floats, Integers, mean_known
from persyn_ray.method.metrics import routed_reward
from persyn_ray.method.predictors.effects import PromptFeatures, effects_of
from persyn_ray.method.predictors.fit import (
    KINDS,
    bases_of,
    folds_of,
    left_out_interactions,
    stack_weights,
)

NUM_FOLDS = 5
DEFAULTS = ("per_task", "stacked", "constant")
"""The first of them that prompts can be predicted by is used, unless another is clearly better."""
NETWORKS = ("fitted_head", "fine_tuned")
"""Kinds that are fitted elsewhere and come with their scores of prompts that were left out."""
FEWEST = 20
"""Prompts below which kinds are not compared."""
NORMAL_95 = 1.96
CLEARLY = "clearly better"
"""How it is said that the 95 % interval of a paired difference is above 0."""


@dataclass(frozen=True)
class KindGain:
    """What a kind routes better than the best constant, on prompts left out."""

    kind: str
    gain: float
    error: float
    """Standard error over prompts, of the paired difference."""
    told: str
    """Why it is used, or not."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The 95 % interval of the gain, by the normal distribution."""
        return self.gain - NORMAL_95 * self.error, self.gain + NORMAL_95 * self.error


@dataclass(frozen=True)
class KindChoice:
    """The kind that is used, and what the others would have been worth."""

    kind: str
    why: str
    gains: tuple[KindGain, ...]
    """From the simplest kind on."""


@dataclass(frozen=True, eq=False)
class LabelledRewards:
    """A parallel set with names, so that no draw hangs on an order."""

    ids: tuple[str, ...]
    teachers: tuple[str, ...]
    features: PromptFeatures
    rewards_NM: Floats
    seed: int

    def folds(self, num_folds: int = NUM_FOLDS, repeat: int = 0) -> Integers:
        """The fold of each prompt, by hash."""
        draws_N1 = draws(self.ids, [f"repeat {repeat}"], self.seed, "fold")
        return folds_of(draws_N1[:, 0], num_folds)

    def routed(self, scores_NM: ArrayLike) -> Floats:
        """Reward of each prompt's teacher by these scores, shape (N,); NaN if unknown."""
        breaks_NM = tie_breaks(self.ids, self.teachers, self.seed)
        teacher_N, _ = assign(scores_NM, breaks_NM)
        return routed_reward(self.rewards_NM, teacher_N)


def left_out_scores(
    data: LabelledRewards,
    num_folds: int = NUM_FOLDS,
    repeat: int = 0,
    kinds: Collection[str] = KINDS,
) -> dict[str, Floats]:
    """Scores (N, M) of each prompt by predictors fitted without its fold, by kind; the constant is
    always among them.

    The weights of `stacked` are those of the other folds' predictions.

    Raises:
        DataError: there are fewer prompts than folds, or as in `fit_predictor`.
    """
    folds_N = data.folds(num_folds, repeat)
    rewards_NM = data.rewards_NM
    teacher_NM = np.full(rewards_NM.shape, np.nan)
    for fold in range(num_folds):
        if not np.isnan(rewards_NM[folds_N != fold]).all():
            teacher_NM[folds_N == fold] = effects_of(rewards_NM[folds_N != fold]).teacher_M
    bases = left_out_interactions(data.features, rewards_NM, folds_N, bases_of(kinds))
    scores = {"constant": teacher_NM} | {
        kind: teacher_NM + of for kind, of in bases.items() if kind in kinds
    }
    if bases and "stacked" in kinds:
        scores["stacked"] = teacher_NM + _stacked(bases, rewards_NM, folds_N)
    return scores


def _stacked(bases: Mapping[str, Floats], rewards_NM: Floats, folds_N: Integers) -> Floats:
    """Weighted interactions of each fold, by weights of the others."""
    interaction_NM = effects_of(rewards_NM).interaction_NM
    total_NM = np.zeros(rewards_NM.shape)
    for fold in np.unique(folds_N):
        out_N = folds_N == fold
        others = {kind: of_NM[~out_N] for kind, of_NM in bases.items()}
        for kind, weight in stack_weights(others, interaction_NM[~out_N]).items():
            total_NM[out_N] += weight * bases[kind][out_N]
    return total_NM


def choose_kind(
    data: LabelledRewards,
    others: Mapping[str, Floats] | None = None,
    num_folds: int = NUM_FOLDS,
    among: Collection[str] = KINDS,
) -> KindChoice:
    """The kind of predictor for a parallel set, of all that its prompts can be predicted by.

    Args:
        others: scores (N, M) of kinds fitted elsewhere, made with the same folds, the simplest
            first; they count as less simple than those fitted here.
        among: which of those fitted here may be chosen, beside the constant.

    Raises:
        DataError: no reward is known.
    """
    if np.isnan(data.rewards_NM).all():
        raise DataError("No reward of the parallel set is known; see the dead letters of `score`.")
    if len(data.ids) < max(FEWEST, num_folds):
        why = f"{len(data.ids)} prompts are too few to compare kinds: it takes {FEWEST}"
        return KindChoice("constant", f"constant, because {why}", ())
    scores = left_out_scores(data, num_folds, kinds=among) | dict(others or {})
    return chosen_of({kind: data.routed(scores_NM) for kind, scores_NM in scores.items()})


def chosen_of(routed: Mapping[str, Floats]) -> KindChoice:
    """The default kind, or the best where that is clearly better, by routed rewards (N,).

    Args:
        routed: by kind, the simplest first; the first is what gains are over.
    """
    names = list(routed)
    best = max(names, key=lambda name: mean_known(routed[name]))
    default = next((name for name in DEFAULTS if name in routed), names[0])
    is_clear = _is_clear(*_difference(routed[best], routed[default]))
    wanted = routed[best if is_clear else default]
    used = next(name for name in names if np.array_equal(routed[name], wanted, equal_nan=True))
    gains = tuple(
        KindGain(
            name,
            *_difference(routed[name], routed[names[0]]),
            _told(name, used, *_difference(routed[name], routed[used]), is_clear),
        )
        for name in names
    )
    return KindChoice(used, _why(used, best, _difference(routed[best], routed[used]), gains), gains)


def _is_clear(above: float, error: float) -> bool:
    return above > NORMAL_95 * error


def _told(name: str, used: str, above: float, error: float, is_clear: bool) -> str:
    """Why a kind is used, or not."""
    if name == used:
        return (
            f"chosen: {CLEARLY} than the default" if is_clear else f"chosen: no other is {CLEARLY}"
        )
    if above == 0:
        return f"as good as {used}"
    if above > 0:
        of_others = "the best of the others" if _is_clear(above, error) else CLEARLY
        return f"{above:.3f} above {used}, but not {of_others} (give or take {error:.3f})"
    return f"{-above:.3f} below {used} (give or take {error:.3f})"


def _why(kind: str, best: str, above: tuple[float, float], gains: Sequence[KindGain]) -> str:
    simplest, gain = gains[0].kind, next(one for one in gains if one.kind == kind)
    by = "by cross-validation on the parallel set"
    over = "" if kind == simplest else f", {gain.gain:+.3f} over {simplest}"
    if kind == best:
        return f"{kind}: {by} no other kind routes better{over}"
    told = f"{best} is {above[0]:.3f} above it, give or take {above[1]:.3f}"
    return f"{kind}: {by} the best other kind is not {CLEARLY}{over}; {told}"


def _difference(a_N: Floats, b_N: Floats) -> tuple[float, float]:
    """Mean of a - b over prompts known in both, and its standard error."""
    known_N = (a_N - b_N)[~np.isnan(a_N - b_N)]
    if len(known_N) < 2:
        return (float(known_N.mean()) if len(known_N) else 0.0), float("inf")
    return float(known_N.mean()), float(known_N.std(ddof=1)) / sqrt(len(known_N))
