"""Win shares: a plain loop, the order of the logits, and who is no candidate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import expit

from persyn_ray.errors import DataError
from persyn_ray.method.win_share import win_shares

LOGITS = array_shapes(min_dims=2, max_dims=2, max_side=5).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([-3.0, 0.0, 0.5, 2.0, np.nan]))
)


def test_three_teachers_by_hand() -> None:
    first = (expit(1.0) + expit(3.0)) / 2
    np.testing.assert_allclose(
        win_shares([[2.0, 1.0, -1.0]]),
        [[first, (expit(-1.0) + expit(2.0)) / 2, (expit(-3.0) + expit(-2.0)) / 2]],
    )


@given(LOGITS)
def test_equals_a_plain_loop(logits_PM: np.ndarray) -> None:
    found_PM = win_shares(logits_PM)
    for row, found_M in zip(logits_PM, found_PM, strict=True):
        for i, mine in enumerate(row):
            wins = [expit(mine - o) for j, o in enumerate(row) if j != i and not np.isnan(o)]
            expected = np.nan if np.isnan(mine) else np.mean(wins) if wins else 0.5
            np.testing.assert_allclose(found_M[i], expected)


@given(LOGITS)
def test_orders_teachers_as_their_logits_do_and_sums_to_half_the_candidates(
    logits_PM: np.ndarray,
) -> None:
    found_PM = win_shares(logits_PM)
    for row, found_M in zip(logits_PM, found_PM, strict=True):
        known = ~np.isnan(row)
        above = np.subtract.outer(row[known], row[known])
        np.testing.assert_array_equal(
            np.sign(above), np.sign(np.round(np.subtract.outer(found_M[known], found_M[known]), 12))
        )
        assert found_M[known].sum() == pytest.approx(known.sum() / 2)


def test_who_is_no_candidate_counts_for_nobody() -> None:
    able_PM = np.array([[True, False, True]])
    found_PM = win_shares([[1.0, 9.0, 0.0]], able_PM)
    np.testing.assert_allclose(found_PM, [[expit(1.0), np.nan, expit(-1.0)]])
    np.testing.assert_array_equal(win_shares([[7.0]]), [[0.5]])
    assert np.isnan(win_shares([[1.0, 2.0]], np.zeros((1, 2), dtype=bool))).all()


def test_far_apart_is_certain_and_shapes_must_fit() -> None:
    np.testing.assert_array_equal(win_shares([[5000.0, -5000.0]]), [[1.0, 0.0]])
    with pytest.raises(DataError, match="one shape"):
        win_shares([[1.0, 2.0]], np.ones((1, 3), dtype=bool))
