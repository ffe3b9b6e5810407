"""Baselines: other ways to fill the same assignment, so that every later step is shared.

Each returns one position a prompt, shape (P,), int64, -1 where no teacher is a candidate. The
oracle is a baseline whose scores are the true rewards: an upper reference for the router under the
same reward, not a promise about the tuned student.
"""

from collections.abc import Sequence
from math import fsum

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.allocation import assign, draws
from persyn_ray.method.arrays import Floats, Integers, as_floats, require_same_shape


def random_assignment(
    prompt_ids: Sequence[str],
    teachers: Sequence[str],
    seed: int,
    candidates_PM: ArrayLike | None = None,
) -> Integers:
    """A teacher drawn evenly among the candidates, by hash: free of row and teacher order.

    The draws are unrelated to those that break ties, or random routing would meet the oracle more
    often than chance wherever rewards are equal.
    """
    draws_PM = draws(prompt_ids, teachers, seed, "random")
    return assign(np.zeros_like(draws_PM), draws_PM, candidates_PM)[0]


def best_constant(parallel_rewards_PM: ArrayLike, teachers: Sequence[str], seed: int) -> int:
    """Position of the teacher with the best mean reward on the parallel set.

    Unknown rewards are left out of the mean. Rewards are scaled within a prompt, so a hard prompt
    costs a teacher little; but a mean over a handful of prompts wins by luck. A teacher is
    therefore eligible if it is known on at least half of the prompts on which anyone is; if none is
    that well known, all with a reward are. Equal means are decided by seed and name.

    Raises:
        DataError: no reward is known, one is infinite, or the names do not fit the columns.
    """
    rewards_PM = as_floats(parallel_rewards_PM, "Rewards")
    if rewards_PM.ndim != 2 or rewards_PM.shape[1] != len(teachers):
        raise DataError(f"Rewards {rewards_PM.shape} do not fit {len(teachers)} teachers.")
    known_PM = ~np.isnan(rewards_PM)
    num_known_M = known_PM.sum(axis=0)
    if not num_known_M.any():
        raise DataError("No reward of the parallel set is known; see the dead letters of `score`.")
    eligible_M = (num_known_M > 0) & (2 * num_known_M >= known_PM.any(axis=1).sum())
    if not eligible_M.any():
        eligible_M = num_known_M > 0
    means_M = np.full(len(teachers), np.nan)
    for position in np.flatnonzero(eligible_M):
        # fsum is exact, so equal means stay equal whatever the order of the prompts.
        total = fsum(rewards_PM[known_PM[:, position], position])
        means_M[position] = total / num_known_M[position]
    return best_of(means_M, teachers, seed)


def constant_assignment(
    index: int,
    num_prompts: int,
    candidates_PM: ArrayLike | None = None,
    fallback_scores_M: ArrayLike | None = None,
    tie_breaks_PM: ArrayLike | None = None,
) -> Integers:
    """One teacher for every prompt; where it is no candidate, the next best by the fallback scores.

    Without fallback scores such a prompt gets -1.

    Raises:
        DataError: shapes do not fit, or fallback scores are equal and no tie breaks are given.
    """
    if candidates_PM is None:
        return np.full(num_prompts, index, dtype=np.int64)
    candidates_PM = np.asarray(candidates_PM, dtype=np.bool_)
    if len(candidates_PM) != num_prompts or not 0 <= index < candidates_PM.shape[1]:
        raise DataError(
            f"Candidates {candidates_PM.shape} do not fit {num_prompts} prompts, teacher {index}."
        )
    wanted_P = np.full(num_prompts, index, dtype=np.int64)
    return served(wanted_P, candidates_PM, fallback_scores_M, tie_breaks_PM)


