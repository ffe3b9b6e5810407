"""Checks and means that all files of `method/` share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import DataError
from persyn_ray.method.arrays import as_floats, mean_known, mean_or_none, require_same_shape

KNOWN = st.floats(-1e6, 1e6)


@given(st.lists(KNOWN | st.just(float("nan")), max_size=20))
def test_a_mean_is_that_of_known_values(values: list[float]) -> None:
    known = [value for value in values if value == value]
    found = mean_or_none(np.array(values))
    if known:
        assert found == pytest.approx(sum(known) / len(known), rel=1e-9, abs=1e-6)
        assert found == mean_known(np.array(values))
    else:
        assert found is None
        assert np.isnan(mean_known(np.array(values)))


@pytest.mark.parametrize(
    ("values", "num"), [([np.inf], 1), ([[1, -np.inf], [np.inf, 2]], 2), ([np.nan, 1e400], 1)]
)
def test_infinities_are_counted_in_the_refusal(values: list[float], num: int) -> None:
    with pytest.raises(DataError, match=f"Costs hold {num} infinite values; use NaN"):
        as_floats(values, "Costs")


def test_unknown_values_and_whole_numbers_become_floats() -> None:
    found = as_floats([[1, None], [True, 2.5]], "Costs")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[1, np.nan], [1, 2.5]])


@pytest.mark.parametrize("other", [(2, 3), (3,), (3, 2, 1), (0, 2)])
def test_another_shape_is_refused_by_both_shapes(other: tuple[int, ...]) -> None:
    one = np.zeros((3, 2))
    require_same_shape("Rewards and costs", one, np.ones((3, 2), dtype=np.bool_))
    with pytest.raises(DataError, match="Rewards and costs must have one shape") as refused:
        require_same_shape("Rewards and costs", one, np.zeros(other))
    assert "(3, 2)" in str(refused.value)
    assert str(other) in str(refused.value)
