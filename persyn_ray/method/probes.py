"""Probes: what a frozen embedding of the prompt already says about rewards, without a router.

    k-NN      score[p, m] = mean reward of teacher m on the k parallel prompts nearest to p
    linear    score[p, m] = w_m . (e_p - mean) / deviation + b_m
              w_m, b_m minimise  mean over n of (r[n, m] - score[n, m])^2 + l2_m |w_m|^2

Baselines for the router, of the same form: scores (P, M) whose best teacher gets the prompt. Near
is by cosine. Parallel prompts that are equally far from p count alike: where they compete for the
last of the k places they share them, so no order decides. Unknown rewards are left out: of the k
nearest prompts only those count on which the teacher is known, and each teacher is regressed on its
own known prompts, so that one more teacher changes nobody's scores. How strongly a regression is
held back, and how many neighbours are asked, is chosen on the parallel set by leaving each prompt
out in turn, exactly and from a single decomposition.

Axes: P prompts, N prompts of the parallel set, M teachers, B rows of a stretch, D embedding, L
values of l2, U known prompts of a teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.arrays import Booleans, Floats, as_floats
from persyn_ray.method.cosine import Embeddings, cosines, require_width, stretches, unit_rows

SAME_COSINE = 1e-9
"""Cosines this close are equal: matrix products round the same row differently by its place."""
NEIGHBOUR_GRID = (1, 2, 5, 10, 20, 50, 100, 200)
PROBE_L2_GRID = tuple(10.0 ** (half / 2) for half in range(-6, 9))
"""Penalties in units of the mean squared error of rewards, on standardised embeddings."""


def knn_scores(
    embeddings_PD: Embeddings, parallel_ND: Embeddings, rewards_NM: ArrayLike, k: int
) -> Floats:
    """Mean known reward of the k nearest parallel prompts, shape (P, M), in reward units.

    NaN where the teacher is known on none of them; k above N counts as N.

    Raises:
        ConfigError: k is below 1.
        DataError: shapes do not fit, a reward is infinite, or an embedding has no direction.
    """
    unit_ND, rewards_NM = _parallel(parallel_ND, rewards_NM)
    scores_PM = np.full((len(embeddings_PD), rewards_NM.shape[1]), np.nan)
    for rows, cosines_BN in cosines(embeddings_PD, unit_ND):
        scores_PM[rows] = _mean_reward(_nearest(cosines_BN, k), rewards_NM)
    return scores_PM


def choose_k(
    parallel_ND: Embeddings, rewards_NM: ArrayLike, ks: Sequence[int] = NEIGHBOUR_GRID
) -> int:
    """The k with the smallest squared error when each parallel prompt is scored by the others.

    Equal errors take the larger k. Where a k leaves more unknown than another, only what all know
    is compared.

    Raises:
        ConfigError: a k is below 1, or there is none.
        DataError: as in `knn_scores`, or there are fewer than two prompts.
    """
    if not ks:
        raise ConfigError("No k to choose from: give at least one number of neighbours.")
    unit_ND, rewards_NM = _parallel(parallel_ND, rewards_NM)
    if len(unit_ND) < 2:
        raise DataError("A single parallel prompt has no neighbour: k needs at least two.")
    errors = {k: np.full(rewards_NM.shape, np.nan) for k in sorted(ks, reverse=True)}
    for rows, cosines_BN in cosines(parallel_ND, unit_ND):
        numbers_B = np.arange(len(unit_ND))[rows]
        cosines_BN[np.arange(len(numbers_B)), numbers_B] = -np.inf
        for k, errors_NM in errors.items():
            weights_BN = _nearest(cosines_BN, min(k, len(unit_ND) - 1))
            errors_NM[rows] = (_mean_reward(weights_BN, rewards_NM) - rewards_NM[rows]) ** 2
    compared_NM = ~np.isnan(sum(errors.values()))
    return min(errors, key=lambda k: float(errors[k][compared_NM].sum()))


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A ridge regression for each teacher; NaN throughout for one without a known reward."""

    mean_D: Floats
    deviation_D: Floats  # 1 where the parallel set does not vary
    weights_DM: Floats  # reward units per standard deviation
    bias_M: Floats
    l2_M: Floats


