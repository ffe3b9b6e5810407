"""Judges whether routing will pay: a probe's signals in, a verdict with its figures out.

The verdict is about a parallel set of `planned` prompts: yes where the chance that a table of best
teachers per task gains more than `worth` over the best constant is at least `SURE`, no where it is
at most 1 - `SURE`, and otherwise "cannot say", with how many prompts would. Without labels of two
tasks, clusters of embeddings stand in for tasks; without either nothing tells prompts apart.

Axes: N prompts of the probe, M teachers, K tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log10
from typing import Literal

import numpy as np

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.arrays import Floats
from persyn_ray.method.predictors.choose import (
    KindChoice,
    KindGain,
    LabelledRewards,
    choose_kind,
)
from persyn_ray.method.predictors.effects import (
    PromptFeatures,
    VarianceShares,
    oracle_gain,
    variance_shares,
)
from persyn_ray.method.predictors.fit import fit_predictor
from persyn_ray.screening.clusters import cluster_labels
from persyn_ray.screening.gains import Growth, expected_growth, measured_gain
from persyn_ray.statistics.intervals import Interval

SURE = 0.8
SURE_DEVIATIONS = 0.84  # of a normal distribution, on one side
FEWEST = 20
"""Prompts below which nothing is said."""
USUAL = 200
NUM_CLUSTERINGS = 3
MOST_NEEDED = 100_000
LEFT_OUT_SHARE = 0.2
"""Of `worth`: what may be lost by leaving teachers out."""

Verdict = Literal["yes", "no", "cannot say"]


@dataclass(frozen=True)
class ScreeningGoal:
    """What routing must bring, and with how many prompts."""

    worth: float = 0.01
    """Gain over the best constant that routing must bring, in reward units."""
    planned: int = 2500
    """Prompts that the parallel set is going to have."""

    def __post_init__(self) -> None:
        if self.worth <= 0 or self.planned < FEWEST:
            raise ConfigError(
                f"--worth is {self.worth} and --planned {self.planned}; the gain must be above 0, "
                f"and a parallel set has {FEWEST} prompts or more."
            )


@dataclass(frozen=True)
class Standing:
    """One teacher in the probe."""

    teacher: str
    mean: float
    num_known: int
    is_needed: bool
    """Whether leaving it out would cost a best-per-task table anything to speak of."""


@dataclass(frozen=True)
class Screening:
    """All that a probe says."""

    verdict: Verdict
    why: str
    prompts_needed: int | None
    """How many prompts would decide; None where the verdict is no "cannot say" or none would."""
    num_prompts: int
    num_tasks: int
    divided_by: str
    """What tells prompts apart: "task labels", "clusters of embeddings" or "nothing"."""
    shares: Mapping[str, VarianceShares]
    """By signal."""
    oracle_gain: float
    """Over the best constant, of who knows the rewards of the probe."""
    measured: Interval | None
    """Gain of the stacked predictor over the best constant, on prompts left out."""
    kinds: tuple[KindGain, ...]
    simple: str
    """The kind that `router.kind: auto` would use."""
    growth: tuple[Growth, ...]
    standings: tuple[Standing, ...]


def screen(data: LabelledRewards, signals: Mapping[str, Floats], goal: ScreeningGoal) -> Screening:
    """Judge a probe.

    Args:
        signals: what the rewards are made from, each (N, M), for the shares of variance.

    Raises:
        DataError: there are fewer than two teachers with a known reward, or no prompt.
    """
    known_NM = ~np.isnan(data.rewards_NM)
    if known_NM.any(axis=0).sum() < 2:
        raise DataError(
            f"{int(known_NM.any(axis=0).sum())} of the teachers {data.teachers} have a known "
            "reward; there is nothing to choose between: give rows of two teachers or more."
        )
    divisions, by = _divisions(data)
    divided = divisions[0]
    shares = {
        name: variance_shares(values_NM, divided.features.tasks)
        for name, values_NM in {"reward": data.rewards_NM, **signals}.items()
    }
    empty = Screening(
        "cannot say", "", None, len(data.ids), _num_tasks(divided), by, shares,
        oracle_gain(data.rewards_NM), None, (), "constant", (), _standings(divided, goal),
    )  # fmt: skip
    told = _without_figures(data, by, goal)
    if told is not None:
        return replace(empty, verdict=told[0], why=told[1], prompts_needed=told[2])
    return _with_figures(divisions, goal, empty, choose_kind(data))


def _without_figures(
    data: LabelledRewards, by: str, goal: ScreeningGoal
) -> tuple[Verdict, str, int | None] | None:
    """Verdicts that need no estimate; None where one is to be made."""
    num = len(data.ids)
    if num < FEWEST:
        why = f"{num} prompts are too few to say anything"
        return "cannot say", why, USUAL
    if not (np.nanmax(data.rewards_NM, axis=1) > np.nanmin(data.rewards_NM, axis=1)).any():
        bound = 3 / num  # the rule of three: a share that was not seen in n trials
        if bound <= goal.worth:
            return "no", f"all teachers are tied on all {num} prompts", None
        why = f"all teachers are tied on all {num} prompts, which is too few to exclude a gain"
        return "cannot say", why, ceil(3 / goal.worth)
    if by == "nothing":
        why = (
            "nothing tells prompts apart: give a column of task labels (--task) or an encoder "
            "(--encoder)"
        )
        return "cannot say", why, None
    return None


def _with_figures(
    divisions: Sequence[LabelledRewards],
    goal: ScreeningGoal,
    empty: Screening,
    choice: KindChoice,
) -> Screening:
    num, data = empty.num_prompts, divisions[0]
    sizes = sorted({num, 2 * num, 4 * num, goal.planned})
    growth = expected_growth(divisions, sizes, goal.worth)
    planned = next(one for one in growth if one.num_prompts == goal.planned)
    verdict, needed = verdict_of(planned, num, goal)
    chance = f"{planned.chance:.0%} that routing gains more than {goal.worth:g}"
    why = (
        f"the chance is {chance} over the best constant with {goal.planned:,} parallel prompts "
        f"(expected {planned.gain.mean:+.3f}, 95 % from {planned.gain.low:+.3f} to "
        f"{planned.gain.high:+.3f})"
    )
    return replace(
        empty,
        verdict=verdict,
        why=why,
        prompts_needed=needed,
        measured=measured_gain(data, "stacked"),
        kinds=choice.gains,
        simple=choice.kind,
        growth=growth,
    )


def verdict_of(planned: Growth, num: int, goal: ScreeningGoal) -> tuple[Verdict, int | None]:
    """The verdict on an expected gain, and how many prompts would give one where there is none.

    What is uncertain shrinks with the root of the number of prompts.
    """
    if planned.chance >= SURE:
        return "yes", None
    if planned.chance <= 1 - SURE:
        return "no", None
    deviation = (planned.gain.high - planned.gain.low) / 4
    distance = abs(planned.gain.mean - goal.worth)
    if distance * np.sqrt(MOST_NEEDED / num) < SURE_DEVIATIONS * deviation:
        return "cannot say", None
    needed = num * (SURE_DEVIATIONS * deviation / distance) ** 2
    return "cannot say", _rounded_up(max(needed, 1.5 * num))


def _rounded_up(number: float) -> int:
    """To two digits: 1,234 is 1,300."""
    step = 10 ** max(0, int(log10(number)) - 1)
    return int(ceil(number / step) * step)


def _divisions(data: LabelledRewards) -> tuple[tuple[LabelledRewards, ...], str]:
    """The probe with what tells its prompts apart, and what that is; clusters in several ways, for
    a single one may fit the probe by luck.
    """
    if _num_tasks(data) > 1:
        return (data,), "task labels"
    embeddings_ND = data.features.embeddings_PD
    if embeddings_ND is None or len(data.ids) < FEWEST:
        return (data,), "nothing"
    clustered = [
        PromptFeatures(cluster_labels(embeddings_ND, data.seed + place), embeddings_ND)
        for place in range(NUM_CLUSTERINGS)
    ]
    divisions = tuple(replace(data, features=features) for features in clustered)
    return divisions, "clusters of embeddings"


def _num_tasks(data: LabelledRewards) -> int:
    return len({task for task in data.features.tasks if task is not None})


def _standings(data: LabelledRewards, goal: ScreeningGoal) -> tuple[Standing, ...]:
    """The teachers from the best on; needed is who a table by task would miss."""
    kind = "per_task" if _num_tasks(data) > 1 else "constant"
    predictor = fit_predictor(kind, data.features, data.rewards_NM)
    scores_NM = predictor.scores(data.features)
    kept = _kept(np.where(np.isnan(scores_NM), -np.inf, scores_NM), goal)
    known_NM = ~np.isnan(data.rewards_NM)
    found = [
        Standing(name, float(predictor.teacher_M[m]), int(known_NM[:, m].sum()), m in kept)
        for m, name in enumerate(data.teachers)
    ]
    return tuple(
        sorted(found, key=lambda one: (-np.nan_to_num(one.mean, nan=-np.inf), one.teacher))
    )


def _kept(scores_NM: Floats, goal: ScreeningGoal) -> set[int]:
    """Teachers left when those are taken out, one by one, whose loss together costs least."""
    kept = set(range(scores_NM.shape[1]))
    whole = scores_NM.max(axis=1).mean()
    while len(kept) > 1:
        left = {m: scores_NM[:, sorted(kept - {m})].max(axis=1).mean() for m in kept}
        out = max(left, key=lambda m: (left[m], -scores_NM[:, m].mean(), m))
        if whole - left[out] > LEFT_OUT_SHARE * goal.worth:
            break
        kept.remove(out)
    return kept
