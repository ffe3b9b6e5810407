"""Intervals: how far a share or a mean may be off, given the prompts it was measured on.

Wilson for counts, the percentile bootstrap over prompts for means and paired differences. They
cover the choice of prompts only: not the seed of a training run, nor the sampling of responses.
"""

from dataclasses import dataclass
from math import nan, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.arrays import Floats, as_floats, require_same_shape

# Draws held at once: 2 million values and their indices are about 24 MB.
CHUNK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate, its bounds, and the number of values it rests on."""

    mean: float
    low: float
    high: float
    num: int


def wilson(successes: float, num: int, level: float = 0.95) -> Interval:
    """Wilson's interval for a share; stays within 0 to 1 even at 0 or all successes.

    Without a single trial the share is NaN and the bounds are 0 and 1. Half successes are allowed.

    Raises:
        ConfigError: `level` is not between 0 and 1.
        DataError: successes are not from 0 to num.
    """
    _require_level(level)
    if not 0 <= successes <= num:
        raise DataError(f"{successes} successes of {num} trials: must be from 0 to {num}.")
    if num == 0:
        return Interval(nan, 0.0, 1.0, 0)
    share, z = successes / num, NormalDist().inv_cdf(0.5 + level / 2)
    centre = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    # At 0 and 1 the formula is exact, but its rounding may fall a hair inside the share.
    return Interval(
        share, min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share), num
    )


def bootstrap_mean(
    values_P: ArrayLike, seed: int, num_resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Mean of the known values with a percentile bootstrap interval; NaN is left out of `num`.

    The order of the values does not matter. No known value gives NaN throughout; a single one gives
    an interval of no width, which `num` exposes.

    Raises:
        ConfigError: `level` is not between 0 and 1, or there are no resamples.
        DataError: a value is infinite.
    """
    _require_level(level)
    if num_resamples < 1:
        raise ConfigError(
            f"num_resamples is {num_resamples}; it must be at least 1 (2000 is usual)."
        )
    values_P = as_floats(values_P, "Values")
    values_P = np.sort(values_P[~np.isnan(values_P)])
    if not values_P.size:
        return Interval(nan, nan, nan, 0)
    means = _resampled_means(values_P, seed, num_resamples)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(values_P.mean()), float(low), float(high), values_P.size)


def bootstrap_difference(
    a_P: ArrayLike, b_P: ArrayLike, seed: int, num_resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Mean of a - b over the prompts known in both, paired by prompt, with its interval.

    Raises:
        ConfigError: as in `bootstrap_mean`.
        DataError: the two do not describe the same prompts, or a value is infinite.
    """
    a_P, b_P = as_floats(a_P, "Values"), as_floats(b_P, "Values")
    require_same_shape("Paired values", a_P, b_P)
    return bootstrap_mean(a_P - b_P, seed, num_resamples, level)


def _resampled_means(values_P: Floats, seed: int, num_resamples: int) -> Floats:
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // values_P.size)
    means: list[Floats] = []
    for start in range(0, num_resamples, rows):
        shape = (min(rows, num_resamples - start), values_P.size)
        picks = rng.integers(0, values_P.size, size=shape, dtype=np.int32)
        means.append(values_P[picks].mean(axis=1))
    return np.concatenate(means)


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; it must lie between 0 and 1, 0.95 for 95 %.")
