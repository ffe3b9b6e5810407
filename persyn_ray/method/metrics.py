"""How good an assignment or a router is, against true rewards.

    Hit@k    a best teacher by reward is among the first k by score       share of prompts
    regret   oracle reward minus routed reward                            reward units, >= 0

Everything is given per prompt, NaN where unknown, so that callers can take means with intervals and
count the unknown. A router that only knows which teachers are good on average already reaches a
high Hit@3: report the best constant teacher beside it. Where many teachers are equally best, a draw
hits often: report `chance_at_k` beside Hit@k.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError
from persyn_ray.method.allocation import assign, best_teachers, shares
from persyn_ray.method.arrays import Floats, Integers, as_floats, mean_known, require_same_shape
from persyn_ray.method.rewards import Scaling, combine


def hit_at_k(scores_PM: ArrayLike, rewards_PM: ArrayLike, k: int) -> Floats:
    """Chance that a best teacher is among the first k by score, shape (P,), from 0 to 1.

    Any of several equally best teachers will do, so a prompt whose rewards are all equal is a sure
    hit. Equal scores at the k-th place are taken as drawn evenly (hence a chance, not 0 or 1). A
    teacher with a NaN score is never among the first; one with a NaN reward can fill a place but
    never be the best. NaN for a prompt with no known reward or no known score. k above M counts as
    M.

    Raises:
        ConfigError: k is below 1.
        DataError: shapes differ or a value is infinite.
    """
    if k < 1:
        raise ConfigError(f"Hit@{k} has no meaning: k must be at least 1.")
    scores_PM, rewards_PM = _both(scores_PM, rewards_PM)
    best_PM = best_teachers(rewards_PM)
    scored_PM = ~np.isnan(scores_PM)
    open_PM = np.where(scored_PM, scores_PM, -np.inf)
    k = min(k, open_PM.shape[1])
    last_P1 = -np.sort(-open_PM, axis=1)[:, k - 1, None]
    sure_PM = scored_PM & (open_PM > last_P1)
    tied_PM = scored_PM & (open_PM == last_P1)
    miss_P = _chance_of_none(
        num_tied_P=tied_PM.sum(axis=1),
        num_best_P=(tied_PM & best_PM).sum(axis=1),
        num_places_P=k - sure_PM.sum(axis=1),
    )
    hit_P = np.where((sure_PM & best_PM).any(axis=1), 1.0, 1.0 - miss_P)
    return np.where(best_PM.any(axis=1) & scored_PM.any(axis=1), hit_P, np.nan)


def chance_at_k(rewards_PM: ArrayLike, k: int, candidates_PM: ArrayLike | None = None) -> Floats:
    """Hit@k of k teachers drawn evenly among the candidates without return, shape (P,).

    With c candidates of which b are best, 1 - C(c - k, b) / C(c, b): ties raise it, and a candidate
    without a reward can be drawn and never hits. NaN for a prompt with no known reward or no
    candidate.

    Raises:
        ConfigError: k is below 1.
        DataError: shapes differ or a reward is infinite.
    """
    rewards_PM = as_floats(rewards_PM, "Rewards")
    if candidates_PM is None:
        return hit_at_k(np.zeros_like(rewards_PM), rewards_PM, k)
    candidates_PM = np.asarray(candidates_PM, dtype=np.bool_)
    return hit_at_k(np.where(candidates_PM, 0.0, np.nan), rewards_PM, k)


def hits(rewards_PM: ArrayLike, teacher_P: ArrayLike) -> Floats:
    """Whether the assigned teacher is a best one (1 or 0), shape (P,).

    As in `hit_at_k`, a teacher without a reward is no hit. NaN where no reward is known or nobody
    is assigned.
    """
    rewards_PM = as_floats(rewards_PM, "Rewards")
    teacher_P = np.asarray(teacher_P, dtype=np.int64)
    best_PM = best_teachers(rewards_PM)
    hits_P = np.take_along_axis(best_PM, np.maximum(teacher_P, 0)[:, None], axis=1)[:, 0]
    return np.where(best_PM.any(axis=1) & (teacher_P >= 0), hits_P.astype(np.float64), np.nan)


def routed_reward(rewards_PM: ArrayLike, teacher_P: ArrayLike) -> Floats:
    """Reward of the assigned teacher, shape (P,); NaN if unknown or nobody is assigned."""
    rewards_PM = as_floats(rewards_PM, "Rewards")
    teacher_P = np.asarray(teacher_P, dtype=np.int64)
    routed_P = np.take_along_axis(rewards_PM, np.maximum(teacher_P, 0)[:, None], axis=1)[:, 0]
    return np.where(teacher_P >= 0, routed_P, np.nan)


def regret(rewards_PM: ArrayLike, teacher_P: ArrayLike) -> Floats:
    """Best known reward minus routed reward, shape (P,), >= 0; NaN if the routed one is unknown."""
    rewards_PM = as_floats(rewards_PM, "Rewards")
    routed_P = routed_reward(rewards_PM, teacher_P)
    known_P = ~np.isnan(routed_P)
    regret_P = np.full(len(rewards_PM), np.nan)
    # A known routed reward implies a known maximum, so nanmax never meets an all-NaN row.
    regret_P[known_P] = np.nanmax(rewards_PM[known_P], axis=1, initial=-np.inf) - routed_P[known_P]
    return regret_P


def pairwise_accuracy(scores_PM: ArrayLike, rewards_PM: ArrayLike) -> tuple[Floats, Integers]:
    """Pairs the scores put in the right order, and pairs there are, per prompt; both of shape (P,).

    A pair counts if its rewards are known and differ and its scores are known; equal scores count
    half. Accuracy over a set is the sum of the first over the sum of the second.

    Raises:
        DataError: shapes differ or a value is infinite.
    """
    scores_PM, rewards_PM = _both(scores_PM, rewards_PM)
    correct_P = np.zeros(len(scores_PM))
    pairs_P = np.zeros(len(scores_PM), dtype=np.int64)
    for position in range(1, scores_PM.shape[1]):
        by_reward_PM = np.sign(rewards_PM[:, :position] - rewards_PM[:, position, None])
        by_score_PM = np.sign(scores_PM[:, :position] - scores_PM[:, position, None])
        product_PM = by_reward_PM * by_score_PM  # 1 right, 0 scores equal, -1 wrong, NaN unknown
        counted_PM = ~np.isnan(product_PM) & (by_reward_PM != 0)
        correct_P += np.where(counted_PM, 0.5 * (1 + product_PM), 0.0).sum(axis=1)
        pairs_P += counted_PM.sum(axis=1)
    return correct_P, pairs_P


def agreement(a_P: ArrayLike, b_P: ArrayLike) -> float:
    """Share of prompts that two assignments give to the same teacher; NaN if none is in both."""
    a_P, b_P = np.asarray(a_P, dtype=np.int64), np.asarray(b_P, dtype=np.int64)
    require_same_shape("Two assignments", a_P, b_P)
    return mean_known(np.where((a_P >= 0) & (b_P >= 0), (a_P == b_P).astype(np.float64), np.nan))


@dataclass(frozen=True, eq=False)
class AlphaSweep:
    """The oracle's choice as alpha grows; raw units for the two means."""

    reference_alpha: float
    alphas_A: Floats
    shares_AM: Floats
    agreement_A: Floats  # share of prompts with the same teacher as at the reference
    mean_quality_A: Floats  # of the chosen, on quality's own scale
    mean_learnability_A: Floats  # of the chosen, nats per token


