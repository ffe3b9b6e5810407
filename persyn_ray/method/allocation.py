"""Allocation: from scores to one teacher a prompt, and how the prompts spread over the teachers.

    m*(p) = argmax over m of scores[p, m]

Among exactly equal scores a seeded draw decides, never the order of the teachers: with 0/1 quality
many prompts have several best teachers, and a fixed order would hand them all to whoever is listed
first. Nothing here balances load or weighs cost.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import Booleans, Floats, Integers, as_floats, require_same_shape

NOBODY = -1


def tie_breaks(prompt_ids: Sequence[str], teachers: Sequence[str], seed: int) -> Floats:
    """Uniform numbers in [0, 1), shape (P, M), fixed by (seed, prompt_id, teacher name) alone.

    So neither the order of rows nor that of teachers, nor who else is in the pool, changes a draw.
    """
    return draws(prompt_ids, teachers, seed, "tie")


def draws(prompt_ids: Sequence[str], teachers: Sequence[str], seed: int, purpose: str) -> Floats:
    """Uniform numbers as in `tie_breaks`; another purpose (up to 16 bytes) gives unrelated ones."""
    keys_P = _keys(prompt_ids, seed, purpose)
    keys_M = _keys(teachers, seed, purpose)
    # Hashing all P * M pairs takes seconds; mixing a hash per prompt with one per teacher does not.
    mixed_PM = _mix(_mix(keys_P)[:, None] + keys_M[None, :])
    return (mixed_PM >> np.uint64(11)).astype(np.float64) * 2.0**-53


def assign(
    scores_PM: ArrayLike, tie_breaks_PM: ArrayLike, candidates_PM: ArrayLike | None = None
) -> tuple[Integers, Floats]:
    """The best candidate of each prompt and its margin to the runner-up; two arrays of shape (P,).

    A teacher with a NaN score is no candidate; a prompt without candidates gets -1. The margin is
    in the unit of the scores, 0 for a tie, NaN with fewer than two candidates.

    Raises:
        DataError: shapes differ or a score is infinite.
    """
    scores_PM = as_floats(scores_PM, "Scores")
    tie_breaks_PM = as_floats(tie_breaks_PM, "Tie breaks")
    require_same_shape("Scores and tie breaks", scores_PM, tie_breaks_PM)
    allowed_PM = _allowed(scores_PM, candidates_PM)
    open_PM = np.where(allowed_PM, scores_PM, -np.inf)
    best_P1 = open_PM.max(axis=1, keepdims=True)
    best_PM = allowed_PM & (open_PM == best_P1)
    chosen_P = np.where(best_PM, tie_breaks_PM, -1.0).argmax(axis=1)
    num_allowed_P = allowed_PM.sum(axis=1)
    np.put_along_axis(open_PM, chosen_P[:, None], -np.inf, axis=1)
    margin_P = np.where(num_allowed_P >= 2, best_P1[:, 0], np.nan) - open_PM.max(axis=1)
    return np.where(num_allowed_P > 0, chosen_P, NOBODY).astype(np.int64), margin_P


def shares(teacher_P: ArrayLike, num_teachers: int) -> Floats:
    """Fraction of the assigned prompts given to each teacher, shape (M,); zeros if none is.

    Raises:
        DataError: a position lies outside the pool.
    """
    teacher_P = np.asarray(teacher_P, dtype=np.int64)
    outside = teacher_P[(teacher_P < NOBODY) | (teacher_P >= num_teachers)]
    if outside.size:
        raise DataError(f"Teacher {outside[0]} is outside a pool of {num_teachers} (-1 is nobody).")
    counts_M = np.bincount(teacher_P[teacher_P != NOBODY], minlength=num_teachers)
    return counts_M / max(int(counts_M.sum()), 1)


def oracle_probability(rewards_PM: ArrayLike) -> Floats:
    """Chance of each teacher to be the oracle's choice, shape (P, M): 1/n for n best equals.

    A prompt without any known reward has zeros.

    Raises:
        DataError: a reward is infinite.
    """
    rewards_PM = as_floats(rewards_PM, "Rewards")
    best_PM = best_teachers(rewards_PM)
    return best_PM / np.maximum(best_PM.sum(axis=1, keepdims=True), 1)


def best_teachers(rewards_PM: Floats) -> Booleans:
    """Which teachers have the highest known reward of their prompt, shape (P, M)."""
    known_PM = ~np.isnan(rewards_PM)
    highest_P1 = np.max(rewards_PM, axis=1, where=known_PM, initial=-np.inf, keepdims=True)
    return known_PM & (rewards_PM == highest_P1)


def _allowed(scores_PM: Floats, candidates_PM: ArrayLike | None) -> Booleans:
    allowed_PM = ~np.isnan(scores_PM)
    if candidates_PM is None:
        return allowed_PM
    candidates_PM = np.asarray(candidates_PM, dtype=np.bool_)
    require_same_shape("Scores and candidates", scores_PM, candidates_PM)
    return allowed_PM & candidates_PM


def _keys(names: Sequence[str], seed: int, purpose: str) -> NDArray[np.uint64]:
    key, person = str(seed).encode(), purpose.encode()
    digests = [
        blake2b(name.encode(), digest_size=8, key=key, person=person).digest() for name in names
    ]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _mix(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: a bijection in which every input bit moves every output bit."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))
