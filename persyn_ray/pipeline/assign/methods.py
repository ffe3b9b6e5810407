"""Assignment rules per method: PerSyn by the router's logits, baselines in their own
way.

Every method sees the same candidates: teachers that can take the prompt. Among equals a seeded draw
decides, never the order of teachers. Methods that name one or two teachers for all prompts fall
back on the best mean reward where those are no candidates. The oracle and the two one-signal
methods select among true rewards: what they show is the reward's worth, not the router's.

Axes: P prompts, M teachers, D width of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from persyn_ray.errors import ConfigError, DataError, advising
from persyn_ray.method import baselines
from persyn_ray.method.allocation import assign, draws, tie_breaks
from persyn_ray.method.predictors.effects import PromptFeatures, effects_of
from persyn_ray.method.predictors.fit import (
    NEIGHBOURS,
    STACK_FOLDS,
    Predictor,
    available,
    fit_predictor,
)
from persyn_ray.method.probes import choose_k, knn_scores, linear_probe, probe_scores
from persyn_ray.method.rewards import Scaling, combine
from persyn_ray.recipe.comparison import EMBEDDED, SELECTING, CompareConfig
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.pool import TeacherPool
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.score import checks_and_models
from persyn_ray.shards.students.data import StudentData
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
PREDICTED = (*EMBEDDED, "task_constant")
"""Methods that predict rewards by task labels or embeddings."""


@dataclass(frozen=True)
class MethodSettings:
    """What the rules go by beside the prompts: the teachers, and the parts of the recipe."""

    pool: TeacherPool
    seed: int
    """Of the draws among equals."""
    scaling: Scaling
    compare: CompareConfig


@dataclass(frozen=True)
class ResponseSettings:
    """Who is asked for responses, by which methods, and which responses count."""

    teachers: tuple[TeacherConfig, ...]
    methods: MethodSettings
    responses: ResponsesConfig
    data: StudentData
    """What of them students learn from."""

    @property
    def moves_on(self) -> bool:
        """Whether the next-best teacher is asked where a response is not complete."""
        return self.responses.incomplete == "next_best"


@dataclass(frozen=True)
class Parallel:
    """What every method may learn from."""

    signals: Rewards
    losses_M: Floats
    """Mean loss of each teacher's responses under the untuned student, nats per token."""
    embeddings_PD: Floats | None = None
    tasks: tuple[str | None, ...] | None = None
    """Labels of `prompts.task_column`."""

    @cached_property
    def num_neighbours(self) -> int:
        """The k that tells teachers apart best on prompts left out."""
        assert self.embeddings_PD is not None
        rewards_PM = self.signals.rewards_PM
        most = max(1, len(rewards_PM) - 1)
        ks = sorted({min(k, most) for k in NEIGHBOURS})
        return choose_k(self.embeddings_PD, effects_of(rewards_PM).interaction_NM, ks)

    @cached_property
    def stacked(self) -> Predictor:
        """The stacked predictor of the rewards."""
        return self.predictor("stacked")

    @cached_property
    def per_task(self) -> Predictor:
        """The best teacher per task, shrunk; without two tasks the best of all."""
        return self.predictor("per_task")

    def predictor(self, kind: str) -> Predictor:
        """A predictor of some kind; the constant where that kind has nothing to go by."""
        features = features_of(self.tasks, self.embeddings_PD, len(self.signals.prompt_ids))
        usable = kind if kind in available(features) else "constant"
        draws_P1 = draws(self.signals.prompt_ids, ["stack"], 0, "fold")
        folds_P = draws_P1[:, 0].argsort().argsort() % STACK_FOLDS
        return fit_predictor(usable, features, self.signals.rewards_PM, folds_P)


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
    tasks: tuple[str | None, ...] | None = None
    """Labels of `prompts.task_column`."""


def settings_of(recipe: Recipe) -> MethodSettings:
    """The settings of a recipe that its methods go by."""
    scaling = recipe.scoring.scaling
    return MethodSettings(recipe.pool, recipe.prompts.seed, scaling, recipe.compare)


def response_settings(recipe: Recipe) -> ResponseSettings:
    """The settings of a recipe that decide what its teachers are asked."""
    teachers, responses, seed = recipe.teachers, recipe.responses, recipe.prompts.seed
    checks, _ = checks_and_models(recipe.scoring)
    data = StudentData(teachers, responses, recipe.dataset, checks[0] if checks else None, seed)
    return ResponseSettings(teachers, settings_of(recipe), responses, data)


def parallel_of(pool: TeacherPool, run: RunLayout) -> Parallel:
    """The parallel set of a run that has rewards."""
    shards = shards_of(run, "parallel")
    signals = load_rewards(run, shards, len(pool))
    found = read_result(run.records, RewardsResult)
    losses = [found.mean_loss(name) if found else None for name in pool.names]
    losses_M = np.array([np.nan if loss is None else loss for loss in losses])
    tasks = tasks_of(run, shards, signals.prompt_ids)
    return Parallel(signals, losses_M, load_embeddings(run, shards), tasks)


def tasks_of(
    run: RunLayout, shards: Sequence[str], prompt_ids: Sequence[str]
) -> tuple[str | None, ...]:
    """The task label of each prompt of some shards; None where it has none."""
    found: dict[str, str | None] = {}
    for shard in shards:
        table = run.prompts.read_table(shard, ["prompt_id", "task"])
        found |= dict(zip(table["prompt_id"].to_pylist(), table["task"].to_pylist(), strict=True))
    return tuple(found.get(prompt_id) for prompt_id in prompt_ids)


def features_of(
    tasks: tuple[str | None, ...] | None, embeddings_PD: Floats | None, num: int
) -> PromptFeatures:
    """What predictors read of `num` prompts."""
    return PromptFeatures((None,) * num if tasks is None else tasks, embeddings_PD)


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
    if method in SELECTING or method in PREDICTED:
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
    asked = features_of(choices.tasks, choices.embeddings_PD, len(choices.prompt_ids))
    if method == "task_constant":
        return parallel.per_task.scores(asked)
    if choices.embeddings_PD is None or parallel.embeddings_PD is None:
        raise DataError(f"Method {method} needs embeddings, which step route writes for it.")
    known = parallel.embeddings_PD, parallel.signals.rewards_PM
    with advising("Embeddings come from router.backbone.", DataError):
        if method == "stacked":
            return parallel.stacked.scores(asked)
        if method == "knn":
            k = settings.compare.num_neighbours or parallel.num_neighbours
            return knn_scores(choices.embeddings_PD, *known, k)
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
