"""Learnability: how likely a response is under the student, per token (Eq. 1).

    r_l(y) = 1/|y| * sum over t of log p(y_t | y_<t, x)         nats per token, <= 0

The forward pass that yields the log-probabilities lives in `models/`; which tokens belong to the
response is decided there too, by the same mask that fine-tuning uses.
"""

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import Floats

# Half-precision softmaxes round a certain token to a hair above log 1.
ROUNDING = 1e-6


def mean_log_likelihood(logprobs_BT: ArrayLike, mask_BT: ArrayLike) -> Floats:
    """Mean log-probability of each row's response tokens, in nats per token; shape (B,) (Eq. 1).

    A row without response tokens is NaN. What lies outside the mask is not looked at.

    Raises:
        DataError: shapes differ, or a log-probability inside the mask is NaN, infinite or positive.
    """
    logprobs_BT = np.asarray(logprobs_BT, dtype=np.float64)
    mask_BT = np.asarray(mask_BT, dtype=np.bool_)
    if logprobs_BT.shape != mask_BT.shape or logprobs_BT.ndim != 2:
        raise DataError(
            f"Log-probabilities {logprobs_BT.shape} and mask {mask_BT.shape} must be alike, "
            "batch by tokens."
        )
    _require_logprobs(logprobs_BT[mask_BT])
    num_tokens_B = mask_BT.sum(axis=1)
    totals_B = np.where(mask_BT, np.minimum(logprobs_BT, 0.0), 0.0).sum(axis=1)
    return np.where(num_tokens_B > 0, totals_B / np.maximum(num_tokens_B, 1), np.nan)


def _require_logprobs(logprobs: Floats) -> None:
    unusable = logprobs[~np.isfinite(logprobs)]
    if unusable.size:
        raise DataError(
            f"{unusable.size} log-probabilities of response tokens are not finite (first: "
            f"{unusable[0]}); the student's forward pass overflowed: try scoring in float32."
        )
    if logprobs.size and logprobs.max() > ROUNDING:
        raise DataError(
            f"A log-probability of {logprobs.max():.6g} is above 0; give log-probabilities, "
            "not logits, probabilities or losses."
        )
