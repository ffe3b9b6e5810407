"""Assignment rules per method: PerSyn by the router's logits, baselines in their own
way.

Every method sees the same candidates: teachers that can take the prompt. Among equals a seeded draw
decides, never the order of teachers. Methods that name one or two teachers for all prompts fall
back on the best mean reward where those are no candidates. The oracle and the two one-signal
methods select among true rewards: what they show is the reward's worth, not the router's.

Axes: P prompts, M teachers, D width of an embedding.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from persyn_ray.errors import ConfigError, DataError, advising
from persyn_ray.method import baselines
from persyn_ray.method.allocation import assign, tie_breaks
from persyn_ray.method.probes import knn_scores, linear_probe, probe_scores
from persyn_ray.method.rewards import Scaling, combine
from persyn_ray.recipe.comparison import EMBEDDED, SELECTING, CompareConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.tables import Rewards, load_embeddings, load_rewards, shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout
from persyn_ray.storage.results import RewardsResult, read_result

Teachers = NDArray[np.int64]
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
MIX_ADVICE = "Set compare.weak to another teacher than compare.strong, or see compare.mix_share."
CAR_ADVICE = "Use a quality that is 0 or more, or leave car out of compare.methods."
ONE_SIGNAL = {"quality_only": 0.0, "learnability_only": 1.0}
"""Methods that select by one signal alone, and the alpha that says so."""


@dataclass(frozen=True)
class MethodSettings:
    """What the rules go by beside the prompts: the teachers, and the parts of the recipe."""

    pool: TeacherPool
    seed: int
    """Of the draws among equals."""
    scaling: Scaling
    compare: CompareConfig


@dataclass(frozen=True)
class Parallel:
    """What every method may learn from."""

    signals: Rewards
    losses_M: Floats
    """Mean loss of each teacher's responses under the untuned student, nats per token."""
    embeddings_PD: Floats | None = None


@dataclass(frozen=True)
class Choices:
    """The prompts that a method chooses for."""

    prompt_ids: tuple[str, ...]
    logits_PM: Floats
    candidates_PM: Booleans
    signals: Rewards | None = None
    """The true ones, which methods that select need."""
    embeddings_PD: Floats | None = None
    within_P: Teachers | None = None
    """PerSyn's first choice within limits, where there are any."""


def settings_of(recipe: Recipe) -> MethodSettings:
    """The settings of a recipe that its methods go by."""
    scaling = recipe.scoring.scaling
    return MethodSettings(recipe.pool, recipe.prompts.seed, scaling, recipe.compare)


def parallel_of(pool: TeacherPool, run: RunLayout) -> Parallel:
    """The parallel set of a run that has rewards."""
    shards = shards_of(run, "parallel")
    signals = load_rewards(run, shards, len(pool))
    found = read_result(run.records, RewardsResult)
    losses = [found.mean_loss(name) if found else None for name in pool.names]
    losses_M = np.array([np.nan if loss is None else loss for loss in losses])
    return Parallel(signals, losses_M, load_embeddings(run, shards))


def method_teachers(
    method: str, settings: MethodSettings, choices: Choices, parallel: Parallel | None
) -> tuple[Teachers, Floats]:
    """A method's teacher for each prompt (-1: none can take it), and the margin where it has one.

    Raises:
        DataError: the method needs true rewards or embeddings of these prompts and has none.
    """
    seed, names, ids = settings.seed, settings.pool.names, choices.prompt_ids
    able_PM, breaks_PM = choices.candidates_PM, tie_breaks(ids, names, seed)
    none_P = np.full(len(ids), np.nan)
    if method == "random":
        return baselines.random_assignment(ids, names, seed, able_PM), none_P
    if method == PERSYN:
        return persyn_teachers(choices, breaks_PM)
    assert parallel is not None
    if method in SELECTING or method in EMBEDDED:
        return assign(_scores(method, settings, choices, parallel), breaks_PM, able_PM)
    fallback_M = means(parallel.signals.rewards_PM)
    if method == "mix":
        pair = strong_teacher(settings, parallel), weak_teacher(settings, parallel)
        with advising(MIX_ADVICE, ConfigError):
            wanted_P = baselines.mix_assignment(ids, *pair, settings.compare.mix_share, seed)
    else:
        wanted_P = np.full(len(ids), _constant(method, settings, parallel), dtype=np.int64)
    return baselines.served(wanted_P, able_PM, fallback_M, breaks_PM), none_P