def served(
    wanted_P: Integers,
    candidates_PM: ArrayLike,
    fallback_scores_M: ArrayLike | None = None,
    tie_breaks_PM: ArrayLike | None = None,
) -> Integers:
    """The wanted teachers where they are candidates, elsewhere the best candidate by the fallback.

    Without fallback scores such a prompt gets -1.

    Raises:
        DataError: fallback scores are equal and no tie breaks are given.
    """
    candidates_PM = np.asarray(candidates_PM, dtype=np.bool_)
    served_P = np.take_along_axis(candidates_PM, wanted_P[:, None], axis=1)[:, 0]
    if fallback_scores_M is None:
        return np.where(served_P, wanted_P, -1).astype(np.int64)
    scores_PM = np.broadcast_to(as_floats(fallback_scores_M, "Scores"), candidates_PM.shape)
    if tie_breaks_PM is None:
        fallback_P, margin_P = assign(scores_PM, np.zeros_like(scores_PM), candidates_PM)
        if (~served_P & (margin_P == 0)).any():
            raise DataError(
                "Fallback scores are equal: give tie breaks, the order must not decide."
            )
    else:
        fallback_P, _ = assign(scores_PM, tie_breaks_PM, candidates_PM)
    return np.where(served_P, wanted_P, fallback_P).astype(np.int64)


def mix_assignment(
    prompt_ids: Sequence[str],
    strong: int,
    weak: int,
    strong_share: float,
    seed: int,
) -> Integers:
    """Two teachers at random, the strong one with the given share (Mix distillation has 0.2).

    The draw hangs on the prompt alone, so that a larger share only ever adds prompts to the strong
    teacher's.

    Raises:
        ConfigError: the share lies outside 0 to 1, or both are the same teacher.
    """
    if not 0 <= strong_share <= 1:
        raise ConfigError(
            f"The share of the strong teacher is {strong_share}; it must lie from 0 to 1."
        )
    if strong == weak:
        raise ConfigError("Method mix needs two teachers, and both are the same.")
    draws_P = draws(prompt_ids, ["mix"], seed, "mix")[:, 0]
    return np.where(draws_P < strong_share, strong, weak).astype(np.int64)


def compatibility_adjusted_reward(
    mean_quality_M: ArrayLike, mean_loss_M: ArrayLike, beta: float
) -> Floats:
    """CAR of each teacher's responses, shape (M,): r / (1 + beta * L) (Li et al., 2411.07133).

    r is the mean quality and L >= 0 the mean loss under the untuned student, nats per token. NaN
    where either is unknown.

    Raises:
        ConfigError: beta is negative.
        DataError: a mean quality is negative: dividing it would reward a high loss.
    """
    if not beta >= 0:
        raise ConfigError(f"CAR's beta is {beta}; it must be 0 or more.")
    quality_M = as_floats(mean_quality_M, "Mean qualities")
    loss_M = as_floats(mean_loss_M, "Mean losses")
    require_same_shape("Mean qualities and losses", quality_M, loss_M)
    if (quality_M < 0).any():
        raise DataError(
            f"CAR divides the mean quality by the loss, and a mean of {np.nanmin(quality_M):.3g} "
            "would then gain by a high loss."
        )
    return quality_M / (1 + beta * loss_M)


def best_of(values_M: ArrayLike, teachers: Sequence[str], seed: int) -> int:
    """Position of the teacher with the highest known value; equals are decided by seed and name.

    Raises:
        DataError: no value is known.
    """
    values_M = as_floats(values_M, "Values of teachers")
    if np.isnan(values_M).all():
        raise DataError(f"No value of the teachers {tuple(teachers)} is known to choose by.")
    # No prompt is meant here: the empty id stands for the whole set.
    return int(assign(values_M[None], draws([""], teachers, seed, "constant"))[0][0])


def oracle(
    rewards_PM: ArrayLike, tie_breaks_PM: ArrayLike, candidates_PM: ArrayLike | None = None
) -> Integers:
    """The teacher with the best true reward; generate-then-select on the same responses."""
    return assign(rewards_PM, tie_breaks_PM, candidates_PM)[0]
