"""Bradley-Terry: from one number a teacher to the probability that one beats another (Eq. 3 and 4).

    P(i beats j) = sigma(o_i - o_j)                                                  (Eq. 3)
    loss = - sum over pairs of wins_ij * log sigma(o_i - o_j) / sum of wins          (Eq. 4)

This is the reference form. The router's loss in torch must give the same numbers; it lives in
`models/`.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import Floats, as_floats


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