def linear_probe(
    parallel_ND: Embeddings, rewards_NM: ArrayLike, l2: float | Sequence[float] = PROBE_L2_GRID
) -> LinearProbe:
    """Regress each teacher's known rewards on standardised embeddings; the intercept is free.

    Of several penalties each teacher gets the one with the smallest leave-one-out error, the
    strongest of equals; a teacher known on a single prompt gets its reward as a constant.

    Raises:
        ConfigError: a penalty is not above 0.
        DataError: shapes do not fit, or a value is not finite (an unknown reward is NaN).
    """
    grid_L = np.sort(np.atleast_1d(np.asarray(l2, dtype=np.float64)))[::-1]
    if not grid_L.size or not (np.isfinite(grid_L) & (grid_L > 0)).all():
        raise ConfigError(f"l2 is {l2}; every penalty must be a finite number above 0.")
    _, rewards_NM = _parallel(parallel_ND, rewards_NM)
    features_ND = np.asarray(parallel_ND, dtype=np.float64)
    mean_D, deviation_D = features_ND.mean(axis=0), features_ND.std(axis=0)
    deviation_D = np.where(deviation_D > 1e-12 * np.abs(mean_D), deviation_D, 1.0)
    features_ND = (features_ND - mean_D) / deviation_D
    num_teachers = rewards_NM.shape[1]
    weights_DM = np.full((features_ND.shape[1], num_teachers), np.nan)
    bias_M, l2_M = np.full(num_teachers, np.nan), np.full(num_teachers, np.nan)
    known_NM = ~np.isnan(rewards_NM)
    for known_N, teachers in _alike(known_NM):
        fitted = _ridge(features_ND[known_N], rewards_NM[known_N][:, teachers], grid_L)
        weights_DM[:, teachers], bias_M[teachers], l2_M[teachers] = fitted
    return LinearProbe(mean_D, deviation_D, weights_DM, bias_M, l2_M)


def linear_probe_scores(
    embeddings_PD: Embeddings, parallel_ND: Embeddings, rewards_NM: ArrayLike
) -> Floats:
    """Rewards predicted by a linear probe of the parallel set, shape (P, M).

    Raises:
        DataError: as in `linear_probe` and `probe_scores`.
    """
    return probe_scores(linear_probe(parallel_ND, rewards_NM), embeddings_PD)


def probe_scores(probe: LinearProbe, embeddings_PD: Embeddings) -> Floats:
    """Predicted rewards, shape (P, M).

    Raises:
        DataError: the embeddings are of another width.
    """
    require_width(embeddings_PD, len(probe.mean_D))
    scores_PM = np.empty((len(embeddings_PD), len(probe.bias_M)))
    for rows in stretches(embeddings_PD, len(probe.mean_D)):
        features_BD = (embeddings_PD[rows] - probe.mean_D) / probe.deviation_D
        scores_PM[rows] = features_BD @ probe.weights_DM + probe.bias_M
    return scores_PM


def _parallel(parallel_ND: Embeddings, rewards_NM: ArrayLike) -> tuple[Floats, Floats]:
    rewards_NM = as_floats(rewards_NM, "Rewards")
    if rewards_NM.ndim != 2 or len(rewards_NM) != len(parallel_ND):
        raise DataError(
            f"Rewards {rewards_NM.shape} do not fit embeddings {parallel_ND.shape} of the parallel "
            "set: both need one row a prompt."
        )
    return unit_rows(parallel_ND, "Embeddings of the parallel set"), rewards_NM


