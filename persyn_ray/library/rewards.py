"""Rewards (Eq. 2) for Python: quality and learnability of responses in, one number for each out."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persyn_ray.errors import DataError
from persyn_ray.method.rewards import Scaling, combine


def rewards(
    quality: ArrayLike, learnability: ArrayLike, alpha: ArrayLike = 0.4, scaling: Scaling = "minmax"
) -> NDArray[np.float64]:
    """The reward of every response: `(1 - alpha) * quality + alpha * learnability` (Eq. 2).

    Both signals are first put on one scale within each prompt, over the teachers that have both.

    Args:
        quality: shape (prompts, teachers), more is better, on any scale; NaN where unknown.
        learnability: shape (prompts, teachers), mean log-likelihood under the student in nats per
            token, as `Likelihood` gives it; NaN where unknown.
        alpha: weight of learnability from 0 to 1 (the paper: 0.4), or one for each prompt.
        scaling: minmax (0 worst, 1 best), zscore, rank or none.

    Returns:
        Shape (prompts, teachers), in scaled units; NaN where a signal that counts is unknown.

    Raises:
        ConfigError: an alpha lies outside 0 to 1, or the scaling is unknown.
        DataError: shapes differ, there are not two axes, or a value is infinite.
    """
    shape = np.shape(quality)
    if len(shape) != 2:
        raise DataError(f"Qualities have shape {shape}; it must be (prompts, teachers).")
    return combine(quality, learnability, alpha, scaling)
