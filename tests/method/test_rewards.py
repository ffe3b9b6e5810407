"""Scaling and Eq. 2: a case by hand, limits of alpha, unknowns, invariances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.stats import rankdata, zscore

from persyn_ray.errors import ConfigError, DataError, advising
from persyn_ray.method.rewards import Scaling, alpha_by_difficulty, combine, scale_within_prompt
from persyn_ray.shards.tables import CHECK_NEEDED

SCALINGS: list[Scaling] = ["minmax", "zscore", "rank", "none"]
MATRICES = array_shapes(min_dims=2, max_dims=2, max_side=6).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-20, 20).map(float))
)


def with_unknowns(values_PM, seed=0, share=0.3):
    unknown_PM = np.random.default_rng(seed).random(values_PM.shape) < share
    return np.where(unknown_PM, np.nan, values_PM)


def test_three_teachers_and_one_prompt_by_hand():
    # Quality 2, 4, 3 becomes 0, 1, 0.5; learnability -1, -3, -2.5 becomes 1, 0, 0.25.
    # At alpha 0.4: 0.4, 0.6, and 0.3 + 0.1.
    rewards_PM = combine([[2.0, 4.0, 3.0]], [[-1.0, -3.0, -2.5]], alpha=0.4)
    np.testing.assert_allclose(rewards_PM, [[0.4, 0.6, 0.4]], rtol=1e-15)


@given(MATRICES)
def test_scalings_equal_independent_writings(values_PM):
    for row in values_PM:
        if row.min() == row.max():
            continue
        expected = {
            "minmax": np.interp(row, [row.min(), row.max()], [0, 1]),
            "zscore": zscore(row),
            "rank": (rankdata(row) - 1) / (len(row) - 1),
            "none": row,
        }
        for scaling in SCALINGS:
            found = scale_within_prompt(row[None], scaling)[0]
            np.testing.assert_allclose(found, expected[scaling], atol=1e-12)


@pytest.mark.parametrize("scaling", SCALINGS)
@given(values_PM=MATRICES)
def test_unknowns_stay_unknown_and_enter_no_statistic(scaling, values_PM):
    holey_PM = with_unknowns(values_PM)
    found_PM = scale_within_prompt(holey_PM, scaling)
    np.testing.assert_array_equal(np.isnan(found_PM), np.isnan(holey_PM))
    for row, found in zip(holey_PM, found_PM, strict=True):
        known = ~np.isnan(row)
        if known.any():
            alone = scale_within_prompt(row[known][None], scaling)[0]
            np.testing.assert_allclose(found[known], alone, atol=1e-12)


@pytest.mark.parametrize("scaling", ["minmax", "zscore", "rank"])
@given(values_PM=MATRICES, shift=st.integers(-9, 9), factor=st.sampled_from([0.5, 2.0, 8.0]))
def test_unit_and_origin_of_a_signal_do_not_matter(scaling, values_PM, shift, factor):
    np.testing.assert_allclose(
        scale_within_prompt(values_PM * factor + shift, scaling),
        scale_within_prompt(values_PM, scaling),
        atol=1e-12,
    )


@pytest.mark.parametrize("scaling", SCALINGS)
@given(values_PM=MATRICES, data=st.data())
def test_order_is_kept_and_no_bit_depends_on_teacher_order(scaling, values_PM, data):
    values_PM = with_unknowns(values_PM) / 7
    found_PM = scale_within_prompt(values_PM, scaling)
    order_M = data.draw(st.permutations(range(values_PM.shape[1])))
    np.testing.assert_array_equal(
        scale_within_prompt(values_PM[:, order_M], scaling), found_PM[:, order_M]
    )
    for row, found in zip(values_PM, found_PM, strict=True):
        np.testing.assert_array_equal(row[:, None] < row, found[:, None] < found)


@pytest.mark.parametrize("scaling", ["minmax", "zscore", "rank"])
def test_without_variance_everything_is_zero(scaling):
    # The mean of three 0.1 is not exactly 0.1: a naive z-score would blow up the rounding.
    values_PM = [[0.1, 0.1, 0.1], [np.nan, 7.0, np.nan], [np.nan, np.nan, np.nan]]
    expected_PM = [[0, 0, 0], [np.nan, 0, np.nan], [np.nan, np.nan, np.nan]]
    np.testing.assert_array_equal(scale_within_prompt(values_PM, scaling), expected_PM)


def test_zscore_survives_tiny_spreads():
    np.testing.assert_allclose(scale_within_prompt([[0.0, 1e-300]], "zscore"), [[-1.0, 1.0]])


@pytest.mark.parametrize("scaling", SCALINGS)
@given(quality_PM=MATRICES)
def test_limits_of_alpha(scaling, quality_PM):
    learnability_PM = -np.abs(np.roll(quality_PM, 1, axis=1)) - 1
    by_quality_PM = combine(quality_PM, learnability_PM, 0.0, scaling)
    by_learnability_PM = combine(quality_PM, learnability_PM, 1.0, scaling)
    np.testing.assert_array_equal(by_quality_PM, scale_within_prompt(quality_PM, scaling))
    np.testing.assert_array_equal(by_learnability_PM, scale_within_prompt(learnability_PM, scaling))
    halfway_PM = combine(quality_PM, learnability_PM, 0.5, scaling)
    np.testing.assert_allclose(halfway_PM, (by_quality_PM + by_learnability_PM) / 2, atol=1e-12)


@given(
    arrays(np.float64, (5, 6), elements=st.sampled_from([0.0, 1.0])),
    arrays(np.float64, (5, 6), elements=st.floats(-20, 0)),
    st.floats(0.0, 0.499),
)
def test_any_right_answer_outranks_any_wrong_one_below_one_half(right_PM, learnability_PM, alpha):
    rewards_PM = combine(right_PM, learnability_PM, alpha)
    for right, rewards in zip(right_PM, rewards_PM, strict=True):
        if 0 < right.sum() < len(right):
            assert rewards[right == 1].min() > rewards[right == 0].max()


def test_above_one_half_an_easy_wrong_answer_can_win():
    assert np.argmax(combine([[1.0, 0.0]], [[-9.0, -1.0]], 0.6)) == 1


@pytest.mark.parametrize("outcome", [0.0, 1.0])
@pytest.mark.parametrize("scaling", ["minmax", "zscore", "rank"])
def test_all_right_or_all_wrong_is_ordered_by_learnability_alone(outcome, scaling):
    learnability_PM = -np.random.default_rng(1).exponential(size=(20, 7))
    rewards_PM = combine(np.full((20, 7), outcome), learnability_PM, 0.4, scaling)
    np.testing.assert_array_equal(rewards_PM.argsort(axis=1), learnability_PM.argsort(axis=1))


def test_a_reward_needs_every_signal_that_counts():
    quality_PM = [[1.0, np.nan, 0.0, 0.5]]
    learnability_PM = [[np.nan, -1.0, -2.0, -4.0]]
    unknown = {
        alpha: np.isnan(combine(quality_PM, learnability_PM, alpha))[0] for alpha in (0, 0.4, 1)
    }
    np.testing.assert_array_equal(unknown[0], [False, True, False, False])
    np.testing.assert_array_equal(unknown[0.4], [True, True, False, False])
    np.testing.assert_array_equal(unknown[1], [True, False, False, False])
    # Only the last two teachers have both: the scale runs between them.
    np.testing.assert_allclose(combine(quality_PM, learnability_PM, 0.4)[0, 2:], [0.4, 0.6])


def test_inputs_are_left_alone():
    quality_PM = np.array([[1.0, 2.0]])
    scale_within_prompt(quality_PM, "none")[0, 0] = 9
    combine(quality_PM, quality_PM, 0.0, "none")[0, 0] = 9
    np.testing.assert_array_equal(quality_PM, [[1.0, 2.0]])


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_alpha_outside_its_range_names_the_setting(alpha):
    with (
        pytest.raises(ConfigError, match=r"scoring\.alpha"),
        advising("See scoring.alpha.", ConfigError),
    ):
        combine([[1.0]], [[-1.0]], alpha)


def test_other_misuse_is_refused():
    with (
        pytest.raises(ConfigError, match=r"scoring\.scaling"),
        advising("See scoring.scaling.", ConfigError),
    ):
        scale_within_prompt([[1.0]], "softmax")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="one shape"):
        combine([[1.0, 2.0]], [[-1.0]], 0.4)
    with pytest.raises(DataError, match="infinite"):
        combine([[1.0]], [[-np.inf]], 0.4)


def test_an_alpha_a_prompt_is_each_prompt_by_itself() -> None:
    rng = np.random.default_rng(0)
    quality_PM = rng.integers(0, 2, (6, 4)).astype(float)
    learnability_PM, alpha_P = -rng.random((6, 4)), np.array([0.0, 0.1, 0.4, 0.5, 0.9, 1.0])
    found_PM = combine(quality_PM, learnability_PM, alpha_P)
    for row, alpha in enumerate(alpha_P):
        alone = combine(quality_PM[row : row + 1], learnability_PM[row : row + 1], float(alpha))
        np.testing.assert_allclose(found_PM[row : row + 1], alone, atol=1e-15)
    with pytest.raises(ConfigError, match="alpha"):
        combine(quality_PM, learnability_PM, np.full(6, 1.5))


def test_alpha_by_difficulty_goes_from_hard_to_easy() -> None:
    quality_PM = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, np.nan, np.nan], [np.nan] * 4])
    np.testing.assert_allclose(alpha_by_difficulty(quality_PM, 0.2, 0.6), [0.2, 0.6, 0.4, 0.4])
    with pytest.raises(DataError, match="alpha_by_difficulty"), advising(CHECK_NEEDED, DataError):
        alpha_by_difficulty(np.array([[0.3, 1.0]]), 0.2, 0.6)