def alpha_sweep(
    quality_PM: ArrayLike,
    learnability_PM: ArrayLike,
    alphas: Sequence[float],
    scaling: Scaling,
    tie_breaks_PM: ArrayLike,
    reference_alpha: float = 0.4,
) -> AlphaSweep:
    """Follow the oracle over values of alpha on signals that were measured once.

    Raises:
        ConfigError: an alpha lies outside 0 to 1, or the scaling is unknown.
        DataError: shapes differ or a value is infinite.
    """
    quality_PM = as_floats(quality_PM, "Qualities")
    learnability_PM = as_floats(learnability_PM, "Learnabilities")

    def chosen(alpha: float) -> Integers:
        return assign(combine(quality_PM, learnability_PM, alpha, scaling), tie_breaks_PM)[0]

    reference_P = chosen(reference_alpha)
    teacher_AP = [chosen(alpha) for alpha in alphas]
    return AlphaSweep(
        reference_alpha=reference_alpha,
        alphas_A=np.array(alphas, dtype=np.float64),
        shares_AM=np.array([shares(teacher_P, quality_PM.shape[1]) for teacher_P in teacher_AP]),
        agreement_A=np.array([agreement(teacher_P, reference_P) for teacher_P in teacher_AP]),
        mean_quality_A=np.array([mean_known(routed_reward(quality_PM, t)) for t in teacher_AP]),
        mean_learnability_A=np.array(
            [mean_known(routed_reward(learnability_PM, t)) for t in teacher_AP]
        ),
    )


def _both(scores_PM: ArrayLike, rewards_PM: ArrayLike) -> tuple[Floats, Floats]:
    scores_PM, rewards_PM = as_floats(scores_PM, "Scores"), as_floats(rewards_PM, "Rewards")
    require_same_shape("Scores and rewards", scores_PM, rewards_PM)
    return scores_PM, rewards_PM


def _chance_of_none(num_tied_P: Integers, num_best_P: Integers, num_places_P: Integers) -> Floats:
    """C(tied - places, best) / C(tied, best): no best one among the tied gets one of the places."""
    chance_P = np.ones(len(num_tied_P))
    for step in range(int(num_best_P.max(initial=0))):
        left_P = np.maximum(num_tied_P - num_places_P - step, 0)
        factor_P = left_P / np.maximum(num_tied_P - step, 1)
        chance_P = np.where(step < num_best_P, chance_P * factor_P, chance_P)
    return chance_P
