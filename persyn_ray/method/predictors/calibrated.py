"""Puts a predictor on the scale of log-odds: scores of prompts left out in, its temperature out.

    P(teacher i beats j) = sigmoid((score_i - score_j) / temperature)                    (Eq. 3)

A router's logits are log-odds, and whatever reads them (win shares under limits, margins,
probabilities) takes them as such; predictors give rewards. The temperature is the one with the
least loss over the preferences of prompts that were left out, so a predictor that knows little says
so. Where each claim held, any colder one were better: the mean claim then gets the odds of as many
wins and no loss.

Axes: N prompts of the parallel set, M teachers.
"""

from dataclasses import replace
from math import isnan, log

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.method.bradley_terry import MIN_TEMPERATURE, fit_temperature, pair_outcomes
from persyn_ray.method.predictors.fit import Predictor


def calibrated(predictor: Predictor, left_out_NM: ArrayLike, rewards_NM: ArrayLike) -> Predictor:
    """The same predictor with its temperature.

    Args:
        left_out_NM: scores of each prompt by predictors of this kind that have not seen it.
    """
    return replace(predictor, temperature=temperature_of(left_out_NM, rewards_NM))


def temperature_of(left_out_NM: ArrayLike, rewards_NM: ArrayLike) -> float:
    """Reward units that make odds of e to 1; 1 where no preference is known.

    Raises:
        DataError: shapes differ or a value is infinite.
    """
    found = fit_temperature(left_out_NM, rewards_NM)
    if isnan(found):
        return 1.0
    if found > MIN_TEMPERATURE:
        return found
    margins, _, _ = pair_outcomes(left_out_NM, rewards_NM)
    return float(np.mean(margins)) / log(len(margins) + 1)
