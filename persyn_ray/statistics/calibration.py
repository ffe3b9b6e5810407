"""Calibration of the router's pairwise probabilities: ECE with noise floor, reliability table.

    claim   margin = |o_i - o_j|, probability = sigmoid(margin / T) >= 1/2          (Eq. 3 at T = 1)
    loss    - mean of won * log sigmoid(margin / T) + (1 - won) * log sigmoid(-margin / T)
    ECE     sum over bins of (pairs in it / pairs) * |mean probability - mean won|

Axes: P prompts, M teachers, N pairs, B bins, R resamples. Each unordered pair counts once and the
way the router claims it: counted both ways every router would look calibrated around 1/2. Bins hold
about equally many pairs, because most claims of a router lie close to 1/2.

ECE is never below its noise: a perfectly calibrated router has one above 0 on any finite set. So it
comes with the value that noise alone would give. A temperature leaves every choice as it is; it
only makes claims more or less confident. Pairs of a prompt depend on one another, so intervals
resample prompts, never pairs.
"""

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.arrays import Floats, Integers, as_floats, require_same_shape
from persyn_ray.method.bradley_terry import fit_temperature, pair_outcomes, sigmoid
from persyn_ray.method.metrics import pairwise_accuracy
from persyn_ray.statistics.intervals import Interval
from persyn_ray.statistics.significance import percentile_interval, resampling_weights

# Weights held at once: with the picks beside them about 24 MB.
CHUNK = 1_000_000


@dataclass(frozen=True, eq=False)
class Reliability:
    """What was claimed beside what came true, bin by bin by rising confidence; no bin is empty."""

    confidence_B: Floats
    accuracy_B: Floats
    count_B: Integers


@dataclass(frozen=True, eq=False)
class Calibration:
    """How well the claims hold, with the diagram's table."""

    ece: Interval  # `num` counts prompts with a pair
    noise: float  # mean ECE on as many prompts if every claim held exactly as often as it says
    nll: float  # nats per pair
    table: Reliability


def expected_calibration_error(
    probabilities: ArrayLike, outcomes: ArrayLike, num_bins: int = 15
) -> tuple[float, Reliability]:
    """Count-weighted mean of |confidence - accuracy|, from 0 to 1, and the table behind it.

    The bins' edges are quantiles of the probabilities, so bins hold about equally many pairs; equal
    probabilities share a bin, so there may be fewer bins. NaN without any pair.

    Raises:
        ConfigError: there are no bins.
        DataError: shapes differ, or a value is not from 0 to 1.
    """
    claimed_N, won_N = as_floats(probabilities, "Probabilities"), as_floats(outcomes, "Outcomes")
    require_same_shape("Probabilities and outcomes", claimed_N, won_N)
    for what, values_N in (("Probabilities", claimed_N), ("Outcomes", won_N)):
        if not ((values_N >= 0) & (values_N <= 1)).all():
            raise DataError(f"{what} must be known and from 0 to 1; leave unknown pairs out.")
    bin_N = _bins(claimed_N, num_bins)
    count_B = np.bincount(bin_N)
    table = Reliability(
        confidence_B=np.bincount(bin_N, claimed_N) / count_B,
        accuracy_B=np.bincount(bin_N, won_N) / count_B,
        count_B=count_B.astype(np.int64),
    )
    if not claimed_N.size:
        return nan, table
    gaps_B = np.abs(table.confidence_B - table.accuracy_B)
    return float(count_B @ gaps_B / claimed_N.size), table


