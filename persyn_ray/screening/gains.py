"""Expected gain of routing from a probe: rewards with task labels in, gains with intervals out.

Two looks at the same question. `measured_gain` routes prompts that were left out: honest, and noisy
where prompts are few. `expected_growth` is a model's: in the worlds that the probe leaves possible
(worlds.py) a table fitted on more prompts is set beside a constant fitted on the same ones. Worlds
in which the probe would have shown another gain than it does, on prompts left out, count for less:
rewards are not normal, and teachers at a ceiling differ only downwards. It is narrower, and only
about tasks.

Axes: M teachers, K tasks, R worlds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from persyn_ray.method.arrays import Floats
from persyn_ray.method.predictors.choose import NUM_FOLDS, LabelledRewards, left_out_scores
from persyn_ray.method.predictors.effects import PromptFeatures
from persyn_ray.method.predictors.fit import available
from persyn_ray.screening.worlds import Worlds, drawn_worlds
from persyn_ray.statistics.intervals import Interval, bootstrap_difference

NUM_REPEATS = 3
NUM_WORLDS = 1000
SMALLEST_ERROR = 0.002
"""Of a measured gain, in reward units: where few prompts change teachers it would be near 0."""


@dataclass(frozen=True)
class Growth:
    """Expected gain of a table of best teachers per task, by the number of prompts it rests on."""

    num_prompts: int
    gain: Interval
    chance: float
    """That the gain is above `worth`."""


def measured_gain(data: LabelledRewards, kind: str, num_repeats: int = NUM_REPEATS) -> Interval:
    """Routed reward of a kind minus the best constant's, on prompts left out of both.

    Raises:
        DataError: there are fewer prompts than folds.
    """
    routed = [
        [data.routed(scores[name]) for name in (kind, "constant")]
        for scores in (left_out_scores(data, repeat=repeat) for repeat in range(num_repeats))
    ]
    ours_N, constant_N = np.mean(routed, axis=0)
    return bootstrap_difference(ours_N, constant_N, data.seed)


def expected_growth(
    divisions: Sequence[LabelledRewards], sizes: Sequence[int], worth: float
) -> tuple[Growth, ...]:
    """What a table by task is expected to gain when it rests on so many prompts.

    Args:
        divisions: one probe, divided into tasks in one way or in several that count alike.
    """
    num, rng = len(divisions[0].ids), np.random.default_rng(divisions[0].seed)
    drawn = [
        drawn_worlds(data.rewards_NM, data.features.tasks, NUM_WORLDS, rng) for data in divisions
    ]
    weights = [_weights(*one, rng) for one in zip(divisions, drawn, strict=True)]
    weight_R = np.concatenate(weights) / len(divisions)
    found: list[Growth] = []
    for size in sizes:
        gain_R = np.concatenate([_gains(worlds, size, rng) for worlds in drawn])
        low, high = _quantiles(gain_R, weight_R, (0.025, 0.975))
        gain = Interval(float(weight_R @ gain_R), low, high, num)
        found.append(Growth(size, gain, float(weight_R @ (gain_R > worth))))
    return tuple(found)


def _weights(data: LabelledRewards, worlds: Worlds, rng: np.random.Generator) -> Floats:
    """How well each world agrees with the gain that a table has on prompts left out of it, (R,)."""
    num = len(data.ids)
    by_task = replace(data, features=PromptFeatures(data.features.tasks))
    if num < NUM_FOLDS or "per_task" not in available(by_task.features):
        return np.full(len(worlds.ratio_R), 1 / len(worlds.ratio_R))
    differences = [
        by_task.routed(scores["per_task"]) - by_task.routed(scores["constant"])
        for scores in (left_out_scores(by_task, repeat=repeat) for repeat in range(NUM_REPEATS))
    ]
    gain_N = np.mean(differences, axis=0)
    known_N = gain_N[~np.isnan(gain_N)]
    error = float(np.hypot(known_N.std() / np.sqrt(max(1, len(known_N))), SMALLEST_ERROR))
    seen_R = _gains(worlds, num - num // NUM_FOLDS, rng)
    distance_R = ((known_N.mean() if len(known_N) else 0.0) - seen_R) ** 2 / error**2
    weight_R = np.exp(-0.5 * (distance_R - distance_R.min()))
    return weight_R / weight_R.sum()


def _quantiles(values_R: Floats, weight_R: Floats, shares: Sequence[float]) -> list[float]:
    order = values_R.argsort()
    places = np.searchsorted(np.cumsum(weight_R[order]), shares)
    return [float(values_R[order[min(place, len(order) - 1)]]) for place in places]


def _gains(worlds: Worlds, size: int, rng: np.random.Generator) -> Floats:
    """True reward (R,) of a table minus that of a constant, both fitted on so many prompts."""
    if not worlds.share_K.any():
        return np.zeros(len(worlds.ratio_R))
    seen_RKM = worlds.seen(size, rng)
    overall_RM = worlds.share_K @ seen_RKM
    known_RK = worlds.ratio_R[:, None] * np.maximum(worlds.share_K * size, 0.5)
    weight_RK1 = (known_RK / (1 + known_RK))[:, :, None]
    score_RKM = overall_RM[:, None] + weight_RK1 * (seen_RKM - overall_RM[:, None])
    chosen_RK1 = score_RKM.argmax(axis=2)[:, :, None]
    constant_R11 = overall_RM.argmax(axis=1)[:, None, None]
    routed_RK, constant_RK = (
        np.take_along_axis(worlds.true_RKM, place, axis=2)[:, :, 0]
        for place in (chosen_RK1, np.broadcast_to(constant_R11, chosen_RK1.shape))
    )
    return (routed_RK - constant_RK) @ worlds.share_K