def _nearest(cosines_BN: Floats, k: int) -> Floats:
    """Weights (B, N) that sum to k: 1 for those nearer than the k-th, equal parts at its place."""
    if k < 1:
        raise ConfigError(f"k is {k}; at least 1 neighbour must be asked.")
    k = min(k, cosines_BN.shape[1])
    last_B1 = np.partition(cosines_BN, -k, axis=1)[:, -k, None]
    nearer_BN = cosines_BN > last_B1 + SAME_COSINE
    equal_BN = np.abs(cosines_BN - last_B1) <= SAME_COSINE
    places_B1 = k - nearer_BN.sum(axis=1, keepdims=True)
    return nearer_BN + equal_BN * (places_B1 / equal_BN.sum(axis=1, keepdims=True))


def _mean_reward(weights_BN: Floats, rewards_NM: Floats) -> Floats:
    known_NM = ~np.isnan(rewards_NM)
    known_BM = weights_BN @ known_NM.astype(np.float64)
    total_BM = weights_BN @ np.where(known_NM, rewards_NM, 0.0)
    return np.where(known_BM > 0, total_BM / np.where(known_BM > 0, known_BM, 1.0), np.nan)


def _alike(known_NM: Booleans) -> list[tuple[Booleans, list[int]]]:
    """Teachers known on the same prompts, together: they share one decomposition."""
    groups: dict[bytes, list[int]] = {}
    for teacher in np.flatnonzero(known_NM.any(axis=0)).tolist():
        groups.setdefault(known_NM[:, teacher].tobytes(), []).append(teacher)
    return [(known_NM[:, teachers[0]], teachers) for teachers in groups.values()]


def _ridge(
    features_UD: Floats, rewards_UM: Floats, grid_L: Floats
) -> tuple[Floats, Floats, Floats]:
    """Weights (D, M), intercepts and chosen penalties (M,); every reward is known."""
    num = len(features_UD)
    mean_D: Floats = features_UD.mean(axis=0)
    mean_M: Floats = rewards_UM.mean(axis=0)
    centred_UD, centred_UM = features_UD - mean_D, rewards_UM - mean_M
    values_D, turn_DD = _principal(centred_UD)
    turned_UD = centred_UD @ turn_DD
    target_DM = turned_UD.T @ centred_UM / num
    errors_LM = np.array(
        [_left_out_error(turned_UD, values_D, target_DM, centred_UM, l2) for l2 in grid_L]
    )
    l2_M = grid_L[errors_LM.argmin(axis=0)]  # the grid falls, so the strongest of equals
    weights_DM: Floats = turn_DD @ (target_DM / (values_D[:, None] + l2_M))
    return weights_DM, mean_M - mean_D @ weights_DM, l2_M


def _principal(centred_UD: Floats) -> tuple[Floats, Floats]:
    """Variances along the principal directions, and these as columns, by the shorter side: D of
    them, or with fewer prompts than features only those that the prompts vary in.
    """
    num, width = centred_UD.shape
    if num >= width:
        values_D, turn_DD = np.linalg.eigh(centred_UD.T @ centred_UD / num)
        return np.maximum(values_D, 0.0), turn_DD
    values_U, left_UU = np.linalg.eigh(centred_UD @ centred_UD.T / num)
    kept_U = values_U > 1e-12 * max(float(values_U[-1]), np.finfo(np.float64).tiny)
    values_K = values_U[kept_U]
    return values_K, centred_UD.T @ left_UU[:, kept_U] / np.sqrt(num * values_K)


def _left_out_error(
    turned_UD: Floats, values_D: Floats, target_DM: Floats, centred_UM: Floats, l2: float
) -> Floats:
    """Sum of squared errors (M,) with each prompt left out: residual / (1 - leverage)."""
    num = len(turned_UD)
    if num == 1:
        return np.zeros_like(centred_UM[0])
    residual_UM = centred_UM - turned_UD @ (target_DM / (values_D[:, None] + l2))
    leverage_U: Floats = (1.0 + (turned_UD**2 / (values_D + l2)).sum(axis=1)) / num
    errors_UM: Floats = (residual_UM / (1.0 - leverage_U)[:, None]) ** 2
    return errors_UM.sum(axis=0)
