"""Numbers for JSON: floats in, floats or None out, as JSON knows neither NaN nor infinity."""

import math
from typing import Any


def number(value: Any) -> float | None:
    """A number, rounded to seven digits as single precision holds them; None if unknown."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{float(value):.7g}")
