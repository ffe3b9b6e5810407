"""Draws worlds that a probe leaves possible: rewards with task labels in, true means by task out.

Within a task interactions vary with covariance S; the true means of tasks vary with covariance
ratio x S, so that teachers who err alike also have like tasks. The probe says what the ratio can be
(restricted likelihood), before it all ratios between `SMALLEST` and `LARGEST` count alike on a log
scale, and with probability `NO_DIFFERENCE` tasks do not matter at all. Teachers' overall means are
drawn around those of the probe.

    mean of task k  ~  N( w[k] seen[k], ratio (1 - w[k]) S ),    w[k] = 1 / (1 + 1 / (n[k] ratio))

Axes: N prompts of the probe, M teachers, K tasks, R worlds, G ratios.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from persyn_ray.method.arrays import Floats
from persyn_ray.method.predictors.effects import effects_of, task_variance

SMALLEST, LARGEST = 1e-3, 1.0
"""Ratios of variance between tasks to that within them; public tables lie between 0.007 and 0.5."""
NO_DIFFERENCE = 0.25
NUM_RATIOS = 60
NEVER = -1e9
FLOOR = 1e-6
"""Share of the mean variance that every direction has at least."""


@dataclass(frozen=True, eq=False)
class Worlds:
    """True means of tasks, and what is needed to see them through some prompts."""

    true_RKM: Floats
    """`NEVER` for a teacher of whom nothing is known."""
    ratio_R: Floats
    share_K: Floats
    """Share of the prompts in each task."""
    root_MM: Floats
    """Draws within a task are `root_MM @ normal`."""

    def seen(self, num_prompts: int, rng: np.random.Generator) -> Floats:
        """Means (R, K, M) that so many prompts of each world would show."""
        counts_K1 = np.maximum(self.share_K * num_prompts, 0.5)[:, None]
        noise_RKM = rng.standard_normal(self.true_RKM.shape) @ self.root_MM.T
        return self.true_RKM + noise_RKM / np.sqrt(counts_K1)


def drawn_worlds(
    rewards_NM: Floats, tasks: Sequence[str | None], num: int, rng: np.random.Generator
) -> Worlds:
    """So many worlds; a world without tasks where no two prompts have different labels."""
    effects = effects_of(rewards_NM)
    known_M = ~np.isnan(effects.teacher_M)
    found = task_variance(effects.interaction_NM, tasks)
    counts_K = found.counts_KM[:, known_M].mean(axis=1)
    means_KM = _centred(found.means_KM[:, known_M])
    turned_MM, deviation_M = _within(
        effects.interaction_NM[:, known_M], tasks, found.tasks, means_KM
    )
    rank = max(1, int(known_M.sum()) - 1)
    ratio_R = _drawn_ratios(means_KM @ turned_MM / deviation_M, counts_K, rank, num, rng)
    root_MM = turned_MM * deviation_M
    weight_RK1 = _weights(ratio_R, counts_K)
    spread_RK1 = np.sqrt(ratio_R[:, None, None] * (1 - weight_RK1))
    normal_RKM = rng.standard_normal((num, *means_KM.shape))
    true_RKM = weight_RK1 * means_KM + spread_RK1 * (normal_RKM @ root_MM.T)
    normal_R1M = rng.standard_normal((num, 1, len(root_MM))) / np.sqrt(max(counts_K.sum(), 1.0))
    true_RKM += effects.teacher_M[known_M] + normal_R1M @ root_MM.T
    whole_RKM = np.full((num, len(found.tasks), len(known_M)), NEVER)
    whole_RKM[:, :, known_M] = true_RKM
    whole_MM = np.zeros((len(known_M), len(known_M)))
    whole_MM[np.ix_(known_M, known_M)] = root_MM
    share_K = counts_K / max(counts_K.sum(), 1e-12)
    return Worlds(whole_RKM, ratio_R, share_K, whole_MM)


def _weights(ratio_R: Floats, counts_K: Floats) -> Floats:
    """How far the means of tasks are believed, shape (R, K, 1)."""
    known_RK = ratio_R[:, None] * counts_K
    return (known_RK / (1 + known_RK))[:, :, None]


def _within(
    interaction_NM: Floats, tasks: Sequence[str | None], names: Sequence[str], means_KM: Floats
) -> tuple[Floats, Floats]:
    """Directions (M, M) and standard deviations (M,) of interactions within tasks."""
    places = {name: place for place, name in enumerate(names)}
    rows = [row for row, task in enumerate(tasks) if task is not None]
    of_N = np.array([places[task] for task in tasks if task is not None], dtype=np.int64)
    known_NM = ~np.isnan(interaction_NM[rows])
    left_NM = np.where(known_NM, interaction_NM[rows] - means_KM[of_N], 0.0)
    pairs_MM = known_NM.astype(np.float64).T @ known_NM
    freed = max(1, len(rows) - len(names)) / max(1, len(rows))
    covariance_MM = left_NM.T @ left_NM / np.maximum(pairs_MM * freed, 1e-9)
    covariance_MM = _centred(_centred(covariance_MM).T)
    variance_M, turned_MM = np.linalg.eigh((covariance_MM + covariance_MM.T) / 2)
    least = FLOOR * max(float(np.mean(interaction_NM[~np.isnan(interaction_NM)] ** 2)), 1e-12)
    return turned_MM, np.sqrt(np.maximum(variance_M, least))


def _centred(values_KM: Floats) -> Floats:
    return values_KM - values_KM.mean(axis=1, keepdims=True)


def _drawn_ratios(
    whitened_KM: Floats, counts_K: Floats, rank: int, num: int, rng: np.random.Generator
) -> Floats:
    """Ratios (R,) by how likely the means of tasks are under each."""
    grid_G = np.concatenate([[0.0], np.geomspace(SMALLEST, LARGEST, NUM_RATIOS)])
    if (counts_K > 0).sum() < 2:
        return np.zeros(num)
    prior_G = np.full(len(grid_G), (1 - NO_DIFFERENCE) / NUM_RATIOS)
    prior_G[0] = NO_DIFFERENCE
    likelihood_G = np.array(
        [_log_likelihood(whitened_KM, counts_K, rank, ratio) for ratio in grid_G]
    )
    weight_G = prior_G * np.exp(likelihood_G - likelihood_G.max())
    return rng.choice(grid_G, num, p=weight_G / weight_G.sum())


def _log_likelihood(whitened_KM: Floats, counts_K: Floats, rank: int, ratio: float) -> float:
    """Restricted log-likelihood of a ratio: the overall mean is free."""
    spread_K = 1 + counts_K * ratio
    weight_K = counts_K / spread_K
    mean_M = weight_K @ whitened_KM / weight_K.sum()
    distance = float((weight_K[:, None] * (whitened_KM - mean_M) ** 2).sum())
    freedom = float(np.log(spread_K).sum() + np.log(weight_K.sum()))
    return -0.5 * (rank * freedom + distance)
