"""Compares two scoring backends: differences of scores and of the choices they lead to.

Half precision, fused kernels and other engines move log-probabilities a little. What matters to
routing is the order of responses to the same prompt: a flip is a pair of them that changes places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import DataError


@dataclass(frozen=True)
class Parity:
    """A way to score beside its reference, over the same responses."""

    mean_gap: float
    """Mean absolute difference of a token's log-probability, nats."""
    max_gap: float
    """Largest such difference, nats."""
    num_tokens: int
    num_pairs: int
    """Pairs of responses to the same prompt that the reference puts in an order."""
    num_flips: int
    """Those of them that are in another order, or in none."""


def compare(
    reference: Sequence[ArrayLike], other: Sequence[ArrayLike], prompts: Sequence[str]
) -> Parity:
    """Parity of log-probabilities per token, one array (T,) for each response.

    Args:
        prompts: the prompt that each response answers.

    Raises:
        DataError: responses or their tokens do not match.
    """
    if not len(reference) == len(other) == len(prompts):
        raise DataError(f"{len(reference)}, {len(other)}, {len(prompts)} responses do not match.")
    pairs = [
        (np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
        for a, b in zip(reference, other, strict=True)
    ]
    if not pairs or any(a.shape != b.shape or not a.size for a, b in pairs):
        raise DataError("Responses to compare need tokens, and the same number from both.")
    gaps = np.concatenate([np.abs(a - b) for a, b in pairs])
    means = [(float(a.mean()), float(b.mean())) for a, b in pairs]
    num_pairs, num_flips = _flips(means, prompts)
    return Parity(
        mean_gap=float(gaps.mean()),
        max_gap=float(gaps.max()),
        num_tokens=int(gaps.size),
        num_pairs=num_pairs,
        num_flips=num_flips,
    )


def _flips(means: Sequence[tuple[float, float]], prompts: Sequence[str]) -> tuple[int, int]:
    of_prompt: dict[str, list[tuple[float, float]]] = {}
    for prompt, mean in zip(prompts, means, strict=True):
        of_prompt.setdefault(prompt, []).append(mean)
    num_pairs = num_flips = 0
    for rows in of_prompt.values():
        for (a, x), (b, y) in combinations(rows, 2):
            num_pairs += a != b
            num_flips += a != b and (a - b) * (x - y) <= 0
    return num_pairs, num_flips
