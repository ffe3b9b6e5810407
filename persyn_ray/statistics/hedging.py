"""Hedging curve: reward when the router's unsure prompts go to two teachers and the better stays.

P prompts, M teachers, R ranks of teachers by logit (rank 0 is the router's choice), S shares.

    P(first beats second) = sigma(o_1 - o_2)                                              (Eq. 3)
    hedged where            sigma(o_1 - o_2) <= 1/2 + band

The curve goes on to generate-then-select: all second teachers in order of closeness, then all third
ones in order of their closeness to the first, and so on until every candidate has written. More
responses never lower the best of them, so the curve never falls. Its control asks as many teachers
of the same rank on prompts drawn evenly; its mean is known and needs no draws.

Rewards are those of written responses. Nothing here decides whether an extra response is worth what
it costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.allocation import NOBODY, assign
from persyn_ray.method.arrays import Booleans, Floats, Integers, as_floats, require_same_shape


def hedge(
    logits_PM: ArrayLike,
    candidates_PM: ArrayLike | None,
    band: float,
    max_extra: int | None,
    tie_breaks_PM: ArrayLike,
) -> tuple[Integers, Integers]:
    """First and second teacher of each prompt, shape (P,) each; -1 is nobody.

    The first is the router's choice, the second its runner-up where the chance that the first beats
    it is at most 0.5 + band: nowhere for a band of 0 but at equal logits, everywhere for 0.5. With
    `max_extra`, only so many prompts have a second: the closest, draws deciding among equals.

    Raises:
        ConfigError: band is not from 0 to 0.5, or max_extra is below 0.
        DataError: shapes differ or a logit is infinite.
    """
    if not 0 <= band <= 0.5:
        raise ConfigError(f"band is {band:g}; it must be from 0 (never hedge) to 0.5 (always).")
    if max_extra is not None and max_extra < 0:
        raise ConfigError(f"max_extra is {max_extra}; it must be 0 or more prompts, or null.")
    teacher_PR, behind_PR, draw_PR = _ranked(logits_PM, tie_breaks_PM, candidates_PM)
    if teacher_PR.shape[1] < 2:
        return teacher_PR[:, 0], np.full(len(teacher_PR), NOBODY, dtype=np.int64)
    widest = np.inf if band == 0.5 else log((0.5 + band) / (0.5 - band))
    is_inside_P = (teacher_PR[:, 1] != NOBODY) & (behind_PR[:, 1] <= widest)
    closest = np.lexsort((draw_PR[:, 1], behind_PR[:, 1]))
    hedged = closest[is_inside_P[closest]][:max_extra]
    second_P = np.full(len(teacher_PR), NOBODY, dtype=np.int64)
    second_P[hedged] = teacher_PR[hedged, 1]
    return teacher_PR[:, 0], second_P


def keep_better(
    first_P: ArrayLike, second_P: ArrayLike, rewards_PM: ArrayLike, tie_breaks_PM: ArrayLike
) -> Integers:
    """Whose response is kept, shape (P,): the better of the two by reward, draws among equals.

    Where nobody was asked second, the first. An unknown reward (NaN) loses to a known one; where
    neither is known the first is kept, as without a hedge.

    Raises:
        DataError: shapes differ or a reward is infinite.
    """
    first_P, second_P = np.asarray(first_P, np.int64), np.asarray(second_P, np.int64)
    rewards_PM = as_floats(rewards_PM, "Rewards")
    if not first_P.shape == second_P.shape == rewards_PM.shape[:1]:
        raise DataError(
            f"First {first_P.shape} and second teachers {second_P.shape} do not fit rewards "
            f"{rewards_PM.shape}."
        )
    wrote_PM = np.zeros(rewards_PM.shape, dtype=np.bool_)
    for teacher_P in (first_P, second_P):
        asked = np.flatnonzero(teacher_P != NOBODY)
        wrote_PM[asked, teacher_P[asked]] = True
    better_P, _ = assign(rewards_PM, tie_breaks_PM, wrote_PM)
    return np.where((second_P == NOBODY) | (better_P == NOBODY), first_P, better_P)


@dataclass(frozen=True, eq=False)
class HedgingCurve:
    """Mean kept reward as responses are added; one value for each share asked for."""

    extra_S: Floats  # responses beyond one a prompt, on average
    reward_S: Floats
    random_S: Floats  # of hedging as many prompts drawn evenly, in the mean over draws
    num_prompts: int  # on which the routed reward is known


def hedging_curve(
    logits_PM: ArrayLike,
    rewards_PM: ArrayLike,
    extra_shares: Sequence[float],
    tie_breaks_PM: ArrayLike,
    candidates_PM: ArrayLike | None = None,
) -> HedgingCurve:
    """Mean kept reward against extra responses a prompt: 0 is routing, M - 1 is the oracle.

    Prompts whose routed reward is unknown are left out. Another unknown reward is a response that
    was paid for and cannot be kept. Shares are brought to whole responses, and down to as many as
    there are candidates for.

    Raises:
        ConfigError: a share is below 0.
        DataError: shapes differ, a value is infinite, or no routed reward is known.
    """
    if any(not share >= 0 for share in extra_shares):
        raise ConfigError(
            f"Extra shares {list(extra_shares)} must be 0 or more responses a prompt."
        )
    rewards_PM = as_floats(rewards_PM, "Rewards")
    teacher_PR, behind_PR, draw_PR = _ranked(logits_PM, tie_breaks_PM, candidates_PM)
    require_same_shape("Logits and rewards", teacher_PR, rewards_PM)
    is_asked_PR = teacher_PR != NOBODY
    reward_PR = np.take_along_axis(rewards_PM, np.maximum(teacher_PR, 0), axis=1)
    reward_PR = np.where(is_asked_PR, reward_PR, np.nan)
    known = ~np.isnan(reward_PR[:, 0])
    num_prompts = int(known.sum())
    if not num_prompts:
        raise DataError(
            f"No routed reward is known: on all {len(known)} prompts the response of the routed "
            "teacher was cut, failed or has no score."
        )
    kept_PR = np.fmax.accumulate(reward_PR[known], axis=1)
    gains, random_gains = _gains(kept_PR, is_asked_PR[known], behind_PR[known], draw_PR[known])
    num_extra = np.round(np.asarray(extra_shares) * num_prompts).astype(np.int64)
    num_extra_S = np.minimum(num_extra, len(gains) - 1)
    routed = kept_PR[:, 0].mean()
    return HedgingCurve(
        extra_S=num_extra_S / num_prompts,
        reward_S=routed + gains[num_extra_S] / num_prompts,
        random_S=routed + random_gains[num_extra_S] / num_prompts,
        num_prompts=num_prompts,
    )


def _gains(
    kept_PR: Floats, is_asked_PR: Booleans, behind_PR: Floats, draw_PR: Floats
) -> tuple[Floats, Floats]:
    """Summed gain after each number of extra responses, from 0: closest first, and at random."""
    closest, at_random = [np.zeros(1)], [np.zeros(1)]
    for rank in range(1, kept_PR.shape[1]):
        order = np.lexsort((draw_PR[:, rank], behind_PR[:, rank]))
        order = order[is_asked_PR[order, rank]]
        gains = kept_PR[order, rank] - kept_PR[order, rank - 1]
        closest.append(gains)
        at_random.append(np.full(len(gains), gains.mean() if len(gains) else 0.0))
    return np.cumsum(np.concatenate(closest)), np.cumsum(np.concatenate(at_random))


def _ranked(
    logits_PM: ArrayLike, tie_breaks_PM: ArrayLike, candidates_PM: ArrayLike | None
) -> tuple[Integers, Floats, Floats]:
    """Candidates from the greatest logit down, how far behind the first, and their draws; (P, R).

    -1 and inf where there are no more candidates.
    """
    logits_PM = as_floats(logits_PM, "Logits")
    tie_breaks_PM = as_floats(tie_breaks_PM, "Tie breaks")
    require_same_shape("Logits and tie breaks", logits_PM, tie_breaks_PM)
    able_PM = ~np.isnan(logits_PM)
    if candidates_PM is not None:
        candidates_PM = np.asarray(candidates_PM, dtype=np.bool_)
        require_same_shape("Logits and candidates", logits_PM, candidates_PM)
        able_PM &= candidates_PM
    open_PM = np.where(able_PM, logits_PM, -np.inf)
    teacher_PR = np.lexsort((-tie_breaks_PM, -open_PM), axis=1)
    sorted_PR = np.take_along_axis(open_PM, teacher_PR, axis=1)
    is_able_PR = np.isfinite(sorted_PR)
    first_P1 = np.where(is_able_PR[:, :1], sorted_PR[:, :1], 0.0)
    return (
        np.where(is_able_PR, teacher_PR, NOBODY),
        first_P1 - sorted_PR,
        np.take_along_axis(tie_breaks_PM, teacher_PR, axis=1),
    )
