"""Mean log-likelihood against a loop, its limits, and what it must not depend on."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.errors import DataError
from persyn_ray.method.learnability import mean_log_likelihood

RESPONSES = st.lists(
    st.lists(st.floats(min_value=-30, max_value=0), min_size=1, max_size=6), min_size=1, max_size=4
)


def padded(rows: list[list[float]], before: int, after: int, fill: float):
    width = before + max(len(row) for row in rows) + after
    logprobs_BT = np.full((len(rows), width), fill)
    mask_BT = np.zeros((len(rows), width), dtype=bool)
    for row, values in enumerate(rows):
        logprobs_BT[row, before : before + len(values)] = values
        mask_BT[row, before : before + len(values)] = True
    return logprobs_BT, mask_BT


def test_worked_by_hand():
    # Two tokens of probability 1/2 and 1/8: the mean of -ln 2 and -3 ln 2 is -2 ln 2.
    logprobs_BT = [[log(0.9), log(0.5), log(0.125)], [log(0.25), log(0.1), log(0.1)]]
    mask_BT = [[0, 1, 1], [1, 0, 0]]
    np.testing.assert_allclose(
        mean_log_likelihood(logprobs_BT, mask_BT), [-2 * log(2), -2 * log(2)], rtol=1e-15
    )


@given(RESPONSES, st.integers(0, 3), st.integers(0, 3))
def test_equals_a_plain_loop_whatever_the_padding(rows, before, after):
    expected_B = [sum(row) / len(row) for row in rows]
    found_B = mean_log_likelihood(*padded(rows, before, after, fill=np.nan))
    np.testing.assert_allclose(found_B, expected_B, rtol=1e-12, atol=1e-300)


@given(RESPONSES)
def test_stays_between_the_worst_and_the_best_token(rows):
    found_B = mean_log_likelihood(*padded(rows, 1, 1, fill=0.0))
    for value, row in zip(found_B, rows, strict=True):
        assert min(row) - 1e-9 <= value <= max(row) + 1e-9


def test_batching_changes_nothing():
    rng = np.random.default_rng(0)
    logprobs_BT, mask_BT = -rng.exponential(size=(5, 7)), rng.random((5, 7)) < 0.6
    singly = [
        mean_log_likelihood(a[None], b[None])[0] for a, b in zip(logprobs_BT, mask_BT, strict=True)
    ]
    np.testing.assert_array_equal(mean_log_likelihood(logprobs_BT, mask_BT), singly)


def test_a_row_without_response_tokens_is_unknown():
    found_B = mean_log_likelihood([[-1.0, -2.0], [-1.0, -2.0]], [[0, 0], [1, 1]])
    assert np.isnan(found_B[0])
    assert found_B[1] == -1.5


def test_rounding_above_zero_is_taken_as_certainty():
    assert mean_log_likelihood([[5e-7, 0.0]], [[1, 1]])[0] == 0.0


@pytest.mark.parametrize("unusable", [np.nan, -np.inf, np.inf])
def test_values_that_are_not_finite_are_refused_inside_the_mask_only(unusable):
    assert mean_log_likelihood([[unusable, -1.0]], [[0, 1]])[0] == -1.0
    with pytest.raises(DataError, match="not finite"):
        mean_log_likelihood([[unusable, -1.0]], [[1, 1]])


def test_positive_values_are_refused_with_the_value():
    with pytest.raises(DataError, match=r"2\.5 is above 0"):
        mean_log_likelihood([[-1.0, 2.5]], [[1, 1]])


def test_shapes_must_agree():
    with pytest.raises(DataError, match="must be alike"):
        mean_log_likelihood([[-1.0, -2.0]], [[1]])
