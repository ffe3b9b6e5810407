"""Several qualities of a response as one: each scaled within the prompt, then their weighted mean.

    quality = sum over k of w_k * scaled(quality_k) / sum over k of w_k

A verdict of 0 or 1, a reward model's logit and a judge's grade share no unit, so they are scaled
before they are added. A single quality stays as it is.

Axes: K parts, P prompts, M teachers.
"""

import numpy as np
from numpy.typing import ArrayLike

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.arrays import Floats, as_floats
from persyn_ray.method.rewards import Scaling, scale_within_prompt


def weighted_quality(
    parts_KPM: ArrayLike, weights_K: ArrayLike, scaling: Scaling = "minmax"
) -> Floats:
    """The weighted mean of the scaled parts, shape (P, M); the part itself where there is one.

    A teacher's quality is NaN where any part is, and then enters no part's scale either: all parts
    are scaled over the same teachers.

    Raises:
        ConfigError: a weight is not above 0, or the scaling is unknown.
        DataError: there are not as many weights as parts, or a value is infinite.
    """
    parts_KPM = as_floats(parts_KPM, "Qualities")
    weights_K = np.asarray(weights_K, dtype=np.float64)
    if parts_KPM.ndim != 3 or weights_K.shape != parts_KPM.shape[:1] or not weights_K.size:
        raise DataError(
            f"Qualities of shape {parts_KPM.shape} and weights of shape {weights_K.shape}: they "
            "must be parts by prompts by teachers, and one weight for each part."
        )
    if not np.all((weights_K > 0) & np.isfinite(weights_K)):
        raise ConfigError(
            f"The weights of the qualities are {weights_K.tolist()}; each must be above 0."
        )
    if len(parts_KPM) == 1:
        return parts_KPM[0].copy()
    unknown_PM = np.isnan(parts_KPM).any(axis=0)
    scaled_KPM = np.stack(
        [
            scale_within_prompt(np.where(unknown_PM, np.nan, part_PM), scaling)
            for part_PM in parts_KPM
        ]
    )
    return np.einsum("k,kpm->pm", weights_K / weights_K.sum(), scaled_KPM)