def persyn_teachers(choices: Choices, breaks_PM: Floats) -> tuple[Teachers, Floats]:
    """The greatest logit; within limits what they allow, and where that is no candidate any more
    the greatest logit of the rest. Then the margin is below 0 where limits moved a prompt.
    """
    logits_PM, able_PM = choices.logits_PM, choices.candidates_PM
    free_P, margin_P = assign(logits_PM, breaks_PM, able_PM)
    if choices.within_P is None:
        return free_P, margin_P
    moved = np.flatnonzero((choices.within_P >= 0) & (choices.within_P != free_P))
    moved = moved[able_PM[moved, choices.within_P[moved]]]
    teacher_P = free_P.copy()
    teacher_P[moved] = choices.within_P[moved]
    margin_P[moved] = logits_PM[moved, teacher_P[moved]] - logits_PM[moved, free_P[moved]]
    return teacher_P, margin_P


def strong_teacher(settings: MethodSettings, parallel: Parallel) -> int:
    """The most capable teacher: `compare.strong`, or the best mean quality on the parallel set."""
    if settings.compare.strong is not None:
        return settings.pool.index(settings.compare.strong)
    quality_PM = parallel.signals.quality_PM
    return baselines.best_constant(quality_PM, settings.pool.names, settings.seed)


def weak_teacher(settings: MethodSettings, parallel: Parallel) -> int:
    """The other teacher of mix: `compare.weak`, or the lowest mean quality on the parallel set."""
    if settings.compare.weak is not None:
        return settings.pool.index(settings.compare.weak)
    quality_PM = parallel.signals.quality_PM
    return baselines.best_constant(-quality_PM, settings.pool.names, settings.seed)


def _scores(method: str, settings: MethodSettings, choices: Choices, parallel: Parallel) -> Floats:
    """What a method goes by, a value for each prompt and teacher."""
    if method in SELECTING:
        if choices.signals is None:
            raise DataError(f"Method {method} needs every teacher's reward on these prompts.")
        if method == "oracle":
            return choices.signals.rewards_PM
        quality_PM, learnability_PM = choices.signals.quality_PM, choices.signals.learnability_PM
        return combine(quality_PM, learnability_PM, ONE_SIGNAL[method], settings.scaling)
    if choices.embeddings_PD is None or parallel.embeddings_PD is None:
        raise DataError(f"Method {method} needs embeddings, which step route writes for it.")
    known = parallel.embeddings_PD, parallel.signals.rewards_PM
    with advising("Embeddings come from router.backbone.", DataError):
        if method == "knn":
            return knn_scores(choices.embeddings_PD, *known, settings.compare.num_neighbours)
        return probe_scores(linear_probe(*known), choices.embeddings_PD)


def _constant(method: str, settings: MethodSettings, parallel: Parallel) -> int:
    """The one teacher that a method gives all prompts to."""
    names, seed = settings.pool.names, settings.seed
    if method == "strong":
        return strong_teacher(settings, parallel)
    quality_M = means(parallel.signals.quality_PM)
    if method == "family_strong":
        is_family_M = np.isin(names, settings.compare.family)
        return baselines.best_of(np.where(is_family_M, quality_M, np.nan), names, seed)
    if method == "car":
        beta = settings.compare.car_beta
        with advising("Change compare.car_beta.", ConfigError), advising(CAR_ADVICE, DataError):
            adjusted_M = baselines.compatibility_adjusted_reward(quality_M, parallel.losses_M, beta)
        return baselines.best_of(adjusted_M, names, seed)
    return baselines.best_constant(parallel.signals.rewards_PM, names, seed)


def means(values_PM: Floats) -> Floats:
    """Mean of the known values of each teacher, shape (M,); NaN where none is known."""
    known_M = (~np.isnan(values_PM)).sum(axis=0)
    sums_M = np.nansum(values_PM, axis=0)
    return np.where(known_M > 0, sums_M / np.maximum(known_M, 1), np.nan)
