"""The reward of a response: quality and learnability on one scale, mixed by alpha (Eq. 2).

    r = (1 - alpha) * quality + alpha * learnability

Both signals are first scaled within a prompt, over the teachers that have both: a reward model's
logit and nats per token share no unit, so without scaling alpha would mean something else for every
student. With 0/1 quality and `minmax`, any right response outranks any wrong one exactly while
alpha < 0.5.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.arrays import Booleans, Floats, as_floats, require_same_shape

Scaling = Literal["minmax", "zscore", "rank", "none"]


def scale_within_prompt(values_PM: ArrayLike, scaling: Scaling) -> Floats:
    """Put each prompt's known values on one scale; NaN stays NaN and enters no statistic.

    minmax: from 0 (worst) to 1 (best). zscore: mean 0, standard deviation 1 (over n, not n - 1).
    rank: average ranks from 0 to 1. none: unchanged. A prompt whose known values are all equal, or
    that has only one, says nothing about its teachers and becomes 0 throughout (except for `none`).

    Raises:
        ConfigError: `scaling` is none of the four.
        DataError: a value is infinite.
    """
    values_PM = as_floats(values_PM, "Values to scale")
    if scaling == "none":
        return values_PM.copy()
    if scaling == "minmax":
        return _minmax(values_PM)
    if scaling == "zscore":
        return _zscore(values_PM)
    if scaling == "rank":
        return _rank(values_PM)
    raise ConfigError(f"scaling {scaling!r} is unknown: it is minmax, zscore, rank or none.")


def combine(
    quality_PM: ArrayLike, learnability_PM: ArrayLike, alpha: ArrayLike, scaling: Scaling = "minmax"
) -> Floats:
    """Rewards, shape (P, M), in scaled units (Eq. 2); NaN where a signal that counts is unknown.

    A signal of weight 0 (learnability at alpha 0, quality at alpha 1) does not count: its unknowns
    cost no reward.

    Args:
        alpha: one weight of learnability for all prompts, or one a prompt, shape (P,).

    Raises:
        ConfigError: an alpha lies outside 0 to 1, or the scaling is unknown.
        DataError: shapes differ or a value is infinite.
    """
    alpha_P1 = np.asarray(alpha, dtype=np.float64)[..., None]
    if not ((alpha_P1 >= 0) & (alpha_P1 <= 1)).all():
        raise ConfigError(f"alpha is {alpha}; it must lie from 0 to 1.")
    quality_PM = as_floats(quality_PM, "Qualities")
    learnability_PM = as_floats(learnability_PM, "Learnabilities")
    require_same_shape("Quality and learnability", quality_PM, learnability_PM)
    if (alpha_P1 == 0).all():
        return scale_within_prompt(quality_PM, scaling)
    if (alpha_P1 == 1).all():
        return scale_within_prompt(learnability_PM, scaling)
    unknown_PM = np.isnan(quality_PM) | np.isnan(learnability_PM)
    quality_PM = scale_within_prompt(np.where(unknown_PM, np.nan, quality_PM), scaling)
    learnability_PM = scale_within_prompt(np.where(unknown_PM, np.nan, learnability_PM), scaling)
    return (1 - alpha_P1) * quality_PM + alpha_P1 * learnability_PM


def alpha_by_difficulty(quality_PM: ArrayLike, hard: float, easy: float) -> Floats:
    """An alpha for each prompt, shape (P,), by how many of its teachers are right.

        alpha_p = hard + (easy - hard) * share of the known responses that are correct

    Where nobody is right alpha is `hard`, where all are `easy`. Unknown throughout counts as half.

    Raises:
        DataError: a quality is neither 0 nor 1, so that no response can be called correct.
    """
    quality_PM = as_floats(quality_PM, "Qualities")
    known_PM = ~np.isnan(quality_PM)
    if not np.isin(quality_PM[known_PM], (0.0, 1.0)).all():
        raise DataError("Alpha by difficulty needs qualities of 0 or 1.")
    num_known_P = known_PM.sum(axis=1)
    correct_P = np.where(known_PM, quality_PM, 0.0).sum(axis=1)
    share_P = np.where(num_known_P > 0, correct_P / np.maximum(num_known_P, 1), 0.5)
    return hard + (easy - hard) * share_P


def _minmax(values_PM: Floats) -> Floats:
    known_PM = ~np.isnan(values_PM)
    lowest_P1 = np.min(values_PM, axis=1, where=known_PM, initial=np.inf, keepdims=True)
    highest_P1 = np.max(values_PM, axis=1, where=known_PM, initial=-np.inf, keepdims=True)
    flat_P1 = ~(highest_P1 > lowest_P1)
    lowest_P1 = np.where(flat_P1, 0.0, lowest_P1)
    spread_P1 = np.where(flat_P1, 1.0, highest_P1 - lowest_P1)
    return _zero_where_flat((values_PM - lowest_P1) / spread_P1, flat_P1)


def _zscore(values_PM: Floats) -> Floats:
    """Standardise the min-max form: the same numbers, without underflow of tiny squares."""
    values_PM = _minmax(values_PM)
    # Sums run over sorted values, so that no bit depends on the order of the teachers.
    known_P1 = np.maximum((~np.isnan(values_PM)).sum(axis=1, keepdims=True), 1)
    mean_P1 = np.nansum(np.sort(values_PM, axis=1), axis=1, keepdims=True) / known_P1
    squares_PM = np.sort((values_PM - mean_P1) ** 2, axis=1)
    deviation_P1 = np.sqrt(np.nansum(squares_PM, axis=1, keepdims=True) / known_P1)
    flat_P1 = deviation_P1 == 0
    scaled_PM = (values_PM - mean_P1) / np.where(flat_P1, 1.0, deviation_P1)
    return _zero_where_flat(scaled_PM, flat_P1)


def _rank(values_PM: Floats) -> Floats:
    """Share of the other known teachers beaten, an equal one counting half."""
    beaten_PM = np.zeros_like(values_PM)
    for values_P in values_PM.T:
        beaten_PM += values_P[:, None] < values_PM
        beaten_PM += 0.5 * (values_P[:, None] == values_PM)
    known_P1 = (~np.isnan(values_PM)).sum(axis=1, keepdims=True)
    rank_PM = (beaten_PM - 0.5) / np.maximum(known_P1 - 1, 1)  # less the tie with oneself
    flat_P1 = np.all((rank_PM == 0.5) | np.isnan(values_PM), axis=1, keepdims=True)
    rank_PM = np.where(np.isnan(values_PM), np.nan, rank_PM)
    return _zero_where_flat(rank_PM, flat_P1)


def _zero_where_flat(values_PM: Floats, flat_P1: Booleans) -> Floats:
    return np.where(flat_P1 & ~np.isnan(values_PM), 0.0, values_PM)
