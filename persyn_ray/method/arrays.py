"""What every file of `method/` shares: array types and two checks.

Axes: P prompts, M teachers, B batch, T tokens, K tasks, A values of alpha. Numbers are float64. NaN
means unknown; it stays NaN, and whoever reports a mean also reports how many values it rests on.
Infinities are refused, because they would turn into NaN halfway and look like an honest unknown.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persyn_ray.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


def as_floats(values: ArrayLike, what: str) -> Floats:
    """`values` as float64.

    Raises:
        DataError: a value is infinite.
    """
    floats = np.asarray(values, dtype=np.float64)
    num_infinite = int(np.isinf(floats).sum())
    if num_infinite:
        raise DataError(f"{what} hold {num_infinite} infinite values; use NaN for an unknown one.")
    return floats


def require_same_shape(what: str, *arrays: Floats | Integers | Booleans) -> None:
    """Refuse arrays that do not describe the same prompts and teachers.

    Raises:
        DataError: two shapes differ.
    """
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1:
        raise DataError(f"{what} must have one shape, prompts by teachers; found {shapes}.")


def mean_known(values: Floats) -> float:
    """Mean of the values that are not NaN; NaN when there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def mean_or_none(values: Floats) -> float | None:
    """`mean_known` as JSON has it: None when there are none."""
    mean = mean_known(values)
    return None if np.isnan(mean) else mean
