"""Bradley-Terry: from one number a teacher to the probability that one beats another (Eq. 3 and 4).

    P(i beats j) = sigma(o_i - o_j)                                                  (Eq. 3)
    loss = - sum over pairs of wins_ij * log sigma(o_i - o_j) / sum of wins          (Eq. 4)

This is the reference form. The router's loss in torch must give the same numbers; it lives in
`models/`.
"""

from collections.abc import Callable
from math import log, nan
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import Floats, Integers, as_floats, require_same_shape

# Router logits are of order 1: a temperature this far off says that there is no best one.
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e3


def pair_probabilities(logits_PM: ArrayLike) -> Floats:
    """P(i beats j) on each prompt, shape (P, M, M), stable at any margin (Eq. 3)."""
    margins_PMM = _margins(as_floats(logits_PM, "Logits"))
    return np.exp(-np.logaddexp(0.0, -margins_PMM))


def negative_log_likelihood(logits_PM: ArrayLike, wins_PMM: ArrayLike) -> float:
    """Mean loss over the pairs that count, in nats per pair (Eq. 4); NaN when there is no pair.

    Raises:
        DataError: shapes do not fit, a win weight is negative, or a logit in a pair is NaN.
    """
    margins_PMM = _margins(as_floats(logits_PM, "Logits"))
    wins_PMM = as_floats(wins_PMM, "Win weights")
    if margins_PMM.shape != wins_PMM.shape:
        raise DataError(f"Logits make pairs {margins_PMM.shape}, wins are {wins_PMM.shape}.")
    _require_weights(wins_PMM)
    counted_PMM = wins_PMM > 0
    margins, weights = margins_PMM[counted_PMM], wins_PMM[counted_PMM]
    if np.isnan(margins).any():
        raise DataError("A teacher that takes part in a pair has a NaN logit.")
    if not weights.size:
        return float("nan")
    return float((weights * np.logaddexp(0.0, -margins)).sum() / weights.sum())


def pair_outcomes(logits_PM: ArrayLike, rewards_PM: ArrayLike) -> tuple[Floats, Floats, Integers]:
    """Margins >= 0 in logits, whether the claim won (1 or 0), and the prompt's row; shapes (N,).

    A pair counts if its logits are known and its rewards known and different. Where the logits are
    equal nothing is claimed, and won is 0.5. Pairs are in the order of prompts.

    Raises:
        DataError: shapes differ or a value is infinite.
    """
    logits_PM, rewards_PM = as_floats(logits_PM, "Logits"), as_floats(rewards_PM, "Rewards")
    require_same_shape("Logits and rewards", logits_PM, rewards_PM)
    first, second = np.triu_indices(logits_PM.shape[1], k=1)
    margins = logits_PM[:, first] - logits_PM[:, second]
    # 1 as claimed, -1 the other way round, 0 nothing claimed, NaN unknown
    signs = np.sign(margins) * np.sign(rewards_PM[:, first] - rewards_PM[:, second])
    counted = ~np.isnan(signs) & (rewards_PM[:, first] != rewards_PM[:, second])
    prompt_row_N = np.nonzero(counted)[0]
    return np.abs(margins[counted]), 0.5 * (1 + signs[counted]), prompt_row_N


def fit_temperature(logits_PM: ArrayLike, rewards_PM: ArrayLike) -> float:
    """The temperature T with the least loss of sigmoid(margin / T) over the pairs.

    Where the claims always hold, any colder one is better, and it is MIN_TEMPERATURE; where bold
    claims hold no more often than they fail, it is MAX_TEMPERATURE. Where all margins are 0 every
    one fits, and it is 1. NaN without any pair.

    Raises:
        DataError: shapes differ or a value is infinite.
    """
    # Slow to import, only this function needs it, and it carries no types.
    from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

    brentq = cast(Callable[..., Any], optimize.brentq)  # pyright: ignore[reportUnknownMemberType]
    margins_N, won_N, _ = pair_outcomes(logits_PM, rewards_PM)
    if not margins_N.size:
        return nan
    if not margins_N.any():
        return 1.0

    def slope(log_temperature: float) -> float:
        """Of the loss against 1 / T, in which it is convex: so there is one root at most."""
        claimed_N = sigmoid(margins_N / np.exp(log_temperature))
        return float((margins_N * (claimed_N - won_N)).mean())

    coldest, hottest = log(MIN_TEMPERATURE), log(MAX_TEMPERATURE)
    if slope(hottest) >= 0:
        return MAX_TEMPERATURE
    if slope(coldest) <= 0:
        return MIN_TEMPERATURE
    return float(np.exp(brentq(slope, coldest, hottest, xtol=1e-10)))


def ratings(wins_MM: ArrayLike, l2: float = 1e-6) -> Floats:
    """One rating a teacher over a whole set of prompts, shape (M,), mean zero, in logits.

    Minimises Eq. 4 + l2/2 * |o|^2; the small l2 keeps a teacher finite that never lost. wins_MM[i,
    j] is how often i beat j. A teacher that met nobody is NaN. Groups of teachers that never met
    one another are each centred by the l2 term: differences between such groups carry no evidence.

    Raises:
        DataError: the matrix is not square, or a weight is negative, NaN or infinite.
    """
    wins_MM = as_floats(wins_MM, "Win weights").copy()
    if wins_MM.ndim != 2 or wins_MM.shape[0] != wins_MM.shape[1]:
        raise DataError(f"Wins must be teachers by teachers; found the shape {wins_MM.shape}.")
    _require_weights(wins_MM)
    np.fill_diagonal(wins_MM, 0.0)  # a teacher against itself says nothing
    met_M = (wins_MM + wins_MM.T).sum(axis=1) > 0
    ratings_M = np.full(len(wins_MM), np.nan)
    if met_M.any():
        fitted = _fit(wins_MM[np.ix_(met_M, met_M)], l2)
        ratings_M[met_M] = fitted - fitted.mean()
    return ratings_M


def sigmoid(margins_N: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-margins_N))  # margins are never negative, so nothing overflows


def _fit(wins_MM: Floats, l2: float) -> Floats:
    # Slow to import, only this function needs it, and it carries no types.
    from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

    minimize = cast(Callable[..., Any], optimize.minimize)  # pyright: ignore[reportUnknownMemberType]
    weights_MM = wins_MM / wins_MM.sum()

    def loss_and_slope(ratings_M: Floats) -> tuple[float, Floats]:
        margins_MM = _margins(ratings_M[None])[0]
        losses_MM = np.logaddexp(0.0, -margins_MM)
        surprise_MM = weights_MM * -np.expm1(-losses_MM)  # weight * (1 - sigma)
        slope_M = surprise_MM.sum(axis=0) - surprise_MM.sum(axis=1) + l2 * ratings_M
        loss = (weights_MM * losses_MM).sum() + 0.5 * l2 * (ratings_M**2).sum()
        return float(loss), slope_M

    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-10}
    start_M = np.zeros(len(wins_MM))
    found = minimize(loss_and_slope, start_M, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x, dtype=np.float64)


def _margins(logits_PM: Floats) -> Floats:
    return logits_PM[:, :, None] - logits_PM[:, None, :]


def _require_weights(wins: Floats) -> None:
    if not (wins >= 0).all():
        raise DataError("Win weights must be 0 or more and known; make them with preferences().")