def calibration(
    logits_PM: ArrayLike,
    rewards_PM: ArrayLike,
    temperature: float,
    seed: int,
    num_bins: int = 15,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> Calibration:
    """Calibration of the pair probabilities at a temperature; NaN throughout without any pair.

    The interval of ECE mirrors the bootstrap over prompts, because a resample adds as much noise as
    the sample did, and reaches down to 0 unless ECE stands out of its noise. In planted worlds of
    100 and 400 prompts, 6 and 19 teachers, calibrated and not, it held the truth in 86 to 96 % of
    300 draws each; plain percentiles did in 0 to 97 %. The order of prompts does not matter.

    Raises:
        ConfigError: `temperature` is not above 0, `level` not between 0 and 1, or there are no bins
            or no resamples.
        DataError: shapes differ or a value is infinite.
    """
    if not temperature > 0:
        raise ConfigError(f"temperature is {temperature}; it must be above 0 (1 changes nothing).")
    scaled_PM = as_floats(logits_PM, "Logits") / temperature
    margins_N, won_N, prompt_row_N = pair_outcomes(scaled_PM, rewards_PM)
    claimed_N = sigmoid(margins_N)
    value, table = expected_calibration_error(claimed_N, won_N, num_bins)
    if not claimed_N.size:
        return Calibration(Interval(nan, nan, nan, 0), nan, nan, table)
    gaps_PB = _sums_by_prompt(prompt_row_N, _bins(claimed_N, num_bins), claimed_N - won_N)
    count_P = np.bincount(prompt_row_N).astype(np.float64)
    sums_RK = _resampled_sums(np.column_stack([gaps_PB, count_P])[count_P > 0], seed, num_resamples)
    gaps_RB = sums_RK[:, :-1] / sums_RK[:, -1:]
    noise_R = np.abs(gaps_RB - gaps_PB.sum(axis=0) / claimed_N.size).sum(axis=1)
    losses_N = np.logaddexp(0.0, -margins_N) + (1 - won_N) * margins_N
    return Calibration(
        ece=_mirrored(value, np.abs(gaps_RB).sum(axis=1), noise_R, level, int((count_P > 0).sum())),
        noise=float(noise_R.mean()),
        nll=float(losses_N.mean()),
        table=table,
    )


def cross_fitted_temperatures(
    logits_PM: ArrayLike, rewards_PM: ArrayLike, fold_P: ArrayLike
) -> Floats:
    """For each prompt the temperature fitted on all the other folds, shape (P,); NaN as there.

    Folds are any labels, two for halves. Draw them from the ids of prompts, not from their order.

    Raises:
        DataError: shapes differ, a value is infinite, or there are not two folds at least.
    """
    logits_PM, rewards_PM = as_floats(logits_PM, "Logits"), as_floats(rewards_PM, "Rewards")
    fold_P = np.asarray(fold_P)
    if fold_P.shape != logits_PM.shape[:1]:
        raise DataError(f"Folds {fold_P.shape} do not fit {len(logits_PM)} prompts.")
    folds = np.unique(fold_P)
    if folds.size < 2:
        raise DataError(f"{folds.size} fold: fitting and judging need two folds at least.")
    temperature_P = np.full(len(logits_PM), np.nan)
    for fold in folds:
        inside_P = fold_P == fold
        temperature_P[inside_P] = fit_temperature(logits_PM[~inside_P], rewards_PM[~inside_P])
    return temperature_P


def cross_fitted_ece(
    logits_PM: ArrayLike,
    rewards_PM: ArrayLike,
    fold_P: ArrayLike,
    seed: int,
    num_bins: int = 15,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> Calibration:
    """Calibration after scaling, each prompt at the temperature that was fitted without its fold.

    Fitted and judged on the same prompts, scaling would look better than it is. Prompts whose other
    folds have no pair are left out. The interval takes the temperatures as given.

    Raises:
        ConfigError, DataError: as in `calibration` and `cross_fitted_temperatures`.
    """
    temperature_P = cross_fitted_temperatures(logits_PM, rewards_PM, fold_P)
    scaled_PM = as_floats(logits_PM, "Logits") / temperature_P[:, None]
    return calibration(scaled_PM, rewards_PM, 1.0, seed, num_bins, num_resamples, level)


def accuracy_interval(
    scores_PM: ArrayLike,
    rewards_PM: ArrayLike,
    seed: int,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Share of pairs put in the right order, with its interval over prompts; NaN without any pair.

    A pair counts as in `pairwise_accuracy`, and all pairs weigh the same, so a prompt with many of
    them weighs more. `num` counts prompts with a pair. The order of prompts does not matter.

    Raises:
        ConfigError: `level` is not between 0 and 1, or there are no resamples.
        DataError: shapes differ or a value is infinite.
    """
    correct_P, pairs_P = pairwise_accuracy(scores_PM, rewards_PM)
    kept_P2 = np.column_stack([correct_P, pairs_P.astype(np.float64)])[pairs_P > 0]
    if not kept_P2.size:
        return Interval(nan, nan, nan, 0)
    sums_R2 = _resampled_sums(kept_P2, seed, num_resamples)
    mean = float(correct_P.sum() / pairs_P.sum())
    return percentile_interval(mean, sums_R2[:, 0] / sums_R2[:, 1], level, len(kept_P2))


def _bins(claimed_N: Floats, num_bins: int) -> Integers:
    """Position of each pair's bin, counting only bins that hold any."""
    if num_bins < 1:
        raise ConfigError(f"num_bins is {num_bins}; it must be at least 1 (15 is usual).")
    if not claimed_N.size:
        return np.zeros(0, dtype=np.int64)
    edges = np.unique(np.quantile(claimed_N, np.arange(1, num_bins) / num_bins))
    found_N = np.searchsorted(edges, claimed_N, side="right")
    return np.unique(found_N, return_inverse=True)[1].astype(np.int64)


def _sums_by_prompt(prompt_row_N: Integers, bin_N: Integers, values_N: Floats) -> Floats:
    shape = int(prompt_row_N.max()) + 1, int(bin_N.max()) + 1
    cell_N = prompt_row_N * shape[1] + bin_N
    sums = np.bincount(cell_N, values_N, minlength=shape[0] * shape[1])
    return sums.reshape(shape).astype(np.float64)


def _resampled_sums(values_PK: Floats, seed: int, num_resamples: int) -> Floats:
    """Sums over prompts drawn with replacement, shape (R, K)."""
    rng = np.random.default_rng(seed)
    # Sorted, so that the same prompts in another order give the same draws.
    sorted_PK = values_PK[np.lexsort(values_PK.T)]
    step = max(1, CHUNK // len(sorted_PK))
    sizes = [min(step, num_resamples - start) for start in range(0, max(1, num_resamples), step)]
    return np.concatenate([resampling_weights(rng, n, len(sorted_PK)) @ sorted_PK for n in sizes])


def _mirrored(value: float, ece_R: Floats, noise_R: Floats, level: float, num: int) -> Interval:
    found = percentile_interval(value, ece_R, level, num)
    low = 0.0 if value <= np.quantile(noise_R, level) else max(0.0, 2 * value - found.high)
    high = min(1.0, 2 * value - found.low)
    # All resamples may lie above the value, so much is noise; the interval still holds it.
    return Interval(value, min(low, value), max(high, value), num)
