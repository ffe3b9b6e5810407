"""Learnability: how well a response suits the student, from its forward pass over the response.

    log_likelihood        1/|y| * sum over t of log p(y_t | y_<t, x)           (Eq. 1; the paper's)
    local_log_likelihood  the same of each window given only the few tokens before it, averaged over
                          windows (Local Naturalness, arXiv 2510.03988)
    lowest_window         the mean log-likelihood of the least likely stretch of the response
    rank_surprisal        mean rank of the tokens, each at most 100, over their mean surprisal
                          (Rank-Surprisal Ratio, arXiv 2601.14249); small is good
    entropy               mean entropy of the student's predictions; small is good

Likelihoods, surprisal and entropy are in nats per token. Measures are stored as they are defined;
`as_learnability` turns those of which little is good, so that more learnability is always better.
The forward pass lives in `models/`; which tokens belong to the response is decided there too, by
the same mask that fine-tuning uses.
"""

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import Floats

# Half-precision softmaxes round a certain token to a hair above log 1.
ROUNDING = 1e-4
RANK_CAP = 100
"""Ranks beyond count as this one (arXiv 2601.14249)."""
STRETCH = 32
"""Tokens of the stretch that `lowest_window` looks for."""
SMALL_IS_GOOD = frozenset({"rank_surprisal", "entropy"})


def mean_log_likelihood(log_probs_T: ArrayLike) -> float:
    """Mean log-probability of a response's tokens, nats per token (Eq. 1); NaN without tokens.

    Raises:
        DataError: a log-probability is NaN, infinite or positive.
    """
    log_probs_T = _log_probs(log_probs_T)
    return float(log_probs_T.mean()) if log_probs_T.size else np.nan


def lowest_window(log_probs_T: ArrayLike, size: int = STRETCH) -> float:
    """Mean log-probability of the least likely stretch of `size` tokens, nats per token.

    A response that is shorter is its own stretch; NaN without tokens.

    Raises:
        DataError: a log-probability is NaN, infinite or positive.
    """
    log_probs_T = _log_probs(log_probs_T)
    if log_probs_T.size <= size:
        return mean_log_likelihood(log_probs_T)
    return float(_window_means(log_probs_T, size).min())


def lowest_stretch(log_probs_T: ArrayLike, size: int = STRETCH) -> tuple[int, int]:
    """Where that stretch begins and ends, in tokens of the response; the first of several.

    Raises:
        DataError: a log-probability is NaN, infinite or positive.
    """
    log_probs_T = _log_probs(log_probs_T)
    if log_probs_T.size <= size:
        return 0, log_probs_T.size
    start = int(_window_means(log_probs_T, size).argmin())
    return start, start + size


def rank_surprisal(log_probs_T: ArrayLike, ranks_T: ArrayLike) -> float:
    """Mean rank, capped, over mean surprisal; NaN without tokens or without any surprise.

    Raises:
        DataError: a log-probability is unusable, a rank is below 1, or there are not as many.
    """
    log_probs_T, ranks_T = _log_probs(log_probs_T), np.asarray(ranks_T, dtype=np.float64)
    if ranks_T.shape != log_probs_T.shape or (ranks_T < 1).any():
        raise DataError(
            f"Ranks {ranks_T.shape} must be from 1 on, one for each of {log_probs_T.size} tokens."
        )
    surprisal = -log_probs_T.sum()
    return float(np.minimum(ranks_T, RANK_CAP).sum() / surprisal) if surprisal > 0 else np.nan


def local_windows(num_tokens: int, size: int) -> list[tuple[int, int, int]]:
    """Where each window of a response of so many tokens begins and ends, and its context begins.

    The first window has no context in the response; it is read behind the end of the prompt.
    """
    return [
        (start, min(start + size, num_tokens), max(0, start - size))
        for start in range(0, num_tokens, size)
    ]


def as_learnability(values: ArrayLike, measure: str) -> Floats:
    """A stored measure so that more is better; NaN stays NaN."""
    values = np.asarray(values, dtype=np.float64)
    return -values if measure in SMALL_IS_GOOD else values


def _window_means(log_probs_T: Floats, size: int) -> Floats:
    """Of every stretch of `size` tokens, from the first on."""
    return np.lib.stride_tricks.sliding_window_view(log_probs_T, size).mean(axis=1)


def _log_probs(log_probs_T: ArrayLike) -> Floats:
    log_probs_T = np.asarray(log_probs_T, dtype=np.float64)
    unusable = log_probs_T[~np.isfinite(log_probs_T)]
    if unusable.size:
        raise DataError(
            f"{unusable.size} log-probabilities of response tokens are not finite (first: "
            f"{unusable[0]}); the student's forward pass overflowed: try scoring in float32."
        )
    if log_probs_T.size and log_probs_T.max() > ROUNDING:
        raise DataError(
            f"A log-probability of {log_probs_T.max():.6g} is above 0; give log-probabilities, "
            "not logits, probabilities or losses."
        )
    return np.minimum(log_probs_T, 0.0)
