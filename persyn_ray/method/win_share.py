"""Win share: how often a teacher is predicted to beat the others on a prompt.

    s[p, i] = mean over candidates j other than i of sigma(o_i - o_j)                     (Eq. 3)

Within a prompt it orders teachers as their logits do, and it is in [0, 1], so that prompts can be
weighed against one another: where teachers hardly differ, moving one costs little. It is no
probability to be the best of all. A lone candidate has 0.5, as against itself.
"""

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.method.arrays import Booleans, Floats, as_floats, require_same_shape


def win_shares(logits_PM: ArrayLike, candidates_PM: Booleans | None = None) -> Floats:
    """Mean chance to beat each other candidate, shape (P, M); NaN for who is none.

    A teacher with a NaN logit is no candidate.

    Raises:
        DataError: shapes differ or a logit is infinite.
    """
    logits_PM = as_floats(logits_PM, "Logits")
    able_PM = ~np.isnan(logits_PM)
    if candidates_PM is not None:
        require_same_shape("Logits and candidates", logits_PM, candidates_PM)
        able_PM &= candidates_PM
    open_PM = np.where(able_PM, logits_PM, 0.0)
    wins_PM = np.full(logits_PM.shape, -0.5)  # against itself, which the loop counts too
    for other in range(logits_PM.shape[1]):
        # sigma(x) = (1 + tanh(x / 2)) / 2 overflows nowhere.
        won_PM = 0.5 * (1.0 + np.tanh(0.5 * (open_PM - open_PM[:, other, None])))
        wins_PM += np.where(able_PM[:, other, None], won_PM, 0.0)
    others_P1 = able_PM.sum(axis=1, keepdims=True) - 1
    share_PM = np.where(others_P1 > 0, wins_PM / np.maximum(others_P1, 1), 0.5)
    return np.where(able_PM, share_PM, np.nan)
