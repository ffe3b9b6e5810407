"""Preferences: which teacher beats which on a prompt, read off the rewards.

All unordered pairs of a prompt count, each once: 19 teachers make 171 pairs. Exactly equal rewards
make no pair (`drop`) or half a win for either side (`half`); a teacher without a reward is in no
pair.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError
from persyn_ray.method.arrays import Floats, as_floats

Ties = Literal["drop", "half"]


@dataclass(frozen=True)
class PreferenceCounts:
    """What the rewards gave to learn from."""

    num_pairs: int  # pairs with a winner
    num_ties: int  # pairs of exactly equal rewards
    num_null_teachers: int  # rewards that are unknown, over all prompts
    num_prompts_without_pairs: int  # prompts on which no teacher beats another


def preferences(rewards_PM: ArrayLike, ties: Ties = "drop") -> Floats:
    """Win weights, shape (P, M, M): [p, i, j] is 1 where i beats j on p, 0.5 for a tie at `half`.

    Every pair that counts has total weight 1 over its two entries, every other pair 0.

    Raises:
        ConfigError: `ties` is neither drop nor half.
        DataError: a reward is infinite.
    """
    if ties not in ("drop", "half"):
        raise ConfigError(f"ties {ties!r} is unknown: it is drop or half.")
    rewards_PM = as_floats(rewards_PM, "Rewards")
    first_PM1, second_P1M = rewards_PM[:, :, None], rewards_PM[:, None, :]
    wins_PMM = (first_PM1 > second_P1M).astype(np.float64)
    if ties == "half":
        itself_MM = np.eye(rewards_PM.shape[1], dtype=np.bool_)
        wins_PMM[(first_PM1 == second_P1M) & ~itself_MM] = 0.5
    return wins_PMM


def count_preferences(rewards_PM: ArrayLike) -> PreferenceCounts:
    """Count pairs, ties and unknown rewards without building the (P, M, M) array.

    Raises:
        DataError: a reward is infinite.
    """
    rewards_PM = as_floats(rewards_PM, "Rewards")
    pairs_P = np.zeros(len(rewards_PM), dtype=np.int64)
    num_ties = 0
    for position in range(1, rewards_PM.shape[1]):
        earlier_PM, later_P1 = rewards_PM[:, :position], rewards_PM[:, position, None]
        pairs_P += ((earlier_PM > later_P1) | (earlier_PM < later_P1)).sum(axis=1)
        num_ties += int((earlier_PM == later_P1).sum())
    return PreferenceCounts(
        num_pairs=int(pairs_P.sum()),
        num_ties=num_ties,
        num_null_teachers=int(np.isnan(rewards_PM).sum()),
        num_prompts_without_pairs=int((pairs_P == 0).sum()),
    )
